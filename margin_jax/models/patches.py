"""Windows 3x3 of images, their sum back into images, and the loop over tiles of rows that keeps them in a core's cache.

The convolution made of them is `margin_jax.models.patch_convolution`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

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
