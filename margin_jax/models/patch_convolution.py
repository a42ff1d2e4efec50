"""3x3 convolution as patches and one matmul, with the gradients written out; formulations `patches` and `tiled`."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from margin_jax.models.patches import out_size, over_tiles, patches, put_rows, spread, take_rows, tile_rows


def _matrix(kernel: jax.Array) -> jax.Array:
    return kernel.reshape(-1, kernel.shape[-1])


def _transposed(kernel: jax.Array) -> jax.Array:
    """The kernel of the transposed convolution of stride 1: turned by 180 degrees, inputs and outputs exchanged."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _input_gradient(x: jax.Array, kernel: jax.Array, gradient: jax.Array, stride: int) -> jax.Array:
    taps = gradient @ _matrix(kernel).T
    return spread(taps) if stride == 1 else jax.vjp(lambda x: patches(x, stride), x)[1](taps)[0]


def _kernel_gradient(x: jax.Array, gradient: jax.Array, stride: int) -> jax.Array:
    # Autodiff writes the kernel's gradient as gradient^T patches, transposed afterwards, which is slow on CPU: written
    # as patches^T gradient, an epoch without BatchNorm takes about half the time. Gathering the patches anew costs no
    # more than storing them.
    rows = (0, 1, 2)
    return lax.dot_general(patches(x, stride), gradient, ((rows, rows), ((), ())))


def _spreads(kernel: jax.Array, stride: int) -> bool:
    """Whether the nine taps are those of the output.

    Gathered taps take nine times the input's memory. A convolution of stride 1 is also the transpose of another one:
    then the taps, nine times the output's memory, are multiplied first and added up afterwards. From 48 channels to 12
    that takes a quarter of the memory and less than half of the time.
    """
    return stride == 1 and kernel.shape[2] > kernel.shape[3]


def _rows_forward(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    if _spreads(kernel, stride):
        return spread(x @ _matrix(_transposed(kernel)).T)
    return patches(x, stride) @ _matrix(kernel)


def _rows_backward(x: jax.Array, kernel: jax.Array, gradient: jax.Array, new: jax.Array | None,
                   stride: int) -> tuple[jax.Array, jax.Array]:
    """Gradients of the input and, as the matrix of the taps, of the kernel; the latter from the `new` rows alone."""

    def only_new(rows: jax.Array) -> jax.Array:
        return rows if new is None else jnp.where(new[:, None, None, None], rows, 0)

    if _spreads(kernel, stride):
        d_x = patches(gradient, stride) @ _matrix(_transposed(kernel))
        return d_x, _kernel_gradient(gradient, only_new(x), stride)
    return _input_gradient(x, kernel, gradient, stride), _kernel_gradient(x, only_new(gradient), stride)


def _tile(x: jax.Array, kernel: jax.Array, stride: int, tiled: bool) -> int:
    channels = min(kernel.shape[2:]) if stride == 1 else x.shape[3]
    return tile_rows((*x.shape[:3], channels), x.dtype.itemsize, stride) if tiled else x.shape[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_patches(x: jax.Array, kernel: jax.Array, stride: int, tiled: bool) -> jax.Array:
    """A 3x3 convolution, with a backward pass that XLA's CPU compiler handles well; no forward-mode derivative.

    Args:
      x: (B, H, W, C) float.
      kernel: (3, 3, C, O) float.
      stride: 1 or 2.
      tiled: a few rows at a time where there are many.

    Returns:
      (B, ceil(H/stride), ceil(W/stride), O) float.
    """
    count, tile = x.shape[0], _tile(x, kernel, stride, tiled)
    if tile == count:
        return _rows_forward(x, kernel, stride)

    def part(start: jax.Array, new: jax.Array, out: jax.Array) -> jax.Array:
        del new  # computed again, with the same result
        return put_rows(out, _rows_forward(take_rows(x, start, tile), kernel, stride), start)

    height, width = (out_size(size, stride) for size in x.shape[1:3])
    return over_tiles(count, tile, part, lax.empty((count, height, width, kernel.shape[-1]), x.dtype))


def _forward(x: jax.Array, kernel: jax.Array, stride: int,
             tiled: bool) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve_patches(x, kernel, stride, tiled), (x, kernel)


def _backward(stride: int, tiled: bool, saved: tuple[jax.Array, jax.Array],
              gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    count, tile = x.shape[0], _tile(x, kernel, stride, tiled)

    def part(start: jax.Array, new: jax.Array, done: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        rows, slope = take_rows(x, start, tile), take_rows(gradient, start, tile)
        d_rows, d_matrix = _rows_backward(rows, kernel, slope, new, stride)
        return put_rows(done[0], d_rows, start), done[1] + d_matrix

    taps = _transposed(kernel) if _spreads(kernel, stride) else kernel
    if tile == count:
        d_x, d_matrix = _rows_backward(x, kernel, gradient, None, stride)
    else:
        d_x, d_matrix = over_tiles(count, tile, part, (lax.empty(x.shape, x.dtype), jnp.zeros_like(_matrix(taps))))
    d_taps = d_matrix.reshape(taps.shape)
    return d_x, _transposed(d_taps) if _spreads(kernel, stride) else d_taps


convolve_patches.defvjp(_forward, _backward)
