"""Layer norms and rho against NumPy in float64, homogeneity of the network exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import small_network

from margin_jax.theory import norms


def params_of(**kwargs):
    params, _ = small_network(**kwargs).init(jax.random.key(1), jnp.zeros((1, 8, 8, 3)))
    # BatchNorm starts from ones and zeros, which would hide a forgotten bias.
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    return jax.tree.unflatten(tree, [leaf + 0.1 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys)])


def norm64(x):
    return np.sqrt((np.asarray(x, np.float64) ** 2).sum())


def test_frobenius_rho_in_its_three_modes():
    plain, normed = params_of(biases=True), params_of(batch_norm=True)
    convs = np.prod([norm64(plain[f"conv_{i}"]["kernel"]) for i in range(2)])
    np.testing.assert_allclose(norms.rho(plain, "conv"), convs, rtol=1e-5)
    np.testing.assert_allclose(norms.rho(plain, "all"), convs * norm64(plain["dense"]["kernel"]), rtol=1e-5)
    scales = np.prod([np.hypot(norm64(normed[f"norm_{i}"]["scale"]), norm64(normed[f"norm_{i}"]["bias"]))
                      for i in range(2)])
    np.testing.assert_allclose(norms.rho(normed, "batch_norm"), scales * norm64(normed["dense"]["kernel"]), rtol=1e-5)


def test_default_mode_follows_the_parameters():
    plain, normed = params_of(), params_of(batch_norm=True)
    assert (norms.default_mode(plain), norms.default_mode(normed)) == ("all", "batch_norm")
    assert norms.rho(plain) == norms.rho(plain, "all") and norms.rho(normed) == norms.rho(normed, "batch_norm")


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5, np.inf])
def test_p_and_spectral_norms(p):
    weight = np.random.default_rng(0).normal(size=(3, 3, 4, 5)).astype(np.float32)
    flat = np.abs(weight.astype(np.float64)).ravel()
    np.testing.assert_allclose(norms.layer_norm(jnp.asarray(weight), "p", p), np.linalg.norm(flat, p), rtol=1e-5)
    spectral = np.linalg.svd(weight.astype(np.float64).reshape(-1, 5), compute_uv=False)[0]
    np.testing.assert_allclose(norms.layer_norm(jnp.asarray(weight), "spectral"), spectral, rtol=1e-5)


def test_any_pytree_has_norms():
    tree = [{"w": jnp.full((2, 2), 3.0)}, (jnp.ones(4), jnp.full((3, 3, 1, 1), 2.0))]
    assert norms.rho(tree, "all") == 6 * 6 and norms.rho(tree, "conv") == 6
    np.testing.assert_allclose(jax.vmap(norms.rho)(jax.tree.map(lambda x: jnp.stack([x, 2 * x]), tree)), [36, 144])


@pytest.mark.parametrize("mode,tree", [("batch_norm", {"w": np.ones((2, 2))}), ("conv", {"w": np.ones((2, 2))}),
                                       ("all", {}), ("best", {"w": np.ones((2, 2))})])
def test_mode_without_its_layers_is_refused(mode, tree):
    with pytest.raises(ValueError, match="rho"):
        norms.rho(tree, mode)


@pytest.mark.parametrize("kind,p", [("nuclear", 2.0), ("p", 0.5)])
def test_unknown_norm_is_refused(kind, p):
    with pytest.raises(ValueError, match="norm"):
        norms.layer_norm(jnp.ones((2, 2)), kind, p)


def logits(params, batch_norm=False, biases=False):
    x = jax.random.normal(jax.random.key(5), (6, 8, 8, 3))
    return small_network(biases=biases, batch_norm=batch_norm).logits(params, {}, x)


def test_bias_free_network_is_homogeneous_exactly():
    params = params_of()
    doubled = logits(jax.tree.map(lambda w: 2 * w, params))
    np.testing.assert_array_equal(doubled, 2**3 * logits(params))
    biased = params_of(biases=True)
    assert not np.allclose(logits(jax.tree.map(lambda w: 2 * w, biased), biases=True), 8 * logits(biased, biases=True))


@pytest.mark.parametrize("kind", norms.KINDS)
def test_network_is_rho_times_the_normalised_network(kind):
    params = params_of()
    unit = norms.normalised_params(params, kind, 3.0)
    np.testing.assert_allclose(norms.rho(params, "all", kind, 3.0) * logits(unit), logits(params), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norms.rho(unit, "all", kind, 3.0), 1, rtol=1e-5)
