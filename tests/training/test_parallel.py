"""Rows shared out among four devices: the same training as on one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import WIDTHS, assert_trees_close, examples_of, small_arrays

from margin_jax.models.convnet import ConvNet
from margin_jax.models.network import from_flax
from margin_jax.parallel import ROWS, replicate, row_mesh
from margin_jax.training.epoch import compile_epoch, make_plan
from margin_jax.training.evaluate import make_evaluate
from margin_jax.training.state import make_optimizer, make_state

N, DEVICES = 23, 4
OPTIMIZER = make_optimizer("sgd", 0.05)


def network_on(mesh, batch_norm):
    return from_flax(ConvNet(3, WIDTHS, batch_norm, rows_axis=ROWS if mesh else None), batch_norm)


def train(mesh, batch_norm, batch_size, kept, limit, epochs=3):
    network, images = network_on(mesh, batch_norm), small_arrays(N)
    examples = replicate(examples_of(*images), mesh)
    state = replicate(make_state(network, OPTIMIZER, (8, 8, 3), 0), mesh)
    run_epoch = compile_epoch(network, OPTIMIZER, False, mesh)
    plan, batch = make_plan(batch_size, kept, limit, batch_norm, 1 if mesh is None else mesh.size, N)
    for _ in range(epochs):
        state, stats = run_epoch(state, examples, jnp.arange(N) >= N - kept, jnp.int32(batch), plan)
    return state, stats


@pytest.mark.parametrize("batch_size,kept,limit,batch_norm", [
    (1, 5, 256, True), (3, 10, 256, True), (8, N, 256, True), (10, N, 256, True), (0, N, 256, True), (0, 17, 2, True),
    (10, N, 2, True), (0, 1, 256, True), (3, 10, 256, False), (0, N, 256, False)])
def test_four_devices_train_as_one(batch_norm, batch_size, kept, limit):
    one, seen_by_one = train(None, batch_norm, batch_size, kept, limit)
    many, seen_by_many = train(row_mesh(DEVICES), batch_norm, batch_size, kept, limit)
    assert_trees_close((many.params, many.batch_stats), (one.params, one.batch_stats), rtol=2e-4, atol=1e-5)
    assert seen_by_many.errors == seen_by_one.errors and seen_by_many.steps == seen_by_one.steps
    assert seen_by_many.bad_step == -1
    np.testing.assert_allclose(seen_by_many.margins, seen_by_one.margins, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(seen_by_many.loss, seen_by_one.loss, rtol=1e-4)


def test_every_device_holds_the_same_parameters():
    state, _ = train(row_mesh(DEVICES), True, 10, N, 256)
    for leaf in jax.tree.leaves((state.params, state.batch_stats)):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == DEVICES
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0])


@pytest.mark.parametrize("count", [1, 3, 4, 5, N])
@pytest.mark.parametrize("piece", [1, 4, 50])
def test_the_pass_over_all_data_is_that_of_one_device(count, piece):
    mesh, arrays = row_mesh(DEVICES), small_arrays(N)
    examples = examples_of(arrays[0][:count], arrays[1][:count])
    network = network_on(None, True)
    state = make_state(network, OPTIMIZER, (8, 8, 3), 1)
    one = make_evaluate(network, piece)(state.params, state.batch_stats, examples)
    many = make_evaluate(network_on(mesh, True), piece, mesh)(
        *replicate((state.params, state.batch_stats, examples), mesh))
    np.testing.assert_allclose(many.margins, one.margins, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(many.losses, one.losses, rtol=1e-5, atol=1e-6)
    assert many.margins.shape == (count,)


def test_a_mesh_has_no_more_devices_than_the_process():
    assert row_mesh(1) is None
    for count in (0, len(jax.local_devices()) + 1):
        with pytest.raises(ValueError, match="number of devices in 1.."):
            row_mesh(count)
