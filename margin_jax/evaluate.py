"""The pass over all data: margin and loss of every example, in bounded memory."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from margin_jax.margins import margins
from margin_jax.network import BatchStats, Network, Params
from margin_jax.pieces import map_pieces
from margin_jax.state import Examples, standardised


class Evaluation(NamedTuple):
    """Per-example results in the order of ids.

    Attributes:
      margins: (N,) float32, raw margins on logits.
      losses: (N,) float32, cross-entropy in nats.
    """

    margins: jax.Array
    losses: jax.Array


Evaluate = Callable[[Params, BatchStats, Examples], Evaluation]


def make_evaluate(network: Network, piece: int) -> Evaluate:
    """Compiles the pass of one architecture.

    Args:
      network: its pure functions.
      piece: rows whose activations are alive at once; on CPU they should fit the cache.

    Returns:
      evaluate(params, batch_stats, examples) -> Evaluation, with the running statistics of BatchNorm.
    """

    def evaluate(params: Params, batch_stats: BatchStats, examples: Examples) -> Evaluation:
        def rows(images: jax.Array, labels: jax.Array) -> Evaluation:
            logits = network.logits(params, batch_stats, standardised(images, examples))
            return Evaluation(margins(logits, labels), optax.softmax_cross_entropy_with_integer_labels(logits, labels))

        return map_pieces(rows, (examples.images, examples.labels), piece)

    return jax.jit(evaluate)
