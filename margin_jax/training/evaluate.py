"""The pass over all data: margin and loss of every example, in bounded memory."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from margin_jax.models.network import BatchStats, Network, Params
from margin_jax.parallel import ROWS, compile_on, map_pieces
from margin_jax.theory.checks import checked_labels, checked_logits
from margin_jax.theory.margins import margins
from margin_jax.training.state import Examples, standardised


class Evaluation(NamedTuple):
    """Per-example results in the order of ids.

    Attributes:
      margins: (N,) float32, raw margins on logits; of float64 logits float64, as the losses.
      losses: (N,) float32, cross-entropy in nats.
    """

    margins: jax.Array
    losses: jax.Array


class Outputs(NamedTuple):
    """What a network gives for every example, in the order of `Examples`.

    Attributes:
      margins: (N,) float32, raw margins on logits.
      losses: (N,) float32, cross-entropy in nats.
      logits: (N, C) float32.
    """

    margins: jax.Array
    losses: jax.Array
    logits: jax.Array


Evaluate = Callable[[Params, BatchStats, Examples], Evaluation]


def evaluated(logits: jax.Array, labels: jax.Array) -> Evaluation:
    """Margins and losses (N,) of logits (N, C) with integer labels (N,); shapes and types are checked."""
    logits, labels = checked_logits(logits), checked_labels(labels)
    return Evaluation(margins(logits, labels), optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def _of_rows(network: Network, params: Params, batch_stats: BatchStats,
             examples: Examples) -> Callable[[jax.Array, jax.Array], Outputs]:
    def of_rows(images: jax.Array, labels: jax.Array) -> Outputs:
        logits = checked_logits(network.logits(params, batch_stats, standardised(images, examples)), images.shape[0])
        return Outputs(*evaluated(logits, labels), logits)

    return of_rows


def outputs_function(network: Network, piece: int) -> Callable[[Params, BatchStats, Examples], Outputs]:
    """The pass of one architecture that keeps the logits, not compiled; arguments as of `make_evaluate`."""

    def outputs(params: Params, batch_stats: BatchStats, examples: Examples) -> Outputs:
        return map_pieces(_of_rows(network, params, batch_stats, examples), (examples.images, examples.labels), piece)

    return outputs


def evaluate_function(network: Network, piece: int) -> Evaluate:
    """The pass of one architecture, not compiled; arguments as of `make_evaluate`."""

    def evaluate(params: Params, batch_stats: BatchStats, examples: Examples) -> Evaluation:
        def rows(images: jax.Array, labels: jax.Array) -> Evaluation:
            outputs = _of_rows(network, params, batch_stats, examples)(images, labels)
            return Evaluation(outputs.margins, outputs.losses)

        return map_pieces(rows, (examples.images, examples.labels), piece)

    return evaluate


def make_evaluate(network: Network, piece: int, mesh: Mesh | None = None) -> Evaluate:
    """Compiles the pass of one architecture.

    Args:
      network: its pure functions.
      piece: rows whose activations are alive at once; on CPU they should fit the cache.
      mesh: of `parallel.row_mesh`: the rows are shared out among its devices, which must hold all arguments.

    Returns:
      evaluate(params, batch_stats, examples) -> Evaluation, with the running statistics of BatchNorm. It raises
      InputError where the network gives anything else than logits (P, C) of P rows, or labels are no integers.
    """
    evaluate_rows = evaluate_function(network, piece)
    if mesh is None:
        return jax.jit(evaluate_rows)

    def evaluate_share(params: Params, batch_stats: BatchStats, examples: Examples) -> Evaluation:
        # Shares have one length, so the last ones may overlap; what is computed twice is the same, and cut off below.
        share = -(-examples.labels.shape[0] // mesh.size)
        first = jnp.minimum(lax.axis_index(ROWS) * share, examples.labels.shape[0] - share)
        rows = (lax.dynamic_slice_in_dim(array, first, share) for array in (examples.images, examples.labels))
        return evaluate_rows(params, batch_stats, Examples(*rows, examples.mean, examples.std))

    shares = compile_on(evaluate_share, mesh, per_device=True)

    def evaluate(params: Params, batch_stats: BatchStats, examples: Examples) -> Evaluation:
        count = examples.labels.shape[0]
        return jax.tree.map(lambda leaf: _join(leaf, count), shares(params, batch_stats, examples))

    return jax.jit(evaluate)


def _join(shares: jax.Array, count: int) -> jax.Array:
    """The (N,) values of which device d has those from min(d share, N - share) on, in (devices, share)."""
    share = shares.shape[1]
    starts = [min(device * share, count - share) for device in range(shares.shape[0])]
    ends = [*starts[1:], count]
    return jnp.concatenate([shares[d, :ends[d] - starts[d]] for d in range(shares.shape[0])])
