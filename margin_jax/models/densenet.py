"""DenseNet-BC: densely connected convolutions with bottlenecks and compression (Huang et al. 2017, sections 3 and 4).

Every layer of a dense block reads the outputs of all layers before it. "B" is the bottleneck, a 1x1 convolution before
each 3x3 one; "C" is the compression, a 1x1 convolution between two blocks that keeps a share of the channels.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from margin_jax.errors import InputError
from margin_jax.models.convolution import Conv
from margin_jax.models.layers import FEATURES, MaskedBatchNorm, bias_init, kernel_init

BOTTLENECK = 4  # a bottleneck has this many times the growth


def stem_channels(stem: int, growth: int) -> int:
    """The number of channels of the first convolution.

    Args:
      stem: their number; 0: twice the growth.
      growth: channels that a layer of a dense block adds.
    """
    return stem or 2 * growth


def transition_channels(channels: int, reduction: float) -> int:
    """The number of channels after a transition, floor(reduction * channels), at least 1.

    Args:
      channels: that reach the transition.
      reduction: share of them that it keeps, in (0, 1].

    Raises:
      InputError: none would be left.
    """
    kept = math.floor(round(reduction * channels, 9))  # rounded first: in floats 0.29 of 100 is less than 29
    if kept < 1:
        raise InputError(f"config: model.reduction {reduction} leaves no channel of the {channels} that reach a "
                         "transition; enlarge it, model.stem or model.growth")
    return kept


def average_pool(x: jax.Array) -> jax.Array:
    """Means over windows 2x2 of stride 2; at an odd edge over those pixels of the window that exist.

    Args:
      x: (B, H, W, C) float.

    Returns:
      (B, ceil(H/2), ceil(W/2), C) float, for 1x1 the input itself.
    """
    count, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    sums = padded.reshape(count, -(-height // 2), 2, -(-width // 2), 2, channels).sum((2, 4))
    down, across = (np.minimum(2, size - np.arange(0, size, 2)) for size in (height, width))
    return sums / jnp.asarray(np.outer(down, across), x.dtype)[None, :, :, None]


class NormReluConv(nn.Module):
    """BatchNorm, ReLU and a bias-free convolution of stride 1: the composite function of sections 3 and 4."""

    features: int
    size: int
    initialiser: str
    init_std: float
    formulation: str
    rows_axis: str | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, weights: jax.Array) -> jax.Array:
        """Maps (B, H, W, C) to (B, H, W, features); `train` and `weights` as of `DenseNetBC`."""
        x = nn.relu(MaskedBatchNorm(self.rows_axis, name="norm")(x, train, weights))
        return Conv(self.features, self.initialiser, self.init_std, False, self.formulation, self.size, 1,
                    name="conv")(x)


class DenseNetBC(nn.Module):
    """Dense blocks of bottleneck layers, with compressing transitions between them, and one dense layer.

    A layer of a dense block is BatchNorm-ReLU-1x1 to 4 growth channels, BatchNorm-ReLU-3x3 to growth channels, appended
    to the layer's input; a transition is BatchNorm-ReLU-1x1 to a share of the channels and 2x2 average pooling of
    stride 2. Before the blocks there is a 3x3 convolution of stride 1; after them BatchNorm, ReLU and the mean over all
    pixels. Every halving rounds up (`average_pool`), so that images may have any size. With blocks (6, 12, 12, 16),
    growth 12, three image channels and 10 classes it has 649,968 parameters.

    Attributes:
      num_classes: of the logits.
      blocks: layers of each dense block.
      growth: channels that a layer adds.
      reduction: share of the channels that a transition keeps, in (0, 1], rounded down.
      stem: channels of the first convolution; 0: twice the growth.
      biases: whether the dense layer has them; convolutions have none.
      initialiser: see `layers.kernel_init`.
      init_std: for the initialiser "normal".
      conv: one of `convolution.FORMULATIONS`.
      rows_axis: name of the device axis over which a step's rows are shared out, if they are.
    """

    num_classes: int
    blocks: tuple[int, ...] = (6, 12, 12, 16)
    growth: int = 12
    reduction: float = 0.5
    stem: int = 0
    biases: bool = False
    initialiser: str = "pytorch"
    init_std: float = 0.03
    conv: str = "tiled"
    rows_axis: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, weights: jax.Array) -> jax.Array:
        """Logits of a batch.

        Args:
          x: (B, H, W, C) float, standardised images.
          train: whether BatchNorm uses (and updates) the statistics of this batch.
          weights: (B,) float, 1 for rows that count and 0 for padding.

        Returns:
          (B, num_classes) float logits.

        Raises:
          InputError: a transition would keep no channel.
        """
        layer = functools.partial(NormReluConv, initialiser=self.initialiser, init_std=self.init_std,
                                  formulation=self.conv, rows_axis=self.rows_axis)
        x = Conv(stem_channels(self.stem, self.growth), self.initialiser, self.init_std, False, self.conv, stride=1,
                 name="stem_conv")(x)
        for block, layers in enumerate(self.blocks):
            if block:
                kept = transition_channels(x.shape[-1], self.reduction)
                x = average_pool(layer(kept, 1, name=f"transition_{block - 1}")(x, train, weights))
            for index in range(layers):
                name = f"block_{block}_layer_{index}"
                new = layer(BOTTLENECK * self.growth, 1, name=f"{name}_bottleneck")(x, train, weights)
                new = layer(self.growth, 3, name=f"{name}_growth")(new, train, weights)
                x = jnp.concatenate([x, new], axis=-1)
        x = nn.relu(MaskedBatchNorm(self.rows_axis, name="norm")(x, train, weights)).mean((1, 2))
        self.sow("intermediates", FEATURES, x)
        return nn.Dense(self.num_classes, self.biases, name="dense",
                        kernel_init=kernel_init(self.initialiser, self.init_std),
                        bias_init=bias_init(self.initialiser, x.shape[-1]))(x)
