"""How many networks are trained at once, from what one of them needs and what a device has."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from margin_jax import runtime, tuning
from margin_jax.batching import make_plan
from margin_jax.network import Network
from margin_jax.state import TrainState

SHARE = 0.7  # of the free memory: XLA needs room for copies, and its allocator leaves gaps


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def intermediate_bytes(fn: Callable[..., Any], *args: Any) -> int:
    """Bytes of every value that a function computes, as if none were freed before the end: an upper bound.

    Args:
      fn: a traceable function.
      *args: pytrees of arrays or of `jax.ShapeDtypeStruct`; nothing is computed.
    """

    def of(jaxpr: Any) -> int:
        found = 0
        for equation in jaxpr.eqns:
            inner = [sub for value in equation.params.values() for sub in jax.tree.leaves(
                value, is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr"))
                if hasattr(sub, "eqns") or hasattr(sub, "jaxpr")]
            found += sum(of(getattr(sub, "jaxpr", sub)) for sub in inner) if inner else _bytes(
                [var.aval for var in equation.outvars])
        return found

    return of(jax.make_jaxpr(fn)(*args).jaxpr)


def work_bytes(network: Network, state: TrainState, image_shape: tuple[int, ...], rows: int, piece: int) -> int:
    """Bytes that one network needs while it is trained or measured, an upper bound.

    Args:
      network: its pure functions.
      state: of one network.
      image_shape: (H, W, C).
      rows: that go through the network at once in training.
      piece: rows at once in the pass over all data.
    """

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.sum(network.forward(params, state.batch_stats, x, jnp.ones(x.shape[0]))[0])

    def batch(count: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, *image_shape), jnp.float32)

    trained = intermediate_bytes(jax.grad(loss), state.params, batch(rows))
    measured = intermediate_bytes(lambda params, x: network.logits(params, state.batch_stats, x), state.params,
                                  batch(piece))
    return max(trained + 2 * _bytes(state), measured)


def chunk_size(config: Any, network: Network, state: TrainState, image_shape: tuple[int, ...], total: int,
               micro_batch: int, piece: int) -> int:
    """Networks that this process trains at once: `sweep.chunk`, or what its devices' memory holds.

    Args:
      config: of the sweep.
      network: its pure functions.
      state: of one network.
      image_shape: (H, W, C).
      total: N.
      micro_batch: most rows at once where a step may be cut into pieces.
      piece: rows at once in the pass over all data.
    """
    if config.sweep.chunk:
        return config.sweep.chunk
    own = 16 * total  # its labels, its mask, the margins that its steps see
    return fitting(config.batch_size, network, state, image_shape, total, micro_batch, piece,
                   total * math.prod(image_shape), own)


def fitting(batch_size: int, network: Network, state: TrainState, image_shape: tuple[int, ...], total: int,
            micro_batch: int, piece: int, data: int, own: int) -> int:
    """Networks that the memory of this process's devices holds at once; other arguments as of `chunk_size`.

    Args:
      batch_size: rows per step, 0 for all.
      data: bytes on every device that its networks share.
      own: bytes that each network has beside its state.
    """
    plan, _ = make_plan(batch_size, total, micro_batch, network.batched, total=total)
    work = work_bytes(network, state, image_shape, plan.piece, piece)
    fits = tuning.networks_at_once(int(SHARE * runtime.free_memory()) - data, _bytes(state) + own, work,
                                   tuning.ensemble_mapping(jax.default_backend()))
    return fits * len(jax.local_devices())
