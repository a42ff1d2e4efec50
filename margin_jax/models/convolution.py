"""3x3 convolution of stride 2, in two formulations with one parameter layout (height, width, in, out).

`lax` is XLA's own convolution. `patches` gathers the nine taps by strided slices and multiplies once: XLA's CPU
convolution becomes an order of magnitude slower inside a compiled loop or under vmap, this one does not.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from margin_jax.models.initialisers import bias_init, fan_in, kernel_init

FORMULATIONS = ("auto", "patches", "lax")
SIZE, STRIDE = 3, 2


def choose_formulation(name: str, backend: str, mapped: bool) -> str:
    """Resolves "auto": `patches` on CPU and for mapped networks everywhere, `lax` for one network on an accelerator.

    Args:
      name: one of FORMULATIONS.
      backend: `jax.default_backend()`.
      mapped: whether the network runs under vmap over parameters, which makes `lax` a grouped convolution.

    Returns:
      "patches" or "lax".
    """
    if name not in FORMULATIONS:
        raise ValueError(f"expected a convolution of {FORMULATIONS}, got {name!r}")
    if name != "auto":
        return name
    return "patches" if mapped or backend == "cpu" else "lax"


def patches(x: jax.Array) -> jax.Array:
    """Windows 3x3 of stride 2 with one zero pixel around the image.

    Args:
      x: (B, H, W, C).

    Returns:
      (B, ceil(H/2), ceil(W/2), 9 C), taps in row-major order, channels innermost.
    """
    height, width = (-(-size // STRIDE) for size in x.shape[1:3])
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [lax.slice(padded, (0, i, j, 0),
                      (x.shape[0], i + STRIDE * (height - 1) + 1, j + STRIDE * (width - 1) + 1, x.shape[3]),
                      (1, STRIDE, STRIDE, 1))
            for i in range(SIZE) for j in range(SIZE)]
    return jnp.concatenate(taps, axis=-1)


@jax.custom_vjp
def _convolve_patches(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The product, with a backward pass that XLA's CPU compiler handles well; no forward-mode derivative."""
    return patches(x) @ kernel.reshape(-1, kernel.shape[-1])


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve_patches(x, kernel), (x, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    # Autodiff writes the kernel's gradient as gradient^T patches, transposed afterwards, which is slow on CPU: written
    # as patches^T gradient, an epoch without BatchNorm takes about half the time. Gathering the patches anew costs no
    # more than storing them.
    x, kernel = saved
    taps, pull = jax.vjp(patches, x)
    rows = (0, 1, 2)
    d_kernel = lax.dot_general(taps, gradient, ((rows, rows), ((), ())))
    d_taps = gradient @ kernel.reshape(-1, kernel.shape[-1]).T
    return pull(d_taps)[0], d_kernel.reshape(kernel.shape)


_convolve_patches.defvjp(_forward, _backward)


def convolve(x: jax.Array, kernel: jax.Array, formulation: str) -> jax.Array:
    """Convolution 3x3, stride 2, one zero pixel of padding on every side, as PyTorch's Conv2d(3, stride=2, padding=1).

    Args:
      x: (B, H, W, C) float.
      kernel: (3, 3, C, O) float.
      formulation: "patches" or "lax"; equal to float rounding. Only "lax" has forward-mode derivatives (`jax.jvp`).

    Returns:
      (B, ceil(H/2), ceil(W/2), O) float.
    """
    if formulation == "patches":
        return _convolve_patches(x, kernel)
    return lax.conv_general_dilated(x, kernel, (STRIDE, STRIDE), ((1, 1), (1, 1)),
                                    dimension_numbers=("NHWC", "HWIO", "NHWC"))


class Conv(nn.Module):
    """A 3x3 stride-2 convolution layer with `features` output channels."""

    features: int
    initialiser: str
    init_std: float
    use_bias: bool
    formulation: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, C) to (B, ceil(H/2), ceil(W/2), features)."""
        shape = (SIZE, SIZE, x.shape[-1], self.features)
        out = convolve(x, self.param("kernel", kernel_init(self.initialiser, self.init_std), shape), self.formulation)
        if self.use_bias:
            out += self.param("bias", bias_init(self.initialiser, fan_in(shape)), (self.features,))[None, None, None]
        return out
