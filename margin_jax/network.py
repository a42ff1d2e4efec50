"""A network as two pure functions, which is all that training and measuring need to know of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

Params = Any
BatchStats = Any
# How BatchNorm goes on after a removal. "tracked": as before, steps are normalised by the kept rows of their batch and
# running statistics follow them. "frozen": the same steps, but the running statistics, which evaluation uses, stay.
# "fixed": the running statistics stay and normalise the steps too.
BATCH_NORM = ("tracked", "frozen", "fixed")


class Network(NamedTuple):
    """Pure functions of one architecture.

    Attributes:
      init: (key, images (1, H, W, C)) -> (params, batch_stats); `batch_stats` is {} without BatchNorm.
      forward: (params, batch_stats, x (B, H, W, C), weights (B,)) -> (logits (B, C), new batch_stats), in training.
      logits: (params, batch_stats, x (B, H, W, C)) -> logits (B, C), in evaluation.
      batched: whether the examples of a batch interact, as BatchNorm makes them do.
    """

    init: Callable[[jax.Array, jax.Array], tuple[Params, BatchStats]]
    forward: Callable[[Params, BatchStats, jax.Array, jax.Array], tuple[jax.Array, BatchStats]]
    logits: Callable[[Params, BatchStats, jax.Array], jax.Array]
    batched: bool


def from_flax(module: nn.Module, batched: bool) -> Network:
    """Wraps a Flax module called as `module(x, train, weights)`, with its running statistics in `batch_stats`."""

    def init(key: jax.Array, images: jax.Array) -> tuple[Params, BatchStats]:
        variables = module.init(key, images, True, jnp.ones(images.shape[0]))
        return variables["params"], variables.get("batch_stats", {})

    def forward(params: Params, batch_stats: BatchStats, x: jax.Array,
                weights: jax.Array) -> tuple[jax.Array, BatchStats]:
        logits, updated = module.apply({"params": params, "batch_stats": batch_stats}, x, True, weights,
                                       mutable=["batch_stats"])
        return logits, updated.get("batch_stats", {})

    def logits(params: Params, batch_stats: BatchStats, x: jax.Array) -> jax.Array:
        return module.apply({"params": params, "batch_stats": batch_stats}, x, False, jnp.ones(x.shape[0]))

    return Network(init, forward, logits, batched)


def with_batch_norm(network: Network, mode: str) -> Network:
    """The network whose running statistics of BatchNorm go on as `mode` says, one of BATCH_NORM.

    Without BatchNorm the three are the same. Raises ValueError for an unknown mode.
    """
    if mode not in BATCH_NORM:
        raise ValueError(f"expected a mode of BatchNorm of {BATCH_NORM}, got {mode!r}")
    if mode == "frozen":
        return network._replace(forward=lambda params, batch_stats, x, weights: (
            network.forward(params, batch_stats, x, weights)[0], batch_stats))
    if mode == "fixed":  # examples no longer interact
        return network._replace(forward=lambda params, batch_stats, x, weights: (
            network.logits(params, batch_stats, x), batch_stats), batched=False)
    return network
