"""Convolutions 3x3 of stride 1 or 2 and 1x1, in three formulations with one parameter layout (height, width, in, out).

`lax` is XLA's own convolution. `patches` gathers the nine taps by strided slices and multiplies once: XLA's CPU
convolution becomes an order of magnitude slower inside a compiled loop or under vmap, this one does not. `tiled` is
`patches` on a few rows at a time where there are many, so that the taps stay in a core's cache. Which one runs where:
`margin_jax.tuning`. A 1x1 convolution is one matmul in all of them.
"""

import jax
from flax import linen as nn
from jax import lax

from margin_jax.models.initialisers import bias_init, fan_in, kernel_init
from margin_jax.models.patch_convolution import convolve_patches
from margin_jax.models.patches import SIZE

FORMULATIONS = ("patches", "tiled", "lax")
SHAPES = ((1, 1), (3, 1), (3, 2))  # size and stride


def convolve(x: jax.Array, kernel: jax.Array, formulation: str, stride: int = 2) -> jax.Array:
    """Convolution with (size - 1)/2 zero pixels on every side, as PyTorch's Conv2d(3, stride=2, padding=1).

    Args:
      x: (B, H, W, C) float.
      kernel: (size, size, C, O) float.
      formulation: one of FORMULATIONS; equal to float rounding. Only "lax" has forward-mode derivatives (`jax.jvp`),
        but for size 1, where all have them.
      stride: 1 or 2; size and stride are one of SHAPES.

    Returns:
      (B, ceil(H/stride), ceil(W/stride), O) float.

    Raises:
      ValueError: unknown formulation, or another size or stride.
    """
    if formulation not in FORMULATIONS:
        raise ValueError(f"expected a convolution of {FORMULATIONS}, got {formulation!r}")
    if kernel.shape[0] != kernel.shape[1] or (kernel.shape[0], stride) not in SHAPES:
        raise ValueError(f"expected a convolution of size and stride {SHAPES}, got {kernel.shape[:2]} and {stride}")
    if kernel.shape[0] == 1:
        return x @ kernel[0, 0]
    if formulation != "lax":
        return convolve_patches(x, kernel, stride, formulation == "tiled")
    return lax.conv_general_dilated(x, kernel, (stride, stride), ((1, 1), (1, 1)),
                                    dimension_numbers=("NHWC", "HWIO", "NHWC"))


class Conv(nn.Module):
    """A convolution layer with `features` output channels."""

    features: int
    initialiser: str
    init_std: float
    use_bias: bool
    formulation: str
    size: int = SIZE
    stride: int = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, C) to (B, ceil(H/stride), ceil(W/stride), features)."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", kernel_init(self.initialiser, self.init_std), shape)
        out = convolve(x, kernel, self.formulation, self.stride)
        if self.use_bias:
            out += self.param("bias", bias_init(self.initialiser, fan_in(shape)), (self.features,))[None, None, None]
        return out
