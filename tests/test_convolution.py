"""Convolution formulations, BatchNorm and initialisers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference
from margin_jax.models import convolution
from margin_jax.models.batch_norm import EPSILON, MaskedBatchNorm
from margin_jax.models.convnet import ConvNet
from margin_jax.models.initialisers import bias_init, kernel_init
from margin_jax.network import from_flax


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 5), (8, 8), (7, 4)])
@pytest.mark.parametrize("batch", [1, 3, 6, 7])
def test_formulations_agree_in_values_and_gradients(size, batch, monkeypatch):
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel = jax.random.normal(keys[0], (batch, *size, 3)), jax.random.normal(keys[1], (3, 3, 3, 5))
    cotangent = jax.random.normal(keys[2], convolution.convolve(x, kernel, "lax").shape)
    results = []
    monkeypatch.setattr(convolution, "TILE", 2)
    monkeypatch.setattr(convolution, "TILED_FROM", 2)
    for name in ("patches", "tiled", "lax"):
        value, pull = jax.vjp(lambda x, k, name=name: convolution.convolve(x, k, name), x, kernel)
        results.append((value, *pull(cotangent)))
    truth = np.asarray(x, np.float64), np.asarray(kernel, np.float64), np.asarray(cotangent, np.float64)
    exact = (reference.conv_forward(*truth[:2]), *reference.conv_backward(*truth))
    for *found, numpy in zip(*results, exact, strict=True):
        for value in found:
            np.testing.assert_allclose(value, numpy, rtol=1e-5, atol=1e-5)


def test_formulations_agree_under_vmap():
    keys = jax.random.split(jax.random.key(1))
    x, kernels = jax.random.normal(keys[0], (4, 6, 6, 2)), jax.random.normal(keys[1], (3, 3, 3, 2, 5))
    for fn in (lambda k, name: convolution.convolve(x, k, name),
               jax.grad(lambda k, name: (convolution.convolve(jnp.sin(x * k.sum()), k, name) ** 2).sum())):
        both = [jax.vmap(lambda k, name=name, fn=fn: fn(k, name))(kernels) for name in ("patches", "lax")]
        np.testing.assert_allclose(*both, rtol=1e-4, atol=1e-4)


def test_an_unknown_formulation_is_refused():
    with pytest.raises(ValueError, match="'patches', 'tiled', 'lax'"):
        convolution.convolve(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), "winograd")


def parameters_of(**kwargs):
    network = from_flax(ConvNet(10, **kwargs), False)
    params, stats = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    return sum(leaf.size for leaf in jax.tree.leaves(params)), params, stats, network


def test_paper_network_has_the_documented_size_and_shapes():
    count, params, stats, network = parameters_of()
    assert count == 102_320 and stats == {}
    assert jax.eval_shape(network.logits, params, stats, jnp.zeros((2, 32, 32, 3))).shape == (2, 10)
    assert parameters_of(biases=True)[0] == 102_320 + 16 + 32 + 64 + 128 + 10
    assert parameters_of(batch_norm=True)[0] == 102_320 + 2 * (16 + 32 + 64 + 128)


def test_initialisers_have_the_distribution_they_name():
    shape = (3, 3, 64, 128)
    normal = kernel_init("normal", 0.02)(jax.random.key(0), shape, jnp.float32)
    np.testing.assert_allclose([normal.mean(), normal.std()], [0, 0.02], atol=2e-4)
    uniform = kernel_init("pytorch", 0.02)(jax.random.key(0), shape, jnp.float32)
    bound = 1 / np.sqrt(3 * 3 * 64)
    assert bound * 0.999 < jnp.abs(uniform).max() <= bound
    np.testing.assert_allclose(uniform.std(), bound / np.sqrt(3), rtol=0.01)
    assert 0.9 / 10 < jnp.abs(bias_init("pytorch", 100)(jax.random.key(0), (512,))).max() <= 1 / 10
    assert not bias_init("normal", 100)(jax.random.key(0), (512,)).any()
    with pytest.raises(ValueError, match="initialiser"):
        kernel_init("orthogonal", 1.0)


def apply_norm(x, weights, stats=None, train=True):
    module = MaskedBatchNorm()
    params = {"scale": jnp.array([1.5, 0.5]), "bias": jnp.array([0.2, -1.0])}
    stats = stats or {"mean": jnp.array([1.0, 2.0]), "var": jnp.array([3.0, 4.0])}
    out, new = module.apply({"params": params, "batch_stats": stats}, x, train, weights, mutable=["batch_stats"])
    return out, new["batch_stats"]


@pytest.mark.parametrize("kept", [1, 2, 5])
def test_batch_norm_ignores_masked_rows_and_matches_numpy(kept):
    x = np.random.default_rng(0).normal(2, 3, (5, 3, 4, 2)).astype(np.float32)
    weights = jnp.asarray(np.arange(5) < kept, jnp.float32)
    out, stats = apply_norm(jnp.asarray(np.where(np.arange(5)[:, None, None, None] < kept, x, np.nan)), weights)
    rows = x[:kept].astype(np.float64)
    mean, var = rows.mean((0, 1, 2)), rows.var((0, 1, 2))
    expected = (rows - mean) / np.sqrt(var + EPSILON) * [1.5, 0.5] + [0.2, -1.0]
    np.testing.assert_allclose(out[:kept], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats["mean"], 0.9 * np.array([1, 2]) + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 * np.array([3, 4]) + 0.1 * rows.var((0, 1, 2), ddof=1), rtol=1e-5)


def test_batch_norm_of_a_single_value_keeps_the_running_variance():
    out, stats = apply_norm(jnp.full((1, 1, 1, 2), 7.0), jnp.ones(1))
    np.testing.assert_allclose(out[0, 0, 0], [0.2, -1.0], atol=1e-3)
    np.testing.assert_allclose(stats["var"], [3, 4], rtol=1e-6)


def test_batch_norm_in_evaluation_uses_running_statistics_per_row():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2, 2, 2)), jnp.float32)
    whole, stats = apply_norm(x, jnp.ones(3), train=False)
    alone, _ = apply_norm(x[1:2], jnp.ones(1), train=False)
    np.testing.assert_array_equal(whole[1:2], alone)
    np.testing.assert_array_equal(stats["mean"], [1, 2])
