"""The paper's network: 3x3 stride-2 convolutions with ReLU and one dense layer (section 3).

A ConvNet as the chain of affine maps that it applies to one image, with BatchNorm folded into its convolutions.

Between the maps stand ReLUs. Measures that speak of the function, such as products of operator norms, are taken on this
chain: the kernels of a network with BatchNorm can be rescaled at will without changing what it computes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from margin_jax.models.convolution import Conv, convolve, out_size
from margin_jax.models.layers import EPSILON, FEATURES, MaskedBatchNorm, bias_init, kernel_init


class ConvNet(nn.Module):
    """Convolutions 3x3 stride 2, each followed by optional BatchNorm and ReLU, then one dense layer.

    With widths (16, 32, 64, 128), 32x32x3 images and 10 classes it has 102,320 parameters. The paper gives 273,546 for
    the same description; the difference cannot be traced, and widths are configuration.

    Without biases and BatchNorm the network is positively homogeneous: f(aW; x) = a^K f(W; x) for K = len(widths) + 1.
    """

    num_classes: int
    widths: tuple[int, ...] = (16, 32, 64, 128)
    batch_norm: bool = False
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
        """
        for layer, width in enumerate(self.widths):
            x = Conv(width, self.initialiser, self.init_std, self.biases, self.conv, name=f"conv_{layer}")(x)
            if self.batch_norm:
                x = MaskedBatchNorm(self.rows_axis, name=f"norm_{layer}")(x, train, weights)
            x = nn.relu(x)
        x = x.reshape(x.shape[0], -1)
        self.sow("intermediates", FEATURES, x)
        return nn.Dense(self.num_classes, self.biases, name="dense",
                        kernel_init=kernel_init(self.initialiser, self.init_std),
                        bias_init=bias_init(self.initialiser, x.shape[-1]))(x)


class Layer(NamedTuple):
    """A weight layer on the input that it sees.

    Attributes:
      kernel: (size, size, C, O) float of a convolution, size and stride as of `convolution.convolve`, or (in, out)
        float of a dense layer.
      bias: (O,) or (out,) float, or None.
      shape: of one input: (H, W, C) or (in,).
      stride: of a convolution; 1 for a dense layer.
    """

    kernel: jax.Array
    bias: jax.Array | None
    shape: tuple[int, ...]
    stride: int = 1


def apply_linear(layer: Layer, x: jax.Array) -> jax.Array:
    """The linear part of a layer, without its bias: (B, *shape) to (B, ceil(H/stride), ceil(W/stride), O) or (B, out).

    The padding is that of the network: (size - 1)/2 zero pixels on every side.
    """
    return x @ layer.kernel if layer.kernel.ndim == 2 else convolve(x, layer.kernel, "patches", layer.stride)


def _names(params: Any) -> list[str]:
    # In the order in which they are applied, not that of the alphabet, which has conv_10 before conv_2.
    count = sum(str(name).startswith("conv_") for name in params)
    return [f"conv_{layer}" for layer in range(count)]


def is_convnet(params: Any) -> bool:
    """Whether these are the parameters of a `ConvNet`, with or without BatchNorm and biases, judged by their names."""
    if not isinstance(params, Mapping):
        return False
    convs = _names(params)
    normed = [name.replace("conv", "norm") for name in convs]
    return set(params) in ({*convs, "dense"}, {*convs, *normed, "dense"})


def fold_batch_norm(params: Any, batch_stats: Any = None) -> Any:
    """The parameters of a ConvNet without BatchNorm that computes the same logits as this one in evaluation mode.

    BatchNorm after a convolution, with running mean m and variance v, maps channel o to s_o (x_o - m_o) + b_o for
    s = scale / sqrt(v + eps); the convolution of kernel s_o W_o and bias s_o (bias_o - m_o) + b_o does both.
    Jiang et al. 2020 take their measures on networks folded in this way.

    Args:
      params: of a ConvNet.
      batch_stats: its running statistics; None for those of a fresh network, mean 0 and variance 1.

    Returns:
      Parameters for the same ConvNet with `batch_norm=False, biases=True`; `params` itself if it has no BatchNorm.

    Raises:
      ValueError: parameters of another architecture.
    """
    if not is_convnet(params):
        raise ValueError(f"expected the parameters of a ConvNet, got {sorted(map(str, params))}")
    if "norm_0" not in params:
        return params
    folded = {}
    for name in _names(params):
        layer, norm = params[name], params[name.replace("conv", "norm")]
        fresh = {"mean": jnp.zeros_like(norm["bias"]), "var": jnp.ones_like(norm["scale"])}
        stats = fresh if batch_stats is None else batch_stats[name.replace("conv", "norm")]
        factor = norm["scale"] / jnp.sqrt(stats["var"] + EPSILON)
        folded[name] = {"kernel": layer["kernel"] * factor[None, None, None],
                        "bias": (layer.get("bias", 0) - stats["mean"]) * factor + norm["bias"]}
    dense = params["dense"]
    return folded | {"dense": {"bias": jnp.zeros_like(dense["kernel"][0])} | dict(dense)}


def convnet_layers(params: Any, image_shape: tuple[int, int, int], stride: int = 2) -> dict[str, Layer]:
    """The weight layers of a ConvNet without BatchNorm, each with the shape of its input.

    Args:
      params: of a ConvNet; with BatchNorm fold it first (`fold_batch_norm`).
      image_shape: (H, W, C).
      stride: of its convolutions.

    Returns:
      Layers in the order in which they are applied, by the path of the kernel in the pytree, as `norms.layer_norms`.

    Raises:
      ValueError: another architecture, BatchNorm, or images that the layers do not fit.
    """
    if not is_convnet(params) or "norm_0" in params:
        raise ValueError(f"expected the parameters of a ConvNet without BatchNorm, got {sorted(map(str, params))}")
    layers, shape = {}, tuple(image_shape)
    for name in (*_names(params), "dense"):
        kernel = jnp.asarray(params[name]["kernel"])
        if name == "dense":
            shape = (int(np.prod(shape)),)
        if kernel.shape[-2] != shape[-1]:
            raise ValueError(f"images of shape {tuple(image_shape)} do not fit: {name} takes {kernel.shape[-2]} "
                             f"channels and is given {shape[-1]}")
        layers[f"{name}/kernel"] = Layer(kernel, params[name].get("bias"), shape, 1 if name == "dense" else stride)
        if name != "dense":
            shape = (out_size(shape[0], stride), out_size(shape[1], stride), kernel.shape[-1])
    return layers
