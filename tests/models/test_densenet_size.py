"""Layers and parameters of DenseNet-BC: published numbers, and those of the networks that configs build."""

import jax
import jax.numpy as jnp
import pytest

from margin_jax.config import default_config
from margin_jax.errors import InputError
from margin_jax.models.densenet import DenseNetBC, transition_channels
from margin_jax.models.network import from_flax, make_network
from margin_jax.validation import validate


def size(network, channels=3):
    """Layers (convolutions and the dense layer) and parameters of a network, by tracing its initialisation."""
    params, _ = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, channels)))
    leaves = jax.tree.leaves(params)
    return sum(leaf.ndim > 1 for leaf in leaves), sum(leaf.size for leaf in leaves)


def size_by_hand(blocks, growth, reduction, stem, classes, channels, biases):
    """The same, layer by layer from the paper's description."""
    width = stem or 2 * growth
    layers, parameters = 1, 9 * channels * width
    for block, depth in enumerate(blocks):
        if block:  # BatchNorm, and 1x1 to a share of the channels
            kept = int(reduction * width + 1e-9)
            layers, parameters, width = layers + 1, parameters + 2 * width + width * kept, kept
        for _ in range(depth):  # BatchNorm, 1x1 to four times the growth, BatchNorm, 3x3 to the growth
            inner = 4 * growth
            parameters += 2 * width + width * inner + 2 * inner + 9 * inner * growth
            layers, width = layers + 2, width + growth
    return layers + 1, parameters + 2 * width + (width + biases) * classes


@pytest.mark.parametrize("blocks,growth,classes,layers,millions", [
    ((16, 16, 16), 12, 10, 100, 0.8), ((41, 41, 41), 24, 10, 250, 15.3), ((31, 31, 31), 40, 10, 190, 25.6),
    ((16, 16, 16), 12, 100, 100, 0.8), ((41, 41, 41), 24, 100, 250, 15.5), ((31, 31, 31), 40, 100, 190, 25.8)])
def test_the_count_by_hand_gives_the_published_numbers(blocks, growth, classes, layers, millions):
    """So that what networks are compared with below is the paper's count; tracing 250 layers takes ten seconds."""
    depth, parameters = size_by_hand(blocks, growth, 0.5, 0, classes, 3, True)
    assert depth == layers and round(parameters / 1e6, 1) == millions


def test_the_default_has_97_layers_and_the_published_network_its_size():
    assert size(from_flax(DenseNetBC(10))) == (97, 649_968)
    assert size(from_flax(DenseNetBC(10, (16, 16, 16), 12, stem=24, biases=True))) == (100, 769_162)


@pytest.mark.parametrize("blocks,growth,reduction,stem,classes,channels,biases", [
    ((1,), 1, 0.5, 0, 2, 1, False), ((1, 2), 3, 0.7, 5, 3, 3, True), ((2, 1, 3), 4, 1.0, 7, 10, 1, False),
    ((2, 2), 5, 0.29, 90, 4, 3, True)])
def test_a_config_builds_a_network_of_the_size_that_the_paper_describes(blocks, growth, reduction, stem, classes,
                                                                       channels, biases):
    config = default_config()
    config.model.update({"name": "densenet", "batch_norm": True, "blocks": blocks, "growth": growth,
                         "reduction": reduction, "stem": stem, "biases": biases})
    validate(config)
    built = make_network(config.model, classes, "cpu")
    assert built.batched
    assert size(built, channels) == size_by_hand(blocks, growth, reduction, stem, classes, channels, biases)
    params, stats = jax.eval_shape(built.init, jax.random.key(0), jnp.zeros((1, 8, 8, channels)))
    assert jax.eval_shape(built.logits, params, stats, jnp.zeros((2, 1, 1, channels))).shape == (2, classes)


def test_a_transition_rounds_down_what_was_meant_and_keeps_a_channel():
    assert [transition_channels(*given) for given in ((96, 0.5), (7, 0.5), (100, 0.29), (10, 0.7))] == [48, 3, 29, 7]
    with pytest.raises(InputError, match="reduction 0.1 leaves no channel of the 9"):
        transition_channels(9, 0.1)
