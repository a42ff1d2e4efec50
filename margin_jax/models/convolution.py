"""Convolutions 3x3 of stride 1 or 2 and 1x1, in three formulations with one parameter layout (height, width, in, out).

`lax` is XLA's own convolution. `patches` gathers the nine taps by strided slices and multiplies once: XLA's CPU
convolution becomes an order of magnitude slower inside a compiled loop or under vmap, this one does not. `tiled` is
`patches` on a few rows at a time where there are many, so that the taps stay in a core's cache. Which one runs where:
`margin_jax.backend`. A 1x1 convolution is one matmul in all of them.

Windows 3x3 of images, their sum back into images, and the loop over tiles of rows that keeps them in a core's cache.

The convolution made of them is `margin_jax.models.convolution`.

3x3 convolution as patches and one matmul, with the gradients written out; formulations `patches` and `tiled`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from margin_jax.backend import CPU
from margin_jax.models.layers import bias_init, fan_in, kernel_init

CONVOLUTIONS = ("auto", "patches", "tiled", "lax")


SIZE = 3
TILE, TILED_FROM = 64, 256  # stride 2: rows of a tile, and the number of rows above which there are tiles
# Stride 1, whose windows are as many as the pixels: bytes of windows in a tile, and bytes above which there are tiles.
TILE_BYTES, TILED_FROM_BYTES = 2**21, 2**23


def out_size(size: int, stride: int) -> int:
    """Pixels along one side of the result, ceil(size / stride)."""
    return -(-size // stride)


def patches(x: jax.Array, stride: int) -> jax.Array:
    """Windows 3x3 with one zero pixel around the image.

    Args:
      x: (B, H, W, C).
      stride: 1 or 2.

    Returns:
      (B, ceil(H/stride), ceil(W/stride), 9 C), taps in row-major order, channels innermost.
    """
    height, width = (out_size(size, stride) for size in x.shape[1:3])
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [lax.slice(padded, (0, i, j, 0),
                      (x.shape[0], i + stride * (height - 1) + 1, j + stride * (width - 1) + 1, x.shape[3]),
                      (1, stride, stride, 1))
            for i in range(SIZE) for j in range(SIZE)]
    return jnp.concatenate(taps, axis=-1)


def spread(windows: jax.Array) -> jax.Array:
    """The transpose of `patches` of stride 1: every tap is added to the pixel that it was taken from.

    Args:
      windows: (B, H, W, 9 C), in the order of `patches`.

    Returns:
      (B, H, W, C).
    """
    count, height, width, features = windows.shape
    channels = features // SIZE**2
    padded = jnp.pad(windows, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [lax.slice(padded, (0, 2 - i, 2 - j, (SIZE * i + j) * channels),
                      (count, 2 - i + height, 2 - j + width, (SIZE * i + j + 1) * channels))
            for i in range(SIZE) for j in range(SIZE)]
    return sum(taps[1:], taps[0])


def tile_rows(shape: tuple[int, ...], itemsize: int, stride: int) -> int:
    """Rows of a tile; all of them where there are no tiles.

    Args:
      shape: (B, H, W, C) of the image whose windows are gathered or summed.
      itemsize: bytes of a number.
      stride: 1 or 2.
    """
    if stride == 2:
        return TILE if shape[0] > TILED_FROM else shape[0]
    row_bytes = SIZE**2 * shape[1] * shape[2] * shape[3] * itemsize
    rows = max(1, TILE_BYTES // row_bytes)
    return rows if shape[0] * row_bytes > TILED_FROM_BYTES and rows < shape[0] else shape[0]


def over_tiles(count: int, tile: int, part: Callable[[jax.Array, jax.Array, Any], Any], carry: Any) -> Any:
    """Folds part(start, new (tile,) boolean, carry) over `count` > `tile` rows, `tile` at a time.

    The last tile starts at count - tile; those of its rows that the tile before had already are not `new`. (A smaller
    last tile after the loop makes XLA copy the whole result.)
    """

    def body(index: jax.Array, carry: Any) -> Any:
        start = jnp.minimum(index * tile, count - tile)
        return part(start, start + jnp.arange(tile) >= index * tile, carry)

    return lax.fori_loop(0, -(-count // tile), body, carry)


def put_rows(whole: jax.Array, part: jax.Array, start: jax.Array) -> jax.Array:
    """The array with its rows from `start` on replaced by those of `part`."""
    return lax.dynamic_update_slice_in_dim(whole, part, start, 0)


def take_rows(whole: jax.Array, start: jax.Array, count: int) -> jax.Array:
    """The `count` rows from `start` on."""
    return lax.dynamic_slice_in_dim(whole, start, count)


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


def choose_convolution(name: str, backend: str, mapped: bool) -> str:
    """The formulation of a convolution.

    "auto" is `tiled` on CPU, where XLA's own convolution is 17 times slower in a loop; `patches` elsewhere for mapped
    networks, whose `lax` would be a grouped convolution; `lax` for one network on an accelerator (not measured yet).

    Args:
      name: one of CONVOLUTIONS.
      backend: `jax.default_backend()`.
      mapped: whether the network runs under vmap over parameters.

    Returns:
      A name of `models.convolution.FORMULATIONS`.

    Raises:
      ValueError: unknown name.
    """
    if name not in CONVOLUTIONS:
        raise ValueError(f"expected a convolution of {CONVOLUTIONS}, got {name!r}")
    if name != "auto":
        return name
    if backend == CPU:
        return "tiled"
    return "patches" if mapped else "lax"
