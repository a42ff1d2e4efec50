"""The paper's network: 3x3 stride-2 convolutions with ReLU and one dense layer (section 3)."""

import jax
from flax import linen as nn

from margin_jax.models.batch_norm import MaskedBatchNorm
from margin_jax.models.convolution import Conv
from margin_jax.models.initialisers import bias_init, kernel_init
from margin_jax.network import FEATURES


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
