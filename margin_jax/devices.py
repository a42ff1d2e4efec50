"""One network on several devices: every device has all data and parameters and computes its share of a step's rows.

On a CPU the devices are single threads. An operation of this network lasts a few hundred microseconds, too little to be
split between threads; half of the rows of a step is not (docs/performance.md).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

ROWS = "rows"


def row_mesh(count: int) -> Mesh | None:
    """The first `count` devices of this process as one axis ROWS; None for one device, which needs no mesh.

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
    """The arrays of a pytree on every device of the mesh, or on the default device without one."""
    return jax.device_put(tree, None if mesh is None else NamedSharding(mesh, PartitionSpec()))


def share_of(start: jax.Array, stop: jax.Array, mesh: Mesh | None) -> tuple[jax.Array, jax.Array]:
    """The part [first, last) of a step's rows [start, stop) that this device computes; it may be empty."""
    if mesh is None:
        return start, stop
    share = -(-(stop - start) // mesh.size)
    first = jnp.minimum(start + lax.axis_index(ROWS) * share, stop)
    return first, jnp.minimum(first + share, stop)


def total(tree: Any, mesh: Mesh | None) -> Any:
    """Sums a pytree of float32 over the devices as one vector: each exchange costs tens of microseconds on CPU."""
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
