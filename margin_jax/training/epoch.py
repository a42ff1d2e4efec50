"""One epoch over the kept examples, as one compiled program.

The boolean mask decides what is trained on; removed rows are never read. Nothing returns to the host inside an epoch.

An epoch visits the kept rows only, in steps of `batch` rows, the last one partial. How many rows are kept, and so how
many steps there are, is traced: it changes no shape. What is static is a `Plan`, the shape of the piece of rows that
goes through the network at once, and `make_plan` chooses it such that a training set that shrinks from N to 1 meets
at most ceil(log2 N) + 1 different plans for a batch size, while the rows computed stay below twice the rows kept.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from margin_jax.models.network import BatchStats, Network, Params
from margin_jax.parallel import ROWS, compile_on, share_of, total
from margin_jax.theory.checks import checked_labels, checked_logits
from margin_jax.theory.margins import margins
from margin_jax.training.state import NOT_SEEN, EpochStats, Examples, TrainState, training_rows


class Plan(NamedTuple):
    """Static shape of a step; one compiled epoch per value.

    Attributes:
      piece: rows that go through the network at once; rows beyond the step's own are padding of weight zero.
      single: whether a step is one piece. If not, gradients of its pieces are added up, which is exact for networks
        whose examples do not interact (no BatchNorm).
    """

    piece: int
    single: bool


def power_of_two(count: int) -> int:
    """The smallest power of two >= count, for count >= 1."""
    return 1 << (count - 1).bit_length()


def make_plan(batch_size: int, kept: int, piece_limit: int, whole: bool,
              devices: int = 1, total: int | None = None) -> tuple[Plan, int]:
    """Chooses the step's shape.

    Args:
      batch_size: rows per step, or 0 for full gradient descent.
      kept: rows kept, >= 1.
      piece_limit: most rows in one piece where a step may be cut into pieces, >= 1.
      whole: True if a step must be one piece, because BatchNorm takes its statistics over the whole batch.
      devices: devices among which a step's rows are shared out.
      total: N, if known: then a step on everything is not padded beyond N.

    Returns:
      The plan and the rows per step, min(batch_size, kept), which the epoch takes as a traced number.
    """
    batch = min(batch_size or kept, kept)
    fixed = batch == batch_size  # otherwise the step is all that is kept, whose count shrinks: round it up
    share = -(-batch // devices)
    if whole or share <= piece_limit:
        padded = power_of_two(share) if total is None else min(power_of_two(share), -(-total // devices))
        return Plan(share if fixed else padded, True), batch
    if not fixed:
        return Plan(piece_limit, False), batch
    pieces = -(-share // piece_limit)
    return Plan(-(-share // pieces), False), batch


class Step(NamedTuple):
    """The rows of one step: order[start:stop].

    Attributes:
      order: (N,) int32 of `epoch_order`.
      start, stop: () int, positions in `order`.
    """

    order: jax.Array
    start: jax.Array
    stop: jax.Array


def epoch_order(mask: jax.Array, key: jax.Array, shuffle: bool) -> tuple[jax.Array, jax.Array]:
    """Rows in the order in which an epoch visits them.

    Args:
      mask: (N,) boolean, the kept rows; at least one.
      key: PRNG key of this epoch, used only with `shuffle`.
      shuffle: static; False keeps ascending ids, as the paper does. True draws a new order: the kept rows in the order
        of one permutation of all N.

    Returns:
      order (N,) int32: the kept rows first, then the first kept row again and again, so that padding gathers a row
      that may be read (removed rows may hold NaN); and kept () int32.
    """
    count = mask.shape[0]
    rows = jnp.arange(count, dtype=jnp.int32)
    if shuffle:
        rows = jax.random.permutation(key, rows)
    chosen = mask[rows]
    places = jnp.where(chosen, jnp.cumsum(chosen) - 1, count)
    kept = jnp.sum(mask, dtype=jnp.int32)
    order = jnp.zeros(count, jnp.int32).at[places].set(rows, mode="drop")
    return jnp.where(jnp.arange(count) < kept, order, order[0]), kept


def piece_rows(order: jax.Array, start: jax.Array, stop: jax.Array, piece: int) -> tuple[jax.Array, jax.Array]:
    """The rows of one piece.

    Args:
      order: (N,) int32 of `epoch_order`.
      start: () int, position in `order` of the piece's first row.
      stop: () int, position just after the step's last row.
      piece: static, rows in a piece; it may reach past `stop` and past N.

    Returns:
      rows (piece,) int32 and weights (piece,) float32, 1 for the step's own rows and 0 for padding.
    """
    positions = start + jnp.arange(piece)
    valid = positions < stop
    return order[jnp.where(valid, positions, 0)], valid.astype(jnp.float32)


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
    labels = checked_labels(labels)

    def loss_fn(params: Params) -> tuple[jax.Array, tuple[BatchStats, jax.Array]]:
        logits, updated = network.forward(params, batch_stats, x, weights)
        logits = checked_logits(logits, x.shape[0])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.sum(losses * weights) / denominator, (updated, logits)

    (loss, (updated, logits)), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params)
    seen = jnp.where(weights > 0, margins(logits, labels), 0)
    return (gradient, updated, loss.astype(jnp.float32)), seen.astype(jnp.float32)  # the record, whatever the network's


def step_gradients(network: Network, state: TrainState, examples: Examples, step: Step, plan: Plan, mesh: Mesh | None,
                   seen: jax.Array) -> tuple[Gradients, jax.Array]:
    """Gradient of the mean cross-entropy over the rows of a step, as `piece_gradients` gives it.

    With several pieces the sums are taken piece by piece, in order. With several devices the gradient is that of all of
    them, while the loss is this device's share.

    Args:
      network, state, examples, plan, mesh: as of the epoch.
      step: its rows.
      seen: (N + P,) float32 margins by position in `order`.

    Returns:
      The gradient, and `seen` with this device's margins of the step; positions after the step's may have been zeroed,
      and are written by the steps to come.
    """
    denominator = (step.stop - step.start).astype(jnp.float32)
    first, last = share_of(step.start, step.stop, mesh)

    def of_piece(begin: jax.Array, batch_stats: BatchStats, seen: jax.Array) -> tuple[Gradients, jax.Array]:
        rows, weights = piece_rows(step.order, begin, last, plan.piece)
        gradients, margins = piece_gradients(network, state.params, batch_stats, examples, rows, weights, denominator)
        return gradients, lax.dynamic_update_slice_in_dim(seen, margins, begin, 0)

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
    """Margins by position in `order` as margins by id, NOT_SEEN where removed; and the errors among them."""
    count = order.shape[0]
    margins = stats.margins[:count]
    visited = jnp.arange(count) < kept
    by_id = jnp.full(count, NOT_SEEN, jnp.float32).at[jnp.where(visited, order, count)].set(margins, mode="drop")
    return stats._replace(margins=by_id, errors=jnp.sum(visited & ~(margins > 0), dtype=jnp.int32))


def epoch_function(network: Network, optimizer: optax.GradientTransformation, shuffle: bool,
                   mesh: Mesh | None = None) -> RunEpoch:
    """The epoch of one architecture and optimiser, not compiled; arguments as of `compile_epoch`."""

    def run_epoch(state: TrainState, examples: Examples, mask: jax.Array, batch: jax.Array,
                  plan: Plan) -> tuple[TrainState, EpochStats]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.epoch)
        order, kept = epoch_order(mask, key, shuffle)

        def step(index: jax.Array, carry: tuple[TrainState, Any]) -> tuple[TrainState, Any]:
            state, stats = carry
            start = index * batch
            stop = jnp.minimum(start + batch, kept)
            (gradient, batch_stats, loss), seen = step_gradients(network, state, examples, Step(order, start, stop),
                                                                 plan, mesh, stats.margins)
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


def compile_epoch(network: Network, optimizer: optax.GradientTransformation, shuffle: bool,
                  mesh: Mesh | None = None) -> RunEpoch:
    """Compiles the epoch of one architecture and optimiser.

    Args:
      network: its pure functions.
      optimizer: from `make_optimizer`; the learning rate in the state is the one used.
      shuffle: a new order of the kept rows every epoch, from the state's key and epoch; else ascending ids.
      mesh: of `parallel.row_mesh`: each step's rows are shared out among its devices, on all of which state and
        examples must lie (`parallel.replicate`).

    Returns:
      run_epoch(state, examples, mask (N,) boolean, batch () int, plan) -> (state, EpochStats), compiled once per
      `plan`. `batch` and `plan` come from `make_plan`; the mask has at least one row. `state` is donated.
    """
    return compile_on(epoch_function(network, optimizer, shuffle, mesh), mesh, static_argnums=(4,), donate_argnums=(0,))


def make_run_epoch(network: Network, optimizer: optax.GradientTransformation, shuffle: bool = False,
                   piece_limit: int = 64) -> Callable[..., tuple[TrainState, EpochStats]]:
    """Makes the epoch of one architecture and optimiser, which chooses the shape of its steps from the mask.

    The jobs of the library call `compile_epoch` and `make_plan` instead, which also share rows out among devices.

    Args:
      network: its pure functions, as from `from_flax`.
      optimizer: from `make_optimizer`.
      shuffle: a new order of the kept rows every epoch; else ascending ids.
      piece_limit: most rows that go through the network at once, where examples do not interact.

    Returns:
      run_epoch(state, examples, mask (N,) boolean, batch_size) -> (state, EpochStats). Steps have `batch_size` kept
      rows, the last one what is left; 0 is full gradient descent. `state` is donated. The mask is counted on the host,
      once an epoch; a mask without a row raises ValueError.
    """
    compiled = compile_epoch(network, optimizer, shuffle)

    def run_epoch(state: TrainState, examples: Examples, mask: jax.Array, batch_size: int) -> tuple[TrainState,
                                                                                                  EpochStats]:
        kept = int(jnp.sum(mask))
        if kept < 1:
            raise ValueError(f"expected a mask that keeps one row or more of {mask.shape[0]}, got one that keeps none")
        plan, batch = make_plan(batch_size, kept, piece_limit, network.batched, total=mask.shape[0])
        return compiled(state, examples, mask, jnp.int32(batch), plan)

    return run_epoch
