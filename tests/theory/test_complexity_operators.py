"""Norms of operators against their dense matrices in NumPy float64; a folded network against its logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import small_network
from helpers.operators import dense_matrix

from margin_jax.models.convnet import Layer, apply_linear, convnet_layers, fold_batch_norm, is_convnet
from margin_jax.models.densenet import DenseNetBC
from margin_jax.models.network import from_flax
from margin_jax.theory import complexity, norms

# Height, width, channels in and out, stride; images down to one pixel, of even and odd sides.
CASES = [(6, 6, 3, 5, 2), (7, 5, 1, 4, 2), (5, 8, 4, 2, 2), (6, 6, 2, 3, 1), (7, 4, 3, 1, 1), (1, 1, 3, 2, 2)]


@functools.cache
def layer_and_matrix(height, width, channels, out, stride, size=3):
    kernel = np.random.default_rng(height).normal(size=(size, size, channels, out)).astype(np.float32)
    shape = (height, width, channels)
    return Layer(jnp.asarray(kernel), None, shape, stride), dense_matrix(kernel, shape, stride)


def spectral(layer, **kwargs):
    """Compiled, with the shape static."""
    return jax.jit(lambda kernel: complexity.spectral_norm(layer._replace(kernel=kernel), **kwargs))(layer.kernel)


@pytest.mark.parametrize("case", [*CASES, (4, 5, 3, 6, 1, 1)], ids=str)
def test_norms_of_a_convolution_are_those_of_its_dense_matrix(case):
    layer, matrix = layer_and_matrix(*case)
    x = np.random.default_rng(1).normal(size=(1, *layer.shape)).astype(np.float32)
    np.testing.assert_allclose(apply_linear(layer, x).ravel(), matrix @ x.ravel(), rtol=1e-4, atol=1e-5)
    norm = spectral(layer)
    assert norm.shape == () and norm.dtype == jnp.float32
    np.testing.assert_allclose(norm, np.linalg.svd(matrix, compute_uv=False)[0], rtol=1e-5)
    np.testing.assert_allclose(complexity.two_one_norm(layer), np.sqrt((matrix**2).sum(1)).sum(), rtol=1e-5)


def test_norms_of_a_dense_layer():
    kernel = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    layer = Layer(jnp.asarray(kernel), None, (7,))
    np.testing.assert_allclose(spectral(layer), np.linalg.svd(kernel.astype(np.float64))[1][0], rtol=1e-5)
    np.testing.assert_allclose(complexity.two_one_norm(layer), np.sqrt((kernel.astype(np.float64)**2).sum(0)).sum(),
                               rtol=1e-5)


def test_the_operator_is_neither_the_patch_matrix_nor_the_circular_convolution():
    layer, matrix = layer_and_matrix(*CASES[0])
    kernel, true = np.asarray(layer.kernel), np.linalg.svd(matrix, compute_uv=False)[0]
    circular = np.linalg.svd(np.fft.fft2(kernel, (6, 6), axes=(0, 1)), compute_uv=False).max()
    for other in (float(norms.layer_norm(layer.kernel, "spectral")), circular):
        assert abs(other / true - 1) > 0.05


def test_start_vectors_do_not_matter_and_the_fixed_ones_are_fixed():
    layer, matrix = layer_and_matrix(*CASES[0])
    many = jax.jit(jax.vmap(lambda key: complexity.spectral_norm(layer, key)))(jax.random.split(jax.random.key(7), 8))
    np.testing.assert_allclose(many, np.linalg.svd(matrix, compute_uv=False)[0], rtol=1e-5)
    assert spectral(layer) == spectral(layer)


def test_kernels_can_be_mapped_over_and_scale_does_not_matter():
    layer, _ = layer_and_matrix(*CASES[0])
    scales = np.array([1, 2, -3, 1e-30, 1e20, 0, np.nan], np.float32)
    stack = layer.kernel[None] * scales.reshape(-1, 1, 1, 1, 1)
    scaled = jax.jit(jax.vmap(lambda kernel: complexity.spectral_norm(layer._replace(kernel=kernel))))(stack)
    np.testing.assert_allclose(scaled, abs(scales) * spectral(layer), rtol=1e-5)


def test_a_kernel_of_rank_one():
    outer = np.zeros((3, 3, 2, 3), np.float32)
    outer[1, 1] = np.outer([1, 2], [2, 0, 1])  # the centre tap alone: the same matrix at every position
    np.testing.assert_allclose(spectral(Layer(jnp.asarray(outer), None, (3, 3, 2), 1)), 5, rtol=1e-5)


def test_an_iteration_that_does_not_converge_is_nan_and_not_a_wrong_number():
    layer, _ = layer_and_matrix(*CASES[0])
    assert jnp.isnan(spectral(layer, limit=2)) and jnp.isfinite(spectral(layer, limit=2, tolerance=0.9))


def random_network(**kwargs):
    """Network, parameters and running statistics with nothing left at zero or one."""
    network, rng = small_network(**kwargs), np.random.default_rng(1)
    params, stats = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 9, 7, 3)))
    draw = lambda low, high: lambda leaf: jnp.asarray(rng.uniform(low, high, leaf.shape), jnp.float32)  # noqa: E731
    return network, jax.tree.map(draw(-1, 1), params), jax.tree.map(draw(0.2, 2), stats)


def test_operator_norms_follow_the_image_through_the_network():
    _, params, _ = random_network(biases=True)
    by_layer = jax.jit(lambda p: complexity.operator_norms(p, (9, 7, 3)))(params)
    assert by_layer.keys() == norms.layer_norms(params).keys()
    for name, shape in (("conv_0", (9, 7, 3)), ("conv_1", (5, 4, 4))):
        matrix = dense_matrix(params[name]["kernel"], shape, 2)
        np.testing.assert_allclose(by_layer[f"{name}/kernel"], np.linalg.norm(matrix, 2), rtol=1e-5)
    dense = np.linalg.norm(np.float64(params["dense"]["kernel"]), 2)
    np.testing.assert_allclose(by_layer["dense/kernel"], dense, rtol=1e-5)


def test_layers_come_in_the_order_in_which_they_are_applied():
    params = {f"conv_{i}": {"kernel": jnp.ones((3, 3, i + 1, i + 2))} for i in range(12)}
    layers = convnet_layers(params | {"dense": {"kernel": jnp.ones((13, 2))}}, (5, 3, 1))
    assert list(layers) == [*(f"conv_{i}/kernel" for i in range(12)), "dense/kernel"]
    assert [layer.shape for layer in layers.values()][:4] == [(5, 3, 1), (3, 2, 2), (2, 1, 3), (1, 1, 4)]


@pytest.mark.parametrize("biases", [False, True])
def test_a_folded_network_has_the_same_logits(biases):
    network, params, stats = random_network(batch_norm=True, biases=biases)
    stats["norm_0"]["var"] = jnp.array([1e-5, 0, 1, 2])  # where epsilon matters
    x = jax.random.normal(jax.random.key(3), (5, 9, 7, 3))
    logits, plain = jax.jit(network.logits), jax.jit(small_network(biases=True).logits)
    fresh = {name: {"mean": jnp.zeros_like(s["mean"]), "var": jnp.ones_like(s["var"])} for name, s in stats.items()}
    for given, truth in ((stats, stats), (None, fresh)):
        folded, expected = plain(fold_batch_norm(params, given), {}, x), logits(params, truth, x)
        np.testing.assert_allclose(folded, expected, rtol=1e-4, atol=1e-5 * float(jnp.max(jnp.abs(expected))))


def test_what_is_no_convnet_or_does_not_fit_is_refused():
    _, plain, _ = random_network()
    _, normed, _ = random_network(batch_norm=True)
    assert fold_batch_norm(plain, {}) is plain and is_convnet(normed)
    dense_net = jax.eval_shape(from_flax(DenseNetBC(3, (1, 1), 4), True).init, jax.random.key(0),
                               jnp.zeros((1, 4, 4, 3)))[0]
    assert not is_convnet(dense_net) and not is_convnet([jnp.ones((2, 2))])
    with pytest.raises(ValueError, match="ConvNet"):
        fold_batch_norm(dense_net)
    with pytest.raises(ValueError, match="without BatchNorm"):
        convnet_layers(normed, (9, 7, 3))
    for shape in ((9, 7, 1), (32, 32, 3)):
        with pytest.raises(ValueError, match="do not fit"):
            convnet_layers(plain, shape)
