"""Our side of the benchmark: the library's own functions, called as `margin_jax.experiments` calls them.

Each function sets up one piece of work, with data and parameters on the device, and returns it as a `Work`, a call that
comes back when the results are there. Images are 32 x 32 x 3 with ten classes, the network is the described ConvNet
where no other is named.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax import backend
from margin_jax.backend import ensemble_mapping, evaluation_piece, training_piece
from margin_jax.bench.timing import Work
from margin_jax.config import default_config
from margin_jax.models.convnet import DESCRIBED
from margin_jax.models.network import Network, make_network
from margin_jax.parallel import ROWS, compile_on, map_pieces, replicate, row_mesh, size_of
from margin_jax.training.ensemble import make_ensemble, make_states
from margin_jax.training.epoch import compile_epoch, make_plan
from margin_jax.training.evaluate import make_evaluate
from margin_jax.training.state import Examples, examples_of_arrays, make_optimizer, make_state, standardised

SHAPE = (32, 32, 3)


@functools.cache
def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random pictures of CIFAR's shape, since times do not depend on what is in them.

    Returns:
      (N, 32, 32, 3) uint8 and labels (N,) int32 in 0..9, for N = `count`; the same at every call.
    """
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *SHAPE), dtype=np.uint8), rng.integers(0, 10, count).astype(np.int32)


def _examples(count: int) -> Examples:
    return examples_of_arrays(*pictures(count), np.full(3, 120.0), np.full(3, 60.0))


def _network(batch_norm: bool, mesh: Any = None, mapped: bool = False,
             section: Mapping[str, Any] = DESCRIBED) -> Network:
    model = default_config().model
    model.update(dict(section), batch_norm=batch_norm)
    return make_network(model, 10, jax.default_backend(), mapped, ROWS if mesh else None)


def _mesh(batch: int, devices: int) -> Any:
    available = len(jax.local_devices())
    return row_mesh(devices or backend.training_devices(batch, jax.default_backend(), available))


def epoch(count: int, batch: int, batch_norm: bool, kept: int = 0, devices: int = 0,
          section: Mapping[str, Any] = DESCRIBED) -> Work:
    """One training epoch.

    Args:
      count: N.
      batch: rows per step, 0 for all kept.
      batch_norm: after each convolution.
      kept: rows of the mask that are true, 0 for all.
      devices: 0 for the library's own choice.
      section: what the config's section `model` says of a ConvNet.

    Returns:
      The work; every call trains on from where the last one ended.

    Raises:
      ValueError: more devices than the process has.
    """
    mesh, optimizer, kept = _mesh(batch, devices), make_optimizer("sgd", 0.001), kept or count
    network = _network(batch_norm, mesh, section=section)
    run_epoch = compile_epoch(network, optimizer, False, mesh)
    plan, rows = make_plan(batch, kept, backend.training_piece(jax.default_backend()), batch_norm, size_of(mesh), count)
    examples, mask, rows = replicate((_examples(count), jnp.arange(count) < kept, jnp.int32(rows)), mesh)
    box = [replicate(make_state(network, optimizer, SHAPE, 0), mesh)]

    def work() -> None:
        box[0], stats = run_epoch(box[0], examples, mask, rows, plan)
        jax.block_until_ready((box[0], stats))

    return work


def margin_pass(count: int, batch_norm: bool) -> Work:
    """Margins and losses of N = `count` examples, in evaluation mode."""
    mesh, optimizer = _mesh(0, 0), make_optimizer("sgd", 0.001)
    network = _network(batch_norm, mesh)
    evaluate = make_evaluate(network, backend.evaluation_piece(jax.default_backend()), mesh)
    state, examples = replicate((make_state(network, optimizer, SHAPE, 0), _examples(count)), mesh)
    return lambda: jax.block_until_ready(evaluate(state.params, state.batch_stats, examples))


def forward_pass(count: int, batch_norm: bool) -> Work:
    """Logits of N = `count` examples, in evaluation mode, and nothing else."""
    mesh, optimizer = _mesh(0, 0), make_optimizer("sgd", 0.001)
    network, piece = _network(batch_norm, mesh), backend.evaluation_piece(jax.default_backend())
    share = count // size_of(mesh)

    def logits(state: Any, examples: Examples) -> jax.Array:
        first = jax.lax.axis_index(ROWS) * share if mesh else 0
        images = jax.lax.dynamic_slice_in_dim(examples.images, first, share)
        return map_pieces(lambda rows: network.logits(state.params, state.batch_stats, standardised(rows, examples)),
                          (images,), piece)

    forward = compile_on(logits, mesh, per_device=True)
    arguments = replicate((make_state(network, optimizer, SHAPE, 0), _examples(count)), mesh)
    return lambda: jax.block_until_ready(forward(*arguments))


def networks_together(networks: int, count: int, batch: int) -> Work:
    """One epoch of many networks without BatchNorm in one program.

    Args:
      networks: how many.
      count: N, examples that each is trained on.
      batch: rows per step, 0 for all.
    """
    network, optimizer = _network(False, mapped=True), make_optimizer("sgd", 0.001)
    backend = jax.default_backend()
    ensemble = make_ensemble(network, optimizer, False, evaluation_piece(backend),
                             jax.local_devices()[:networks], ensemble_mapping(backend))
    plan, rows = make_plan(batch, count, training_piece(backend), False)
    data = _examples(count)
    examples, rows = ensemble.copy((data._replace(labels=np.int32(0)), np.int32(rows)))
    examples = examples._replace(labels=ensemble.place(np.tile(data.labels, (networks, 1))))
    masks = ensemble.place(np.ones((networks, count), bool))
    box = [ensemble.place(make_states(network, optimizer, SHAPE, range(networks)))]

    def work() -> None:
        box[0], stats = ensemble.run_epoch(box[0], examples, masks, rows, plan)
        jax.block_until_ready((box[0], stats))

    return work
