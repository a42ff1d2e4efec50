"""Which networks a sweep trains, and how many at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import examples_of, small_arrays, small_network

from margin_jax.backend import networks_at_once
from margin_jax.config import default_config
from margin_jax.experiments import many_networks
from margin_jax.experiments.job import Job
from margin_jax.experiments.sweep import chunks_of
from margin_jax.experiments.sweep_members import member_config, members
from margin_jax.training.state import make_optimizer, make_state


def config_of(**changes):
    config = default_config()
    config.sweep.update(changes)
    return config


def test_the_paper_s_sweep_is_twenty_deviations_of_five_seeds():
    chosen = members(config_of())
    stds = [member.init_std for member in chosen]
    np.testing.assert_allclose(sorted(set(stds)), np.linspace(0.01, 0.05, 20))
    assert [member.number for member in chosen] == [member.seed for member in chosen] == list(range(100))
    assert all(stds.count(std) == 5 for std in stds)


def test_other_settings_share_initial_weights():
    config = config_of(networks=24, seeds_per_std=2, learning_rates=(0.1, 0.01), random_fractions=(0.0, 0.5, 1.0))
    chosen = members(config)
    assert len({(m.init_std, m.seed) for m in chosen}) == 4 and len(set(chosen)) == 24
    assert len({(m.learning_rate, m.random_fraction) for m in chosen if m.seed == 3}) == 6
    own = member_config(config, chosen[-1])
    assert own.model.init == "normal" and own.model.init_std == 0.05 and own.seed == 3
    assert (own.optimizer.learning_rate, own.data.random_fraction) == (0.01, 1.0)
    assert own.sweep == default_config().sweep and config.optimizer.learning_rate == 0.01


@pytest.mark.parametrize(("draws", "expected"), [("shared", {7}), ("by_seed", {7, 8, 9})])
def test_random_labels_are_one_draw_or_one_for_each_seed(draws, expected):
    config = config_of(networks=6, init_stds=(), random_fractions=(0.0, 1.0), label_draws=draws)
    config.seed, config.data.random_seed = 3, 7
    alone = [member_config(config, member) for member in members(config)]
    assert {own.data.random_seed for own in alone} == expected
    assert all(own.data.random_seed == 7 + (own.seed - 3) * (draws == "by_seed") for own in alone)


@pytest.mark.parametrize("kinds", [(True, False), (False, True), (True,)])
def test_architectures_follow_one_another_and_share_seeds(kinds):
    config = config_of(networks=6 * len(kinds), init_stds=(), weight_decays=(0.0, 0.1), batch_norms=kinds)
    chosen = members(config)
    assert [m.batch_norm for m in chosen] == [kind for kind in kinds for _ in range(6)]
    assert [(m.seed, m.weight_decay) for m in chosen] == len(kinds) * [
        (seed, decay) for seed in range(3) for decay in (0.0, 0.1)]
    assert [m.number for m in chosen] == list(range(len(chosen)))
    assert [member_config(config, m).model.batch_norm for m in chosen] == [m.batch_norm for m in chosen]


@pytest.mark.parametrize("size", [1, 5, 6, 7, 12, 100])
def test_chunks_hold_one_architecture(size, tmp_path):
    chosen = members(config_of(networks=12, init_stds=(), weight_decays=(0.0, 0.1), batch_norms=(True, False)))
    chunks = chunks_of(tmp_path, chosen, size)
    assert [m for chunk in chunks for m in chunk.members] == chosen
    assert all(1 <= len(chunk.members) <= size and len({m.batch_norm for m in chunk.members}) == 1 for chunk in chunks)
    assert len(chunks) == 2 * -(-6 // size)
    assert [chunk.path.name for chunk in chunks] == [f"{number:03d}" for number in range(len(chunks))]


def test_without_deviations_networks_differ_in_seed_alone():
    chosen = members(config_of(networks=3, init_stds=()))
    assert [m.seed for m in chosen] == [0, 1, 2] and {m.init_std for m in chosen} == {None}
    assert member_config(config_of(), chosen[0]).model.init == default_config().model.init


@pytest.mark.parametrize("free,state,work,mapping,expected", [
    (1000, 10, 90, "vmap", 10), (1000, 10, 90, "loop", 91), (50, 10, 90, "vmap", 1), (50, 10, 90, "loop", 1)])
def test_as_many_networks_as_fit(free, state, work, mapping, expected):
    assert networks_at_once(free, state, work, mapping) == expected


def test_intermediate_values_are_counted_inside_loops_and_calls_too():
    x = jax.ShapeDtypeStruct((10, 4), jnp.float32)
    assert many_networks.intermediate_bytes(lambda x: x + 1, x) == 160
    assert many_networks.intermediate_bytes(jax.jit(lambda x: x + 1), x) == 160
    assert many_networks.intermediate_bytes(lambda x: (x @ x.T).sum(), x) >= 400


def test_work_grows_with_rows_and_a_given_chunk_is_taken():
    network, optimizer = small_network(), make_optimizer("sgd", 0.01)
    state = make_state(network, optimizer, (8, 8, 3), 0)
    small, large = (many_networks.work_bytes(network, state, (8, 8, 3), rows, 4) for rows in (8, 64))
    assert small < large < 8 * small
    images, labels = small_arrays(100)
    train = examples_of(images, labels)
    job = Job(network, optimizer, None, None, None, 50, 50, train, train, state)
    assert many_networks.chunk_size(config_of(chunk=17), job, network) == 17
    assert many_networks.chunk_size(config_of(), job, network) >= 4
