"""Row-wise functions over long arrays in fixed-size pieces: bounded memory, no dropped remainder."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from margin_jax.devices import share_of, total


def _count_and_rows(arrays: Any, piece: int) -> tuple[int, int]:
    """N, and the rows of one piece."""
    lengths = {array.shape[0] for array in arrays}
    if len(lengths) != 1 or 0 in lengths or piece < 1:
        raise ValueError(f"expected piece >= 1 and arrays of one length >= 1, got piece {piece}, lengths {lengths}")
    count = lengths.pop()
    return count, min(piece, count)


def map_pieces(fn: Callable[..., Any], arrays: Any, piece: int) -> Any:
    """Applies a row-wise function to N rows, `piece` rows at a time, in one compiled loop.

    The last piece starts at N - piece, so that when `piece` does not divide N some rows are computed twice, with the
    same result, and none is dropped or padded. Only one piece of intermediate values is alive at a time.

    Args:
      fn: maps rows, given as one argument per entry of `arrays`, each (P, ...), to a pytree of arrays (P, ...). Row n
        of the result may depend on row n of the arguments alone.
      arrays: a tuple of arrays (N, ...), N >= 1.
      piece: P, static, >= 1; min(P, N) is used.

    Returns:
      The pytree of `fn` with leading axis N.

    Raises:
      ValueError: piece < 1, no rows, or arrays of different length.
    """
    count, rows = _count_and_rows(arrays, piece)

    def slices(start: jax.Array) -> list[jax.Array]:
        return [lax.dynamic_slice_in_dim(array, start, rows) for array in arrays]

    shapes = jax.eval_shape(lambda: fn(*slices(jnp.int32(0))))
    empty = jax.tree.map(lambda s: jnp.zeros((count, *s.shape[1:]), s.dtype), shapes)

    def body(index: jax.Array, done: Any) -> Any:
        start = jnp.minimum(index * rows, count - rows)
        return jax.tree.map(lambda whole, part: lax.dynamic_update_slice_in_dim(whole, part, start, 0),
                            done, fn(*slices(start)))

    return lax.fori_loop(0, -(-count // rows), body, empty)


def sum_pieces(fn: Callable[..., Any], arrays: Any, piece: int, mesh: Mesh | None = None) -> Any:
    """Adds up what a function gives for N rows, `piece` rows at a time, in one compiled loop.

    Args:
      fn: maps P rows, given as one argument per entry of `arrays`, and `new` (P,) boolean to a pytree of float32 sums
        over the rows that are new. Pieces have one length, so that some overlap: rows that are not new are counted
        elsewhere.
      arrays: a tuple of arrays (N, ...), N >= 1.
      piece: P, static, >= 1; min(P, N) is used.
      mesh: inside a function of `devices.compile_on`: its devices share out the rows.

    Returns:
      The pytree of `fn`, summed over all rows, on all devices the same.

    Raises:
      ValueError: as `map_pieces`.
    """
    count, rows = _count_and_rows(arrays, piece)
    first, last = share_of(jnp.int32(0), jnp.int32(count), mesh)

    def of_piece(index: jax.Array) -> Any:
        wanted = first + index * rows
        start = jnp.minimum(wanted, count - rows)
        row = start + jnp.arange(rows)
        return fn(*(lax.dynamic_slice_in_dim(array, start, rows) for array in arrays), (row >= wanted) & (row < last))

    empty = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(lambda: of_piece(jnp.int32(0))))
    sums = lax.fori_loop(0, -(-(last - first) // rows),
                         lambda index, done: jax.tree.map(jnp.add, done, of_piece(index)), empty)
    return total(sums, mesh)
