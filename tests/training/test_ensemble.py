"""Many networks together: each as if alone, whatever their number and whatever becomes of the others."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import assert_trees_close, assert_trees_equal, examples_of, small_arrays, small_network

from margin_jax.training.ensemble import MAPPINGS, join, make_ensemble, make_states
from margin_jax.training.epoch import compile_epoch, make_plan
from margin_jax.training.evaluate import make_evaluate
from margin_jax.training.state import make_optimizer, make_state

N, KEPT, BATCH, PIECE = 23, 17, 5, 4
OPTIMIZER = make_optimizer("sgd", 0.05)
MASK = np.arange(N) >= N - KEPT


@functools.cache
def ensemble_of(network, shuffle, devices, mapping):
    return make_ensemble(network, OPTIMIZER, shuffle, PIECE, jax.devices()[:devices], mapping)


@functools.cache
def programs_of(network, shuffle):
    """Epoch and evaluation of one network, traced once for all that are trained alone."""
    return compile_epoch(network, OPTIMIZER, shuffle), make_evaluate(network, PIECE)


def together(network, states, count, mapping, shuffle=False, epochs=2, devices=4, labels=None):
    ensemble = ensemble_of(network, shuffle, devices, mapping)
    plan, batch = make_plan(BATCH, KEPT, 256, network.batched)
    examples, batch = ensemble.copy((examples_of(*small_arrays(N)), np.int32(batch)))
    labels = np.tile(small_arrays(N)[1], (count, 1)) if labels is None else labels
    examples = examples._replace(labels=ensemble.place(labels))
    states, mask = ensemble.place(states), ensemble.place(np.tile(MASK, (count, 1)))
    for _ in range(epochs):
        states, stats = ensemble.run_epoch(states, examples, mask, batch, plan)
    found = ensemble.evaluate(states.params, states.batch_stats, examples)
    return join((states, stats, found), count)


def alone(network, state, shuffle=False, epochs=2, labels=None):
    run_epoch, evaluate = programs_of(network, shuffle)
    plan, batch = make_plan(BATCH, KEPT, 256, network.batched)
    images, own = small_arrays(N)
    examples = examples_of(images, own if labels is None else labels)
    for _ in range(epochs):
        state, stats = run_epoch(state, examples, jnp.asarray(MASK), jnp.int32(batch), plan)
    return state, stats, evaluate(state.params, state.batch_stats, examples)


@pytest.mark.parametrize("mapping,count,devices,batch_norm,shuffle", [
    ("vmap", 1, 4, False, False), ("vmap", 4, 4, False, True), ("vmap", 6, 4, True, False), ("loop", 4, 4, True, True),
    ("loop", 6, 4, True, False), ("loop", 3, 1, False, False)])
def test_each_network_is_trained_as_if_alone(mapping, count, devices, batch_norm, shuffle):
    network, seeds = small_network(batch_norm=batch_norm), list(range(10, 10 + count))
    states = make_states(network, OPTIMIZER, (8, 8, 3), seeds)
    # Each its own learning rate, weight decay and labels, as data.
    own = {"learning_rate": jnp.linspace(0.01, 0.05, count), "weight_decay": jnp.linspace(0, 0.1, count)}
    states.opt_state.hyperparams.update(own)
    labels = (small_arrays(N)[1] + np.arange(count)[:, None]).astype(np.int32) % 3
    found = together(network, states, count, mapping, shuffle, devices=devices, labels=labels)
    for r in {0, count - 1}:
        state = make_state(network, OPTIMIZER, (8, 8, 3), seeds[r])
        state.opt_state.hyperparams.update({name: values[r] for name, values in own.items()})
        expected = alone(network, state, shuffle, labels=labels[r])
        assert_trees_close(jax.tree.map(lambda leaf, r=r: leaf[r], found), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_network_that_diverges_leaves_the_others_as_they_are(mapping):
    network = small_network()
    states = make_states(network, OPTIMIZER, (8, 8, 3), range(5))
    healthy = together(network, states, 5, mapping, devices=2)
    spoilt = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan) if leaf.dtype == jnp.float32 else leaf, states.params)
    found = together(network, states._replace(params=spoilt), 5, mapping, devices=2)
    assert found[1].bad_step.tolist() == [-1, 0, -1, -1, -1]
    others = np.array([0, 2, 3, 4])
    assert_trees_equal(*(jax.tree.map(lambda leaf: leaf[others], run) for run in (healthy, found)))


def test_unknown_mappings_and_no_devices_are_refused():
    for devices, mapping in ((jax.devices(), "scan"), ([], "loop")):
        with pytest.raises(ValueError, match="expected a mapping of"):
            make_ensemble(small_network(), OPTIMIZER, False, PIECE, devices, mapping)
