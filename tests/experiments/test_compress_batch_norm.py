"""BatchNorm after a removal: running statistics that follow, stay, or normalise the steps too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.interruptions import compression, last_checkpoint
from helpers.networks import assert_trees_equal, small_network

from margin_jax.experiments.compress import compress
from margin_jax.models.network import with_batch_norm


@pytest.fixture(name="normed", scope="module")
def _normed(tmp_path_factory):
    """Where the networks with BatchNorm lie that several tests start from."""
    return tmp_path_factory.mktemp("normed")


@pytest.mark.parametrize("mode", ["tracked", "frozen", "fixed"])
def test_running_statistics_after_the_removal_do_as_the_config_says(data, normed, tmp_path, mode):
    config = compression(data, model__batch_norm=True, compress__batch_norm=mode, compress__controls=("scratch",),
                         compress__epochs=1, compress__base=str(normed))
    compress(config, tmp_path / "run")
    states = [last_checkpoint(path)["state"] for path in (
        normed / "seed_0", *(tmp_path / "run" / "seed_0" / name for name in ("smallest_6", "smallest_6_scratch")))]
    before, after, scratch = ({name: layer["mean"] for name, layer in state["batch_stats"].items()} for state in states)
    changed = [not np.array_equal(before[name], after[name]) for name in before]
    assert all(changed) if mode == "tracked" else not any(changed)
    assert not np.array_equal(*(jax.tree.leaves(state["params"])[0] for state in states[:2]))
    assert all(np.any(mean != 0) for mean in scratch.values())  # a fresh network always follows its own data


def test_fixed_statistics_normalise_the_steps_too():
    """The first gradient is that of the network in evaluation mode, and no longer that of the batch's statistics."""
    network = small_network(batch_norm=True)
    params, stats = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    x, ones = jax.random.normal(jax.random.key(1), (5, 8, 8, 3)), jnp.ones(5)
    fixed, frozen = (with_batch_norm(network, mode) for mode in ("fixed", "frozen"))
    np.testing.assert_array_equal(fixed.forward(params, stats, x, ones)[0], network.logits(params, stats, x))
    np.testing.assert_array_equal(frozen.forward(params, stats, x, ones)[0], network.forward(params, stats, x, ones)[0])
    assert not np.allclose(*(n.forward(params, stats, x, ones)[0] for n in (fixed, frozen)))
    for one in (fixed, frozen):
        assert_trees_equal(one.forward(params, stats, x, ones)[1], stats)
    assert not fixed.batched and frozen.batched
    with pytest.raises(ValueError, match="tracked"):
        with_batch_norm(network, "off")
