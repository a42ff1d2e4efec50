"""Square convolutions in three formulations with one parameter layout (height, width, in, out).

`lax` is XLA's own convolution. `patches` gathers the taps of every window by strided slices and multiplies once, with
the gradients written out: XLA's CPU convolution becomes an order of magnitude slower inside a compiled loop or under
vmap, this one does not. `tiled` is `patches` on a few rows at a time where there are many, so that the taps stay in a
core's cache. Which one runs where: `choose_convolution`. A 1x1 convolution of stride 1 is one matmul in all of them.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from margin_jax.backend import CPU
from margin_jax.models.layers import bias_init, fan_in, kernel_init

CONVOLUTIONS = ("auto", "patches", "tiled", "lax")
PADDINGS = ("same", "valid")

SIZE = 3
TILE, TILED_FROM = 64, 256  # stride 2: rows of a tile, and the number of rows above which there are tiles
# Stride 1, whose windows are as many as the pixels: bytes of windows in a tile, and bytes above which there are tiles.
TILE_BYTES, TILED_FROM_BYTES = 2**21, 2**23


def zeros_around(size: int, padding: str) -> int:
    """Zero pixels on every side of the image: (size - 1)/2 for "same", none for "valid".

    Raises:
      ValueError: an unknown padding, or "same" for a kernel of even size, which has no middle.
    """
    if padding not in PADDINGS or (padding == "same" and size % 2 == 0):
        raise ValueError(f"expected a padding of {PADDINGS}, 'same' for odd kernels alone, got {padding!r} for "
                         f"{size}x{size}")
    return (size - 1) // 2 if padding == "same" else 0


def out_size(pixels: int, stride: int, size: int = SIZE, zeros: int = 1) -> int:
    """Pixels along one side of the result, floor((pixels + 2 zeros - size) / stride) + 1; 0 where no window fits."""
    return max(0, (pixels + 2 * zeros - size) // stride + 1)


def patches(x: jax.Array, stride: int, size: int = SIZE, zeros: int = 1) -> jax.Array:
    """Windows size x size, of the image with `zeros` zero pixels around it.

    Args:
      x: (B, H, W, C).
      stride: of the windows, >= 1.
      size: pixels along one side of a window.
      zeros: pixels on every side of the image.

    Returns:
      (B, H', W', size^2 C) for H', W' of `out_size`, taps in row-major order, channels innermost.
    """
    height, width = (out_size(pixels, stride, size, zeros) for pixels in x.shape[1:3])
    padded = jnp.pad(x, ((0, 0), (zeros, zeros), (zeros, zeros), (0, 0)))
    taps = [lax.slice(padded, (0, i, j, 0),
                      (x.shape[0], i + stride * (height - 1) + 1, j + stride * (width - 1) + 1, x.shape[3]),
                      (1, stride, stride, 1))
            for i in range(size) for j in range(size)]
    return jnp.concatenate(taps, axis=-1)


def spread(windows: jax.Array) -> jax.Array:
    """The transpose of `patches` 3x3 of stride 1 with a zero around: every tap is added to the pixel it came from.

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


def tile_rows(shape: tuple[int, ...], itemsize: int, stride: int, size: int = SIZE) -> int:
    """Rows of a tile; all of them where there are no tiles.

    Args:
      shape: (B, H, W, C) of the image whose windows are gathered or summed.
      itemsize: bytes of a number.
      stride: of the windows.
      size: pixels along one side of a window.
    """
    if stride > 1:
        return TILE if shape[0] > TILED_FROM else shape[0]
    row_bytes = size**2 * shape[1] * shape[2] * shape[3] * itemsize
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


def _matrix(kernel: jax.Array) -> jax.Array:
    return kernel.reshape(-1, kernel.shape[-1])


def _transposed(kernel: jax.Array) -> jax.Array:
    """The kernel of the transposed convolution of stride 1: turned by 180 degrees, inputs and outputs exchanged."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


class _Windows(NamedTuple):
    """Static shape of a convolution's windows: as of `patches`."""

    stride: int
    size: int
    zeros: int

    @property
    def transposable(self) -> bool:
        """Whether the transposed convolution is one of the same windows."""
        return self == (1, 3, 1)


def _input_gradient(x: jax.Array, kernel: jax.Array, gradient: jax.Array, windows: _Windows) -> jax.Array:
    taps = gradient @ _matrix(kernel).T
    return spread(taps) if windows.transposable else jax.vjp(lambda x: patches(x, *windows), x)[1](taps)[0]


def _kernel_gradient(x: jax.Array, gradient: jax.Array, windows: _Windows) -> jax.Array:
    # Autodiff writes the kernel's gradient as gradient^T patches, transposed afterwards, which is slow on CPU: written
    # as patches^T gradient, an epoch without BatchNorm takes about half the time. Gathering the patches anew costs no
    # more than storing them.
    rows = (0, 1, 2)
    return lax.dot_general(patches(x, *windows), gradient, ((rows, rows), ((), ())))


def _spreads(kernel: jax.Array, windows: _Windows) -> bool:
    """Whether the nine taps are those of the output.

    Gathered taps take nine times the input's memory. A 3x3 convolution of stride 1 with a zero around is also the
    transpose of another one: then the taps, nine times the output's memory, are multiplied first and added up
    afterwards. From 48 channels to 12 that takes a quarter of the memory and less than half of the time.
    """
    return windows.transposable and kernel.shape[2] > kernel.shape[3]


def _rows_forward(x: jax.Array, kernel: jax.Array, windows: _Windows) -> jax.Array:
    if _spreads(kernel, windows):
        return spread(x @ _matrix(_transposed(kernel)).T)
    return patches(x, *windows) @ _matrix(kernel)


def _rows_backward(x: jax.Array, kernel: jax.Array, gradient: jax.Array, new: jax.Array | None,
                   windows: _Windows) -> tuple[jax.Array, jax.Array]:
    """Gradients of the input and, as the matrix of the taps, of the kernel; the latter from the `new` rows alone."""

    def only_new(rows: jax.Array) -> jax.Array:
        return rows if new is None else jnp.where(new[:, None, None, None], rows, 0)

    if _spreads(kernel, windows):
        d_x = patches(gradient, *windows) @ _matrix(_transposed(kernel))
        return d_x, _kernel_gradient(gradient, only_new(x), windows)
    return _input_gradient(x, kernel, gradient, windows), _kernel_gradient(x, only_new(gradient), windows)


def _tile(x: jax.Array, kernel: jax.Array, windows: _Windows, tiled: bool) -> int:
    channels = min(kernel.shape[2:]) if windows.transposable else x.shape[3]
    return tile_rows((*x.shape[:3], channels), x.dtype.itemsize, windows.stride, windows.size) if tiled else x.shape[0]


def convolve_patches(x: jax.Array, kernel: jax.Array, stride: int, tiled: bool, zeros: int = 1) -> jax.Array:
    """A square convolution, with a backward pass that XLA's CPU compiler handles well; no forward-mode derivative.

    Args:
      x: (B, H, W, C) float.
      kernel: (size, size, C, O) float.
      stride: >= 1.
      tiled: a few rows at a time where there are many.
      zeros: pixels on every side of the image.

    Returns:
      (B, H', W', O) float for H', W' of `out_size`.
    """
    return _convolve(x, kernel, _Windows(stride, kernel.shape[0], zeros), tiled)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, kernel: jax.Array, windows: _Windows, tiled: bool) -> jax.Array:
    count, tile = x.shape[0], _tile(x, kernel, windows, tiled)
    if tile == count:
        return _rows_forward(x, kernel, windows)

    def part(start: jax.Array, new: jax.Array, out: jax.Array) -> jax.Array:
        del new  # computed again, with the same result
        rows = lax.dynamic_slice_in_dim(x, start, tile)
        return lax.dynamic_update_slice_in_dim(out, _rows_forward(rows, kernel, windows), start, 0)

    height, width = (out_size(pixels, *windows) for pixels in x.shape[1:3])
    return over_tiles(count, tile, part, lax.empty((count, height, width, kernel.shape[-1]), x.dtype))


def _forward(x: jax.Array, kernel: jax.Array, windows: _Windows,
             tiled: bool) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(x, kernel, windows, tiled), (x, kernel)


def _backward(windows: _Windows, tiled: bool, saved: tuple[jax.Array, jax.Array],
              gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    count, tile = x.shape[0], _tile(x, kernel, windows, tiled)

    def part(start: jax.Array, new: jax.Array, done: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        rows, slope = (lax.dynamic_slice_in_dim(whole, start, tile) for whole in (x, gradient))
        d_rows, d_matrix = _rows_backward(rows, kernel, slope, new, windows)
        return lax.dynamic_update_slice_in_dim(done[0], d_rows, start, 0), done[1] + d_matrix

    taps = _transposed(kernel) if _spreads(kernel, windows) else kernel
    if tile == count:
        d_x, d_matrix = _rows_backward(x, kernel, gradient, None, windows)
    else:
        d_x, d_matrix = over_tiles(count, tile, part, (lax.empty(x.shape, x.dtype), jnp.zeros_like(_matrix(taps))))
    d_taps = d_matrix.reshape(taps.shape)
    return d_x, _transposed(d_taps) if _spreads(kernel, windows) else d_taps


_convolve.defvjp(_forward, _backward)


FORMULATIONS = ("patches", "tiled", "lax")


def convolve(x: jax.Array, kernel: jax.Array, formulation: str, stride: int = 2, padding: str = "same") -> jax.Array:
    """Square convolution; with "same" as PyTorch's Conv2d(size, stride=stride, padding=(size - 1)//2), else padding=0.

    Args:
      x: (B, H, W, C) float.
      kernel: (size, size, C, O) float.
      formulation: one of FORMULATIONS; equal to float rounding. Only "lax" has forward-mode derivatives (`jax.jvp`),
        but for size and stride 1, where all have them.
      stride: >= 1.
      padding: one of PADDINGS, as of `zeros_around`.

    Returns:
      (B, H', W', O) float for H', W' of `out_size`: with "same" ceil(H/stride) and ceil(W/stride).

    Raises:
      ValueError: unknown formulation or padding, a kernel that is no square, a stride below 1, or an image that no
        window fits into.
    """
    if formulation not in FORMULATIONS:
        raise ValueError(f"expected a convolution of {FORMULATIONS}, got {formulation!r}")
    size = kernel.shape[0]
    if kernel.shape[1] != size or stride < 1:
        raise ValueError(f"expected a square kernel and a stride >= 1, got {kernel.shape[:2]} and {stride}")
    zeros = zeros_around(size, padding)
    if 0 in (out_size(pixels, stride, size, zeros) for pixels in x.shape[1:3]):
        raise ValueError(f"expected an image of at least {size}x{size} pixels for a convolution without padding, got "
                         f"{x.shape[1]}x{x.shape[2]}")
    if size == stride == 1:
        return x @ kernel[0, 0]
    if formulation != "lax":
        return convolve_patches(x, kernel, stride, formulation == "tiled", zeros)
    return lax.conv_general_dilated(x, kernel, (stride, stride), ((zeros, zeros), (zeros, zeros)),
                                    dimension_numbers=("NHWC", "HWIO", "NHWC"))


def max_pool(x: jax.Array) -> jax.Array:
    """Largest value of every 2x2 window of stride 2, (B, H, W, C) to (B, H//2, W//2, C), as PyTorch's MaxPool2d(2).

    An odd last row or column is left out. Equal largest values share the gradient, where PyTorch gives it to the first;
    after a ReLU equal ones are zeros, through which none flows.
    """
    height, width = x.shape[1] // 2, x.shape[2] // 2
    windows = x[:, :2 * height, :2 * width].reshape(x.shape[0], height, 2, width, 2, x.shape[3])
    return windows.max((2, 4))


class Conv(nn.Module):
    """A convolution layer with `features` output channels."""

    features: int
    initialiser: str
    init_std: float
    use_bias: bool
    formulation: str
    size: int = SIZE
    stride: int = 2
    padding: str = "same"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, C) to (B, H', W', features), H' and W' as of `out_size`."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", kernel_init(self.initialiser, self.init_std), shape)
        out = convolve(x, kernel, self.formulation, self.stride, self.padding)
        if self.use_bias:
            out += self.param("bias", bias_init(self.initialiser, fan_in(shape)), (self.features,))[None, None, None]
        return out


def choose_convolution(name: str, backend: str, mapped: bool) -> str:
    """The formulation of a convolution.

    "auto" is `tiled` on CPU, where XLA's own convolution is 17 times slower in a loop; `patches` elsewhere for mapped
    networks, whose `lax` would be a grouped convolution; `lax` for one network on an accelerator (docs/performance.md).

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
