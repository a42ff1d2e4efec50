"""Layers and parameters of DenseNet-BC: published numbers, and those of the networks that configs build."""

import jax
import jax.numpy as jnp
import pytest

from margin_jax.config import default_config, validate
from margin_jax.errors import InputError
from margin_jax.models.densenet import count_layers, count_parameters, transition_channels
from margin_jax.models.network import make_network


@pytest.mark.parametrize("blocks,growth,classes,layers,millions", [
    ((16, 16, 16), 12, 10, 100, 0.8), ((41, 41, 41), 24, 10, 250, 15.3), ((31, 31, 31), 40, 10, 190, 25.6),
    ((16, 16, 16), 12, 100, 100, 0.8), ((41, 41, 41), 24, 100, 250, 15.5), ((31, 31, 31), 40, 100, 190, 25.8)])
def test_published_numbers_of_layers_and_parameters(blocks, growth, classes, layers, millions):
    assert count_layers(blocks) == layers
    assert round(count_parameters(blocks, growth, 0.5, 0, classes, 3, True) / 1e6, 1) == millions


def test_the_default_has_97_layers():
    assert count_layers((6, 12, 12, 16)) == 97
    assert count_parameters((6, 12, 12, 16), 12, 0.5, 0, 10, 3, False) == 649_968
    assert count_parameters((16, 16, 16), 12, 0.5, 24, 10, 3, True) == 769_162


@pytest.mark.parametrize("blocks,growth,reduction,stem,classes,channels,biases", [
    ((1,), 1, 0.5, 0, 2, 1, False), ((1, 2), 3, 0.7, 5, 3, 3, True), ((2, 1, 3), 4, 1.0, 7, 10, 1, False),
    ((2, 2), 5, 0.29, 90, 4, 3, True)])
def test_config_builds_a_network_of_the_counted_size(blocks, growth, reduction, stem, classes, channels, biases):
    config = default_config()
    config.model.update({"name": "densenet", "batch_norm": True, "blocks": blocks, "growth": growth,
                         "reduction": reduction, "stem": stem, "biases": biases})
    validate(config)
    built = make_network(config.model, classes, "cpu")
    params, stats = jax.eval_shape(built.init, jax.random.key(0), jnp.zeros((1, 8, 8, channels)))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count_parameters(blocks, growth, reduction, stem,
                                                                                  classes, channels, biases)
    weights = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    assert built.batched and len(weights) == count_layers(blocks)
    assert jax.eval_shape(built.logits, params, stats, jnp.zeros((2, 1, 1, channels))).shape == (2, classes)


def test_a_transition_rounds_down_what_was_meant_and_keeps_a_channel():
    assert [transition_channels(*given) for given in ((96, 0.5), (7, 0.5), (100, 0.29), (10, 0.7))] == [48, 3, 29, 7]
    with pytest.raises(InputError, match="reduction 0.1 leaves no channel of the 9"):
        transition_channels(9, 0.1)
