"""3x3 convolution of stride 2, in three formulations with one parameter layout (height, width, in, out).

`lax` is XLA's own convolution. `patches` gathers the nine taps by strided slices and multiplies once: XLA's CPU
convolution becomes an order of magnitude slower inside a compiled loop or under vmap, this one does not. `tiled` is
`patches` on a few rows at a time where there are many, so that the taps stay in a core's cache. Which one runs where:
`margin_jax.tuning`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from margin_jax.models.initialisers import bias_init, fan_in, kernel_init

FORMULATIONS = ("patches", "tiled", "lax")
SIZE, STRIDE = 3, 2
TILE, TILED_FROM = 64, 256  # rows of a tile, and the number of rows above which there are tiles


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


def _over_tiles(count: int, part: Callable[[jax.Array, jax.Array, Any], Any], carry: Any) -> Any:
    """Folds part(start, new (TILE,) boolean, carry) over `count` > TILE rows, TILE at a time.

    The last tile starts at count - TILE; those of its rows that the tile before had already are not `new`. (A smaller
    last tile after the loop makes XLA copy the whole result.)
    """

    def body(tile: jax.Array, carry: Any) -> Any:
        start = jnp.minimum(tile * TILE, count - TILE)
        return part(start, start + jnp.arange(TILE) >= tile * TILE, carry)

    return lax.fori_loop(0, -(-count // TILE), body, carry)


def _put(whole: jax.Array, part: jax.Array, start: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice_in_dim(whole, part, start, 0)


def _tile(whole: jax.Array, start: jax.Array) -> jax.Array:
    return lax.dynamic_slice_in_dim(whole, start, TILE)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve_patches(x: jax.Array, kernel: jax.Array, tiled: bool) -> jax.Array:
    """The product, with a backward pass that XLA's CPU compiler handles well; no forward-mode derivative."""
    matrix, count = kernel.reshape(-1, kernel.shape[-1]), x.shape[0]
    if not tiled or count <= TILED_FROM:
        return patches(x) @ matrix

    def part(start: jax.Array, new: jax.Array, out: jax.Array) -> jax.Array:
        del new  # computed again, with the same result
        return _put(out, patches(_tile(x, start)) @ matrix, start)

    height, width = (-(-size // STRIDE) for size in x.shape[1:3])
    return _over_tiles(count, part, lax.empty((count, height, width, kernel.shape[-1]), x.dtype))


def _forward(x: jax.Array, kernel: jax.Array, tiled: bool) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve_patches(x, kernel, tiled), (x, kernel)


def _input_gradient(x: jax.Array, matrix: jax.Array, gradient: jax.Array) -> jax.Array:
    return jax.vjp(patches, x)[1](gradient @ matrix.T)[0]


def _kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
    # Autodiff writes the kernel's gradient as gradient^T patches, transposed afterwards, which is slow on CPU: written
    # as patches^T gradient, an epoch without BatchNorm takes about half the time. Gathering the patches anew costs no
    # more than storing them.
    rows = (0, 1, 2)
    return lax.dot_general(patches(x), gradient, ((rows, rows), ((), ())))


def _backward(tiled: bool, saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    matrix, count = kernel.reshape(-1, kernel.shape[-1]), x.shape[0]
    if not tiled or count <= TILED_FROM:
        return _input_gradient(x, matrix, gradient), _kernel_gradient(x, gradient).reshape(kernel.shape)

    def part(start: jax.Array, new: jax.Array, done: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        rows, slope = _tile(x, start), _tile(gradient, start)
        d_matrix = _kernel_gradient(rows, jnp.where(new[:, None, None, None], slope, 0))
        return _put(done[0], _input_gradient(rows, matrix, slope), start), done[1] + d_matrix

    d_x, d_matrix = _over_tiles(count, part, (lax.empty(x.shape, x.dtype), jnp.zeros_like(matrix)))
    return d_x, d_matrix.reshape(kernel.shape)


_convolve_patches.defvjp(_forward, _backward)


def convolve(x: jax.Array, kernel: jax.Array, formulation: str) -> jax.Array:
    """Convolution 3x3, stride 2, one zero pixel of padding on every side, as PyTorch's Conv2d(3, stride=2, padding=1).

    Args:
      x: (B, H, W, C) float.
      kernel: (3, 3, C, O) float.
      formulation: one of FORMULATIONS; equal to float rounding. Only "lax" has forward-mode derivatives (`jax.jvp`).

    Returns:
      (B, ceil(H/2), ceil(W/2), O) float.

    Raises:
      ValueError: unknown formulation.
    """
    if formulation not in FORMULATIONS:
        raise ValueError(f"expected a convolution of {FORMULATIONS}, got {formulation!r}")
    if formulation != "lax":
        return _convolve_patches(x, kernel, formulation == "tiled")
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
