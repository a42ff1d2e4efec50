"""ConvNets of other geometries: sizes, logits, norms and paths against NumPy float64, and what does not fit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import reference
from helpers.operators import dense_matrix

from configs.networks import NETWORKS
from configs.networks import get_config as network_config
from margin_jax.errors import InputError
from margin_jax.models.convnet import ConvNet, Geometry, convnet_layers, fold_batch_norm
from margin_jax.models.network import from_flax, geometry_of, make_network
from margin_jax.theory import complexity, norms
from margin_jax.theory.complexity import log_path_norm, network_norms
from margin_jax.theory.measures import Trained, compute_measures
from margin_jax.validation import validate

POOLED = Geometry((1, 1, 2), "valid", (0, 2))
IMAGE = (13, 12, 2)


def random_network(batch_norm=False, biases=True, dense=(5,)):
    network = from_flax(ConvNet(3, (3, 4, 2), batch_norm, biases, kernel=2, geometry=POOLED, dense=dense), batch_norm)
    params, stats = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, *IMAGE)))
    rng = np.random.default_rng(0)
    draw = lambda low, high: lambda leaf: jnp.asarray(rng.uniform(low, high, leaf.shape), jnp.float32)  # noqa: E731
    return network, jax.tree.map(draw(-1, 1), params), jax.tree.map(draw(0.2, 2), stats)


@pytest.mark.parametrize("name,batch_norm,classes,count", [
    ("candidate", True, 10, 273_546), ("candidate", False, 10, 272_842), ("candidate", True, 2, 247_938),
    ("described", False, 10, 102_320)])
def test_networks_by_name_have_the_documented_sizes(name, batch_norm, classes, count):
    config = network_config(name)
    config.model.batch_norm = batch_norm
    validate(config)
    network = make_network(config.model, classes, "cpu")
    params, _ = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    if name == "candidate":
        layers = convnet_layers(fold_batch_norm(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), params)), (32, 32, 3),
                                geometry_of(config.model))
        assert [layer.shape[0] for layer in layers.values()] == [32, 30, 14, 12, 3200]


def numpy_logits(params, x):
    for number in range(3):
        layer = params[f"conv_{number}"]
        x = np.maximum(reference.conv_forward(x, layer["kernel"], POOLED.strides[number], 0) + layer["bias"], 0)
        x = reference.max_pool(x) if number in POOLED.pooling else x
    x = x.reshape(len(x), -1)
    for name in ("hidden_0", "dense"):
        x = np.maximum(x, 0) @ params[name]["kernel"] + params[name]["bias"]
    return x


def test_logits_and_features_are_those_of_loops_in_numpy():
    network, params, _ = random_network()
    x = np.random.default_rng(1).normal(size=(4, *IMAGE))
    exact = numpy_logits(jax.tree.map(np.float64, params), x)
    np.testing.assert_allclose(jax.jit(network.logits)(params, {}, jnp.asarray(x, jnp.float32)), exact, rtol=2e-5,
                               atol=1e-5)
    features = jax.jit(network.features)(params, {}, jnp.asarray(x, jnp.float32))
    assert features.shape == (4, 5) and features.min() >= 0  # of the hidden layer, after its ReLU
    last = jax.tree.map(np.float64, params["dense"])
    np.testing.assert_allclose(np.asarray(features) @ last["kernel"] + last["bias"], exact, rtol=2e-5, atol=1e-5)


def test_without_biases_it_is_homogeneous_in_all_its_layers():
    network, params, _ = random_network(biases=False)
    x = jax.random.normal(jax.random.key(2), (3, *IMAGE))
    logits = jax.jit(network.logits)
    scaled = logits(jax.tree.map(lambda leaf: 1.5 * leaf, params), {}, x)
    np.testing.assert_allclose(scaled, 1.5**5 * logits(params, {}, x), rtol=1e-4)
    unit = jax.tree.map(lambda leaf: leaf / norms.layer_norm(leaf), params)
    np.testing.assert_allclose(logits(params, {}, x) / norms.rho(params), logits(unit, {}, x), rtol=1e-4, atol=1e-7)


def test_a_folded_network_with_pooling_and_hidden_layers_has_the_same_logits():
    network, params, stats = random_network(batch_norm=True, biases=False)
    plain, _, _ = random_network()
    x = jax.random.normal(jax.random.key(3), (4, *IMAGE))
    np.testing.assert_allclose(jax.jit(plain.logits)(fold_batch_norm(params, stats), {}, x),
                               jax.jit(network.logits)(params, stats, x), rtol=1e-4, atol=1e-4)


def test_norms_are_those_of_the_dense_matrices():
    _, params, _ = random_network()
    initial = jax.tree.map(lambda leaf: 0.5 * leaf, params)
    measured = network_norms(params, initial, {}, IMAGE, POOLED)
    shapes = {"conv_0": (13, 12, 2), "conv_1": (6, 5, 3), "conv_2": (5, 4, 4)}
    matrices = {name: dense_matrix(params[name]["kernel"], shape, POOLED.strides[number], 0)
                for number, (name, shape) in enumerate(shapes.items())}
    matrices |= {name: np.float64(params[name]["kernel"]).T for name in ("dense", "hidden_0")}
    order = [name.removesuffix("/kernel") for name in norms.layer_norms(params)]
    for values, norm in ((measured.spectral, lambda a: np.linalg.norm(a, 2)),
                         (measured.moved, lambda a: 0.5 * np.linalg.norm(a, axis=1).sum())):
        np.testing.assert_allclose(values, [norm(matrices[name]) for name in order], rtol=1e-5)


def test_measures_of_a_trained_network_follow_its_geometry():
    network, params, _ = random_network()
    x, labels = jax.random.normal(jax.random.key(4), (6, *IMAGE)), jnp.arange(6) % 3
    values = compute_measures(Trained(params, {}, IMAGE, params, POOLED), network.logits(params, {}, x), labels)
    spectral = network_norms(params, params, {}, IMAGE, POOLED).spectral
    np.testing.assert_allclose(values["log_spectral_product"], 2 * np.log(np.float64(spectral)).sum(), rtol=1e-6)
    with pytest.raises(ValueError, match="odd kernel"):
        compute_measures(Trained(params, {}, IMAGE, params), network.logits(params, {}, x), labels)


def test_the_path_norm_counts_a_path_through_each_pixel_that_is_pooled():
    rng = np.random.default_rng(0)
    params = {"conv_0": {"kernel": jnp.asarray(rng.normal(size=(2, 2, 1, 2)), jnp.float32)},
              "dense": {"kernel": jnp.asarray(rng.normal(size=(2, 3)), jnp.float32)}}
    kernel, dense = (np.float64(params[name]["kernel"]) for name in params)
    total = 0.0
    for top, left in itertools.product(range(2), repeat=2):  # the four pixels that the pooling sees, of 3x3 given ones
        for i, j, channel, output in itertools.product(range(2), range(2), range(2), range(3)):
            assert top + i < 3 and left + j < 3
            total += kernel[i, j, 0, channel]**2 * dense[channel, output]**2
    layers = convnet_layers(params, (3, 3, 1), Geometry((1,), "valid", (0,)))
    np.testing.assert_allclose(log_path_norm(list(layers.values())), 0.5 * np.log(total), rtol=1e-5)


@pytest.mark.parametrize("geometry,size,image,message", [
    (Geometry((1, 1)), 3, (8, 8, 1), "a stride for each of the 3"),
    (Geometry((), "same", (3,)), 3, (8, 8, 1), r"0\.\.2"),
    (Geometry(), 2, (8, 8, 1), "odd kernel"),
    (Geometry((1, 1, 1), "valid"), 3, (6, 9, 1), "convolution 2 is given 2x5"),
    (Geometry((), "same", (0, 1, 2)), 3, (16, 16, 1), "convolution 2 is given 1x1")])
def test_a_geometry_that_does_not_fit_is_refused(geometry, size, image, message):
    network = ConvNet(2, (1, 1, 1), kernel=size, geometry=geometry)
    with pytest.raises(InputError, match=message):
        jax.eval_shape(lambda key: network.init(key, jnp.zeros((1, *image)), True, jnp.ones(1)), jax.random.key(0))
    params = {f"conv_{k}": {"kernel": jnp.ones((size, size, 1, 1))} for k in range(3)}
    with pytest.raises(InputError, match=message):
        convnet_layers(params | {"dense": {"kernel": jnp.ones((1, 2))}}, image, geometry)


@pytest.mark.parametrize("changes,message", [
    ({"strides": (1, 1)}, "model.strides.*4 convolutions"), ({"pooling": (4,)}, "model.pooling"),
    ({"pooling": (1, 1)}, "model.pooling"), ({"padding": "full"}, "model.padding"), ({"kernel": 2}, "model.kernel"),
    ({"kernel": 0}, "model.kernel"), ({"dense": (0,)}, "model.dense")])
def test_a_config_that_no_network_has_is_refused(changes, message):
    config = network_config("described")
    config.model.update(changes)
    with pytest.raises(InputError, match=message):
        validate(config)


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match=", ".join(NETWORKS)):
        network_config("paper")


def test_logits_and_spectral_norms_are_lowered_to_full_precision_on_a_gpu():
    network, params, _ = random_network()
    lowered = [jax.export.export(jax.jit(fn), platforms=["cuda"])(params, jnp.zeros((2, *IMAGE))).mlir_module()
               for fn in (lambda p, x: network.logits(p, {}, x), lambda p, x: network.features(p, {}, x),
                          lambda p, x: network.forward(p, {}, x, jnp.ones(2))[0])]
    products = [[line for line in text.splitlines() if "stablehlo.dot_general" in line] for text in lowered]
    assert [len(lines) for lines in products] == [5, 4, 5]
    assert [all("HIGHEST" in line for line in lines) for lines in products] == [True, True, False]
    layer = convnet_layers(params, IMAGE, POOLED)["conv_0/kernel"]
    text = jax.export.export(jax.jit(lambda kernel: complexity.spectral_norm(layer._replace(kernel=kernel))),
                             platforms=["cuda"])(layer.kernel).mlir_module()
    lines = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert lines and all("HIGHEST" in line for line in lines)
