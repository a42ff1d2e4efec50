"""One epoch over the kept examples, as one compiled program.

The boolean mask decides what is trained on; removed rows are never read. Nothing returns to the host inside an epoch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from margin_jax.batching import Plan, epoch_order, piece_rows
from margin_jax.devices import ROWS, compile_on, share_of, total
from margin_jax.margins import margins
from margin_jax.network import BatchStats, Network, Params
from margin_jax.state import EpochStats, Examples, TrainState, training_rows

Gradients = tuple[Params, BatchStats, jax.Array]  # gradient, running statistics, loss
RunEpoch = Callable[[TrainState, Examples, jax.Array, jax.Array, Plan], tuple[TrainState, EpochStats]]


def piece_gradients(network: Network, params: Params, batch_stats: BatchStats, examples: Examples, rows: jax.Array,
                    weights: jax.Array, denominator: jax.Array) -> tuple[Gradients, jax.Array]:
    """Gradient of sum_n weights_n * cross-entropy_n / denominator over one piece.

    Args:
      network: its pure functions.
      params: parameter pytree.
      batch_stats: running statistics.
      examples: the data set.
      rows: (P,) int32 rows of the data set.
      weights: (P,) float32, 1 or 0.
      denominator: () float32, the number of rows in the whole step.

    Returns:
      Gradient pytree, new running statistics and the loss's share () float32; and the margins (P,) float32 before the
      update, 0 in rows of weight 0.
    """
    x, labels = training_rows(examples, rows)

    def loss_fn(params: Params) -> tuple[jax.Array, tuple[BatchStats, jax.Array]]:
        logits, updated = network.forward(params, batch_stats, x, weights)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.sum(losses * weights) / denominator, (updated, logits)

    (loss, (updated, logits)), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params)
    return (gradient, updated, loss), jnp.where(weights > 0, margins(logits, labels), 0)


def step_gradients(network: Network, state: TrainState, examples: Examples, order: jax.Array, start: jax.Array,
                   stop: jax.Array, plan: Plan, mesh: Mesh | None, seen: jax.Array) -> tuple[Gradients, jax.Array]:
    """Gradient of the mean cross-entropy over the step's rows order[start:stop], as `piece_gradients` gives it.

    With several pieces the sums are taken piece by piece, in order. With several devices the gradient is that of all of
    them, while the loss is this device's share.

    Args:
      network, state, examples, plan, mesh: as of the epoch.
      order: (N,) int32 of `epoch_order`.
      start, stop: () int, the step's positions in `order`.
      seen: (N + P,) float32 margins by position in `order`.

    Returns:
      The gradient, and `seen` with this device's margins of the step; positions after the step's may have been zeroed,
      and are written by the steps to come.
    """
    denominator = (stop - start).astype(jnp.float32)
    first, last = share_of(start, stop, mesh)

    def of_piece(begin: jax.Array, batch_stats: BatchStats, seen: jax.Array) -> tuple[Gradients, jax.Array]:
        rows, weights = piece_rows(order, begin, last, plan.piece)
        done, found = piece_gradients(network, state.params, batch_stats, examples, rows, weights, denominator)
        return done, lax.dynamic_update_slice_in_dim(seen, found, begin, 0)

    def add(index: jax.Array, carry: tuple[Gradients, jax.Array]) -> tuple[Gradients, jax.Array]:
        (gradient, batch_stats, loss), seen = carry
        new, seen = of_piece(first + index * plan.piece, batch_stats, seen)
        return (jax.tree.map(jnp.add, gradient, new[0]), new[1], loss + new[2]), seen

    if plan.single:
        (gradient, batch_stats, loss), seen = of_piece(first, state.batch_stats, seen)
    else:
        zero = (jax.tree.map(jnp.zeros_like, state.params), state.batch_stats, jnp.float32(0))
        (gradient, batch_stats, loss), seen = lax.fori_loop(0, -(-(last - first) // plan.piece), add, (zero, seen))
    return (total(gradient, mesh), batch_stats, loss), seen


def _of_all_devices(stats: EpochStats, mesh: Mesh | None) -> EpochStats:
    """What the devices saw of the same steps, each in its own rows, put together."""
    if mesh is None:
        return stats
    first = lax.pmin(jnp.where(stats.bad_step < 0, stats.steps, stats.bad_step), ROWS)
    return EpochStats(lax.psum(stats.loss, ROWS), stats.errors, stats.steps,
                      jnp.where(first < stats.steps, first, -1), lax.psum(stats.margins, ROWS))


def _by_id(stats: EpochStats, order: jax.Array, kept: jax.Array) -> EpochStats:
    """Margins by position in `order` as margins by id, NaN where removed; and the errors among them."""
    count = order.shape[0]
    found = stats.margins[:count]
    visited = jnp.arange(count) < kept
    by_id = jnp.full(count, jnp.nan).at[jnp.where(visited, order, count)].set(found, mode="drop")
    return stats._replace(margins=by_id, errors=jnp.sum(visited & ~(found > 0), dtype=jnp.int32))


def epoch_function(network: Network, optimizer: optax.GradientTransformation, shuffle: bool,
                   mesh: Mesh | None = None) -> RunEpoch:
    """The epoch of one architecture and optimiser, not compiled; arguments as of `make_run_epoch`."""

    def run_epoch(state: TrainState, examples: Examples, mask: jax.Array, batch: jax.Array,
                  plan: Plan) -> tuple[TrainState, EpochStats]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.epoch)
        order, kept = epoch_order(mask, key, shuffle)

        def step(index: jax.Array, carry: tuple[TrainState, Any]) -> tuple[TrainState, Any]:
            state, stats = carry
            start = index * batch
            stop = jnp.minimum(start + batch, kept)
            (gradient, batch_stats, loss), seen = step_gradients(network, state, examples, order, start, stop, plan,
                                                                 mesh, stats.margins)
            updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            bad = (stats.bad_step < 0) & ~jnp.isfinite(loss)
            stats = EpochStats(stats.loss + loss * ((stop - start) / kept), stats.errors, stats.steps + 1,
                               jnp.where(bad, index, stats.bad_step), seen)
            return TrainState(params, batch_stats, opt_state, state.key, state.epoch), stats

        stats = EpochStats(jnp.float32(0), jnp.int32(0), jnp.int32(0), jnp.int32(-1),
                           jnp.zeros(mask.shape[0] + plan.piece, jnp.float32))
        state, stats = lax.fori_loop(0, -(-kept // batch), step, (state, stats))
        stats = _by_id(_of_all_devices(stats, mesh), order, kept)
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(state.params)]))
        # The last update can spoil the parameters after the last loss was seen.
        stats = stats._replace(bad_step=jnp.where((stats.bad_step < 0) & ~finite, stats.steps - 1, stats.bad_step))
        return state._replace(epoch=state.epoch + 1), stats

    return run_epoch


def make_run_epoch(network: Network, optimizer: optax.GradientTransformation, shuffle: bool,
                   mesh: Mesh | None = None) -> RunEpoch:
    """Compiles the epoch of one architecture and optimiser.

    Args:
      network: its pure functions.
      optimizer: from `make_optimizer`; the learning rate in the state is the one used.
      shuffle: a new order of the kept rows every epoch, from the state's key and epoch; else ascending ids.
      mesh: of `devices.row_mesh`: each step's rows are shared out among its devices, on all of which state and
        examples must lie (`devices.replicate`).

    Returns:
      run_epoch(state, examples, mask (N,) boolean, batch () int, plan) -> (state, EpochStats), compiled once per
      `plan`. `batch` and `plan` come from `make_plan`; the mask has at least one row. `state` is donated.
    """
    return compile_on(epoch_function(network, optimizer, shuffle, mesh), mesh, static_argnums=(4,), donate_argnums=(0,))
