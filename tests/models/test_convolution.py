"""Convolution formulations, BatchNorm and initialisers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import reference

from margin_jax.models import convolution
from margin_jax.models.convnet import ConvNet
from margin_jax.models.layers import EPSILON, MaskedBatchNorm, bias_init, kernel_init
from margin_jax.models.network import from_flax


def values_and_gradients(x, kernel, cotangent, stride, padding="same"):
    """Of all formulations, compiled together: eager operations would each be compiled alone."""
    def one(x, kernel, cotangent, name):
        value, pull = jax.vjp(lambda x, k: convolution.convolve(x, k, name, stride, padding), x, kernel)
        return value, *pull(cotangent)

    return jax.jit(lambda *args: [one(*args, name) for name in convolution.FORMULATIONS])(x, kernel, cotangent)


@pytest.mark.parametrize("size,batch", [((1, 1), 1), ((1, 1), 7), ((2, 2), 3), ((5, 5), 6), ((8, 8), 7), ((7, 4), 3)])
@pytest.mark.parametrize("stride,channels", [(2, (3, 5)), (1, (3, 5)), (1, (5, 2))])
def test_formulations_agree_in_values_and_gradients(size, batch, stride, channels, monkeypatch):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(batch, *size, channels[0])), rng.normal(size=(3, 3, *channels))
    cotangent = rng.normal(size=(batch, *(-(-s // stride) for s in size), channels[1]))
    monkeypatch.setattr(convolution, "TILE", 2)
    monkeypatch.setattr(convolution, "TILED_FROM", 2)
    monkeypatch.setattr(convolution, "TILE_BYTES", 2 * 36 * size[0] * size[1] * min(channels))  # two rows here too
    monkeypatch.setattr(convolution, "TILED_FROM_BYTES", 0)
    assert convolution.tile_rows((batch, *size, min(channels)), 4, stride) == min(batch, 2)
    results = values_and_gradients(*(jnp.asarray(a, jnp.float32) for a in (x, kernel, cotangent)), stride)
    exact = reference.conv_forward(x, kernel, stride), *reference.conv_backward(x, kernel, cotangent, stride)
    for *found, numpy in zip(*results, exact, strict=True):
        for value in found:
            np.testing.assert_allclose(value, numpy, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side,size,stride,padding", [
    (3, 3, 1, "valid"), (8, 3, 1, "valid"), (7, 3, 2, "valid"), (8, 3, 3, "valid"), (6, 5, 1, "same"),
    (7, 5, 2, "same"), (6, 2, 1, "valid"), (5, 1, 2, "same"), (9, 4, 3, "valid")])
def test_every_size_stride_and_padding_agrees_with_numpy(side, size, stride, padding, monkeypatch):
    rng = np.random.default_rng(size)
    x, kernel = rng.normal(size=(5, side, side + 1, 4)), rng.normal(size=(size, size, 4, 3))
    zeros = (size - 1) // 2 if padding == "same" else 0
    exact = reference.conv_forward(x, kernel, stride, zeros)
    cotangent = rng.normal(size=exact.shape)
    exact = exact, *reference.conv_backward(x, kernel, cotangent, stride, zeros)
    for name in ("TILE", "TILED_FROM", "TILE_BYTES"):
        monkeypatch.setattr(convolution, name, 2)
    monkeypatch.setattr(convolution, "TILED_FROM_BYTES", 0)
    assert convolution.tile_rows((5, side, side + 1, 4), 4, stride, size) == (1 if stride == 1 else 2)  # patched
    results = values_and_gradients(*(jnp.asarray(a, jnp.float32) for a in (x, kernel, cotangent)), stride, padding)
    for *ours, numpy in zip(*results, exact, strict=True):
        for value in ours:
            np.testing.assert_allclose(value, numpy, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", [2, 3, 6])
def test_max_pooling_leaves_out_an_odd_edge_and_is_1_lipschitz(side):
    x = np.random.default_rng(side).normal(size=(3, side, side + 1, 2)).astype(np.float32)
    np.testing.assert_array_equal(convolution.max_pool(jnp.asarray(x)), reference.max_pool(x))
    gradient = jax.grad(lambda x: convolution.max_pool(x).sum())(jnp.asarray(x))
    assert gradient.sum() == reference.max_pool(x).size and jnp.all((gradient == 0) | (gradient == 1))
    other = x + np.random.default_rng(9).normal(size=x.shape).astype(np.float32)
    moved = np.linalg.norm(np.ravel(convolution.max_pool(jnp.asarray(other)) - convolution.max_pool(jnp.asarray(x))))
    assert moved <= np.linalg.norm(np.ravel(other - x))


def test_tiles_of_stride_1_follow_the_bytes_of_the_windows():
    row = 9 * 32 * 32 * 12 * 4
    assert convolution.tile_rows((50, 32, 32, 12), 4, 1) == convolution.TILE_BYTES // row == 4
    few = convolution.TILED_FROM_BYTES // row
    assert [convolution.tile_rows((count, 32, 32, 12), 4, 1) for count in (few, few + 1)] == [few, 4]
    assert convolution.tile_rows((3, 1024, 1024, 64), 4, 1) == 1 == convolution.tile_rows((1, 1024, 1024, 64), 4, 1)


@pytest.mark.parametrize("stride,outputs", [(2, 5), (1, 5), (1, 1)])
def test_formulations_agree_under_vmap(stride, outputs):
    keys = jax.random.split(jax.random.key(1))
    x, kernels = jax.random.normal(keys[0], (4, 6, 6, 2)), jax.random.normal(keys[1], (3, 3, 3, 2, outputs))

    def value(kernel, name):
        return convolution.convolve(jnp.sin(x * kernel.sum()), kernel, name, stride)

    def both(kernel, name):
        return value(kernel, name), jax.grad(lambda k: (value(k, name) ** 2).sum())(kernel)

    found = jax.jit(lambda k: [jax.vmap(lambda k, name=name: both(k, name))(k) for name in ("patches", "lax")])(kernels)
    for ours, xla in zip(*found, strict=True):
        np.testing.assert_allclose(ours, xla, rtol=1e-4, atol=1e-4)


def test_a_convolution_1x1_is_a_matmul_over_channels():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(1, 1, 5, 3))
    for name in convolution.FORMULATIONS:
        found = convolution.convolve(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32), name, 1)
        np.testing.assert_allclose(found, reference.conv_forward(x, kernel, 1), rtol=1e-5, atol=1e-5)


def test_an_unknown_formulation_size_stride_or_padding_is_refused():
    x = jnp.ones((1, 4, 4, 1))
    with pytest.raises(ValueError, match="'patches', 'tiled', 'lax'"):
        convolution.convolve(x, jnp.ones((3, 3, 1, 1)), "winograd")
    for shape, stride, padding, message in (((3, 1), 1, "same", "square kernel"), ((3, 3), 0, "same", "stride >= 1"),
                                            ((2, 2), 1, "same", "odd kernels"), ((3, 3), 1, "full", "padding"),
                                            ((5, 5), 1, "valid", "at least 5x5 pixels")):
        with pytest.raises(ValueError, match=message):
            convolution.convolve(x, jnp.ones((*shape, 1, 1)), "lax", stride, padding)


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
