"""Many networks of one architecture, trained in one program: on every device its share of them.

`jax.pmap` goes across devices. Within a device the networks run under `jax.vmap`, which turns their matmuls into
batched ones, or one after another in a loop, which on a CPU is faster, since one network already fills a core and
several do not fit its cache (docs/performance.md). A count that the devices do not divide is padded with copies of the
last network.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from margin_jax.models.network import BatchStats, Network, Params
from margin_jax.training.epoch import Plan, epoch_function
from margin_jax.training.evaluate import Evaluation, Outputs, evaluate_function, outputs_function
from margin_jax.training.state import EpochStats, Examples, TrainState, make_state

NETWORKS = "networks"
MAPPINGS = ("vmap", "loop")


class Ensemble(NamedTuple):
    """Compiled functions for K networks on D devices, S = ceil(K / D) on each; leaves are (D, S, ...) or (D, ...).

    Examples are (D, ...) but for the labels, (D, S, N), or with an index for that alone, (D, S, N).

    Attributes:
      place: pytree (K, ...) -> (D, S, ...), padded, each part on its device.
      copy: pytree (...) -> (D, ...), the same on every device.
      run_epoch: (states (D, S, ...), examples, masks (D, S, N), batch (D,), plan) -> states and EpochStats,
        (D, S). One batch size for all networks; `plan` as from `epoch.make_plan` serves masks of one count. A
        network whose mask is empty rests: its state stays but for the epoch. The states are donated.
      evaluate: (params (D, S, ...), batch_stats, examples) -> Evaluation (D, S, N).
      evaluate_rows: the same with rows (D, S, k) int32 of each network as last argument -> Evaluation (D, S, k).
      outputs: (params, batch_stats, examples (D, ...)) -> Outputs (D, S, M) of all M rows, whatever the index.
    """

    place: Callable[[Any], Any]
    copy: Callable[[Any], Any]
    run_epoch: Callable[[TrainState, Examples, jax.Array, jax.Array, Plan], tuple[TrainState, EpochStats]]
    evaluate: Callable[[Params, BatchStats, Examples], Evaluation]
    evaluate_rows: Callable[[Params, BatchStats, Examples, jax.Array], Evaluation]
    outputs: Callable[[Params, BatchStats, Examples], Outputs]


def join(tree: Any, count: int) -> Any:
    """Leaves (D, S, ...) as NumPy arrays (K, ...) for K = `count`: the order that was placed, without padding.

    On the host: a reshape across devices is an exchange between them, and XLA's CPU devices, of which one may still be
    busy, wait for one another no longer than 40 seconds before they end the process.
    """
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:])[:count], tree)


def make_states(network: Network, optimizer: optax.GradientTransformation, image_shape: tuple[int, ...],
                seeds: Sequence[int]) -> TrainState:
    """Fresh networks, leaves (K, ...); network r is `state.make_state(network, optimizer, image_shape, seeds[r])`.

    What else differs between networks is a leaf too: `opt_state.hyperparams["learning_rate"]` is (K,).
    """
    states = [make_state(network, optimizer, image_shape, seed) for seed in seeds]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def _mapped(fn: Callable[[Any], Any], mapping: str) -> Callable[[Any], Any]:
    return jax.vmap(fn) if mapping == "vmap" else lambda tree: lax.map(fn, tree)


def _separate(examples: Examples) -> dict[str, jax.Array]:
    """What of the examples each network has for itself."""
    return {"labels": examples.labels} if examples.index is None else {"index": examples.index}


def make_ensemble(network: Network, optimizer: optax.GradientTransformation, shuffle: bool, piece: int,
                  devices: Sequence[jax.Device], mapping: str) -> Ensemble:
    """Compiles training and measuring of many networks.

    Args:
      network: its pure functions, for one device (no axis of rows).
      optimizer: from `make_optimizer`.
      shuffle: each network's own order of the rows, from its own key.
      piece: rows at once in the pass over all data.
      devices: D devices; networks are shared out among them.
      mapping: one of MAPPINGS, within a device.

    Returns:
      The functions; network r is trained as if alone, to float rounding, whatever becomes of the others.

    Raises:
      ValueError: unknown mapping, or no device.
    """
    if mapping not in MAPPINGS or not devices:
        raise ValueError(f"expected a mapping of {MAPPINGS} and devices, got {mapping!r} and {len(devices)} devices")
    epoch, measure = epoch_function(network, optimizer, shuffle), evaluate_function(network, piece)
    give = outputs_function(network, piece)
    sharding = NamedSharding(Mesh(np.array(devices), (NETWORKS,)), PartitionSpec(NETWORKS))

    def run_epoch(states: TrainState, examples: Examples, masks: jax.Array, batch: jax.Array,
                  plan: Plan) -> tuple[TrainState, EpochStats]:
        def of_network(leaves: tuple[TrainState, jax.Array, dict[str, jax.Array]]) -> tuple[TrainState, EpochStats]:
            state, mask, separate = leaves
            return epoch(state, examples._replace(**separate), mask, batch, plan)

        return _mapped(of_network, mapping)((states, masks, _separate(examples)))

    def evaluate(params: Params, batch_stats: BatchStats, examples: Examples) -> Evaluation:
        def of_network(leaves: tuple[Params, BatchStats, jax.Array]) -> Evaluation:
            params, batch_stats, labels = leaves
            return measure(params, batch_stats, examples._replace(labels=labels))

        return _mapped(of_network, mapping)((params, batch_stats, examples.labels))

    def evaluate_rows(params: Params, batch_stats: BatchStats, examples: Examples, rows: jax.Array) -> Evaluation:
        def of_network(leaves: tuple[Params, BatchStats, jax.Array, jax.Array]) -> Evaluation:
            params, batch_stats, labels, rows = leaves
            return measure(params, batch_stats, examples._replace(images=examples.images[rows], labels=labels[rows]))

        return _mapped(of_network, mapping)((params, batch_stats, examples.labels, rows))

    def outputs(params: Params, batch_stats: BatchStats, examples: Examples) -> Outputs:
        return _mapped(lambda leaves: give(*leaves, examples), mapping)((params, batch_stats))

    def place(tree: Any) -> Any:
        def padded(leaf: Any) -> np.ndarray:
            leaf = np.asarray(leaf)
            share = -(-len(leaf) // len(devices))
            rows = np.minimum(np.arange(share * len(devices)), len(leaf) - 1)
            return leaf[rows].reshape(len(devices), share, *leaf.shape[1:])

        return jax.device_put(jax.tree.map(padded, tree), sharding)

    def copy(tree: Any) -> Any:
        return jax.device_put(jax.tree.map(
            lambda leaf: np.broadcast_to(np.asarray(leaf)[None], (len(devices), *np.shape(leaf))), tree), sharding)

    return Ensemble(place, copy,
                    jax.pmap(run_epoch, NETWORKS, devices=devices, static_broadcasted_argnums=4, donate_argnums=0),
                    *(jax.pmap(fn, NETWORKS, devices=devices) for fn in (evaluate, evaluate_rows, outputs)))
