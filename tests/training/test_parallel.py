"""Rows shared out among four devices: the same training as on one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import WIDTHS, assert_trees_close, examples_of, small_arrays

from margin_jax.models.convnet import ConvNet
from margin_jax.models.network import from_flax
from margin_jax.parallel import ROWS, replicate, row_mesh
from margin_jax.training.epoch import Plan, compile_epoch, make_plan
from margin_jax.training.evaluate import make_evaluate
from margin_jax.training.state import make_optimizer, make_state

N, DEVICES = 23, 4
OPTIMIZER = make_optimizer("sgd", 0.05)


@functools.cache
def compiled_on(mesh, batch_norm):
    """Network and compiled epoch, shared by the tests: compiling is most of their time."""
    network = from_flax(ConvNet(3, WIDTHS, batch_norm, rows_axis=ROWS if mesh else None), batch_norm)
    return network, compile_epoch(network, OPTIMIZER, False, mesh)


@functools.cache
def evaluate_on(mesh, piece):
    return make_evaluate(compiled_on(mesh, True)[0], piece, mesh)


@functools.cache
def first_state(batch_norm):
    return jax.device_get(make_state(compiled_on(None, batch_norm)[0], OPTIMIZER, (8, 8, 3), 0))


def train(mesh, batch_norm, kept, plan, batch, epochs=3):
    run_epoch = compiled_on(mesh, batch_norm)[1]
    examples = replicate(examples_of(*small_arrays(N)), mesh)
    state = replicate(jax.tree.map(jnp.asarray, first_state(batch_norm)), mesh)
    for _ in range(epochs):
        state, stats = run_epoch(state, examples, np.arange(N) >= N - kept, np.int32(batch), plan)
    return state, stats


@pytest.mark.parametrize("batch_size,kept,limit,batch_norm", [
    (1, 5, 256, True), (3, 10, 256, True), (8, N, 256, True), (10, N, 256, True), (0, N, 256, True), (0, 17, 2, True),
    (10, N, 2, True), (0, 1, 256, True), (3, 10, 256, False), (0, N, 256, False)])
def test_four_devices_train_as_one(batch_norm, batch_size, kept, limit):
    plan, batch = make_plan(batch_size, kept, limit, batch_norm, DEVICES, N)
    many, seen_by_many = train(row_mesh(DEVICES), batch_norm, kept, plan, batch)
    # A single program for steps of every size on one device: rows beyond the step's own are padding.
    one, seen_by_one = train(None, batch_norm, kept, Plan(N, True), batch)
    assert_trees_close((many.params, many.batch_stats), (one.params, one.batch_stats), rtol=2e-4, atol=1e-5)
    assert seen_by_many.errors == seen_by_one.errors and seen_by_many.steps == seen_by_one.steps
    assert seen_by_many.bad_step == -1
    np.testing.assert_allclose(seen_by_many.margins, seen_by_one.margins, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(seen_by_many.loss, seen_by_one.loss, rtol=1e-4)


def test_every_device_holds_the_same_parameters():
    state, _ = train(row_mesh(DEVICES), True, N, *make_plan(10, N, 256, True, DEVICES, N))
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
    state = first_state(True)
    one = evaluate_on(None, N)(state.params, state.batch_stats, examples)
    many = evaluate_on(mesh, piece)(*replicate((state.params, state.batch_stats, examples), mesh))
    np.testing.assert_allclose(many.margins, one.margins, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(many.losses, one.losses, rtol=1e-5, atol=1e-6)
    assert many.margins.shape == (count,)


def test_a_mesh_has_no_more_devices_than_the_process():
    assert row_mesh(1) is None
    for count in (0, len(jax.local_devices()) + 1):
        with pytest.raises(ValueError, match="number of devices in 1.."):
            row_mesh(count)
