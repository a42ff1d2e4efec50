"""Rows shared out in two ways: among devices, and in pieces that one device computes one after the other.

Devices: every device has all data and parameters and computes its share of a step's rows; their sums are then added. On
a CPU the devices are single threads: an operation of a small network lasts a few hundred microseconds, too little to be
split between threads, but half of the rows of a step is not (docs/performance.md). `compile_on` compiles a function for
the devices of a `row_mesh`; inside it, `share_of` and `total` divide and add up. A mesh None means one device.

Pieces: `map_pieces` and `sum_pieces` go over long arrays a fixed number of rows at a time, in bounded memory and
without dropping a remainder.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

ROWS = "rows"  # name of the one axis of a mesh


def row_mesh(count: int) -> Mesh | None:
    """The first `count` devices of this process as one axis ROWS; None for one device, which needs no mesh.

    Args:
      count: devices, in 1..the number that the process has.

    Raises:
      ValueError: fewer devices than `count`.
    """
    devices = jax.local_devices()
    if not 1 <= count <= len(devices):
        raise ValueError(f"expected a number of devices in 1..{len(devices)}, got {count}")
    return Mesh(np.array(devices[:count]), (ROWS,)) if count > 1 else None


def size_of(mesh: Mesh | None) -> int:
    """Devices of a mesh, 1 without."""
    return 1 if mesh is None else mesh.size


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """Puts the arrays of a pytree on every device of the mesh, or on the default device without one.

    Args:
      tree: pytree of arrays, of NumPy or JAX.
      mesh: of `row_mesh`.

    Returns:
      The pytree with JAX arrays of the same shapes and types.
    """
    return jax.device_put(tree, None if mesh is None else NamedSharding(mesh, PartitionSpec()))


def share_of(start: jax.Array, stop: jax.Array, mesh: Mesh | None) -> tuple[jax.Array, jax.Array]:
    """The part of a step's rows that this device computes; call it inside a function of `compile_on`.

    Args:
      start: () int32, first row of the step.
      stop: () int32, the row after its last one, >= start.
      mesh: the one that the function is compiled for.

    Returns:
      first, last: () int32; this device computes rows first..last - 1. The shares are as equal as a whole number of
      rows allows, in the order of devices; the last ones may be shorter or empty.
    """
    if mesh is None:
        return start, stop
    share = -(-(stop - start) // mesh.size)
    first = jnp.minimum(start + lax.axis_index(ROWS) * share, stop)
    return first, jnp.minimum(first + share, stop)


def total(tree: Any, mesh: Mesh | None) -> Any:
    """Sums a pytree over the devices as one vector; call it inside a function of `compile_on`.

    One vector, since each exchange costs tens of microseconds on a CPU.

    Args:
      tree: pytree of float32 arrays, this device's part of each sum.
      mesh: the one that the function is compiled for.

    Returns:
      The pytree with the sums, on all devices the same; the pytree itself without a mesh.
    """
    if mesh is None:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    starts = np.cumsum([0, *(leaf.size for leaf in leaves)]).tolist()
    flat = lax.empty((starts[-1],), jnp.float32)
    for leaf, start in zip(leaves, starts, strict=False):  # XLA's CPU concatenation takes milliseconds for this
        flat = lax.dynamic_update_slice_in_dim(flat, leaf.reshape(-1), start, 0)
    flat = lax.psum(flat, ROWS)
    sums = [flat[start:start + leaf.size].reshape(leaf.shape) for leaf, start in zip(leaves, starts, strict=False)]
    return jax.tree.unflatten(structure, sums)


def compile_on(fn: Callable[..., Any], mesh: Mesh | None, per_device: bool = False,
               static_argnums: tuple[int, ...] = (), donate_argnums: tuple[int, ...] = ()) -> Callable[..., Any]:
    """`jax.jit` of a function whose arguments are the same on every device of the mesh, all given by position.

    Args:
      fn: may use `share_of`, `total` and collectives over ROWS.
      mesh: of `row_mesh`.
      per_device: results differ between devices and are stacked along a new leading axis; otherwise they are equal.
      static_argnums: as of `jax.jit`.
      donate_argnums: as of `jax.jit`.

    Returns:
      The compiled function.
    """
    if mesh is None:
        return jax.jit(fn, static_argnums=static_argnums, donate_argnums=donate_argnums)
    out = PartitionSpec(ROWS) if per_device else PartitionSpec()

    def mapped(*args: Any) -> Any:
        places = [place for place in range(len(args)) if place not in static_argnums]

        def local(*traced: Any) -> Any:
            known = dict(zip(places, traced, strict=True))
            result = fn(*(known.get(place, arg) for place, arg in enumerate(args)))
            return jax.tree.map(lambda leaf: leaf[None], result) if per_device else result

        # check_vma: results are equal on all devices because sums are, which the checker cannot see through loops.
        return jax.shard_map(local, mesh=mesh, in_specs=PartitionSpec(), out_specs=out,
                             check_vma=False)(*(args[place] for place in places))

    return jax.jit(mapped, static_argnums=static_argnums, donate_argnums=donate_argnums)


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
      mesh: inside a function of `compile_on`: its devices share out the rows.

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
