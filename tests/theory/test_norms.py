"""Layer norms and rho against NumPy in float64, homogeneity of the network exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers.networks import small_network

from margin_jax.config import default_config
from margin_jax.errors import InputError
from margin_jax.models.network import make_network
from margin_jax.theory import deletion, distribution, norms
from margin_jax.theory.measures import log_rhos


def params_of(**kwargs):
    params, _ = jax.jit(small_network(**kwargs).init)(jax.random.key(1), jnp.zeros((1, 8, 8, 3)))
    # BatchNorm starts from ones and zeros, which would hide a forgotten bias.
    draws = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf + 0.1 * draws.normal(size=leaf.shape).astype(np.float32)), params)


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


@pytest.mark.parametrize("weight,kind,p", [(np.complex64([[1]]), "frobenius", 2.0), (3.0, "frobenius", 2.0),
                                           (np.ones((2, 2)), "p", float("nan"))])
def test_what_has_no_norm_is_refused(weight, kind, p):
    with pytest.raises(InputError, match="expected a"):
        norms.layer_norm(weight, kind, p)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("kind", norms.KINDS)
def test_norms_of_half_precision_are_taken_in_float32(dtype, kind):
    for value in (1e-4, 1.0):
        weight = jnp.full((300, 300), value, dtype)
        found = norms.layer_norm(weight, kind)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, 300 * float(weight[0, 0]), rtol=1e-4)  # 0.03 and 300
    tree = {"bn": {"scale": jnp.ones(90_000, dtype), "bias": jnp.zeros(90_000, dtype)},
            "w": jnp.ones((300, 300), dtype)}
    np.testing.assert_allclose(norms.rho(tree), 300 * 300, rtol=1e-5)


@pytest.mark.parametrize("size", [1e30, 1e-22, 1.0, 1e-36, 1e38])
@pytest.mark.parametrize("kind,p", [("frobenius", 2.0), ("spectral", 2.0), ("p", 1.0), ("p", 3.5), ("p", 100.0),
                                    ("p", 1e4), ("p", np.inf)])
def test_no_power_of_an_entry_under_or_overflows(size, kind, p):
    entries = np.random.default_rng(0).uniform(0.05, 0.2, (3, 4))
    flat = entries.ravel()
    # Scaled by the largest entry in float64, which the norm is homogeneous in.
    expected = {"frobenius": np.linalg.norm(flat), "spectral": np.linalg.svd(entries)[1][0],
                "p": flat.max() * np.sum((flat / flat.max()) ** p) ** (1 / p)}[kind]
    weight = jnp.asarray(entries * size, jnp.float32)
    for norm in (norms.layer_norm, jax.jit(norms.layer_norm, static_argnums=(1, 2))):
        np.testing.assert_allclose(norm(weight, kind, p), expected * size, rtol=2e-5)


def test_the_gradient_of_a_norm_is_that_of_the_norm_at_any_size():
    entries = np.random.default_rng(0).normal(size=(3, 4))
    for size in (1e-22, 1.0, 1e30):
        slope = jax.grad(norms.layer_norm)(jnp.asarray(entries * size, jnp.float32))
        np.testing.assert_allclose(slope, entries / np.linalg.norm(entries), rtol=1e-5)


def test_zero_infinite_and_unknown_weights_have_such_norms():
    for value in (0, np.inf, np.nan):
        for kind, p in (("frobenius", 2.0), ("p", 100.0), ("p", np.inf)):
            np.testing.assert_array_equal(norms.layer_norm(jnp.array([[value, 0.0]]), kind, p), value)
    assert norms.layer_norm(jnp.zeros((0, 3)), "spectral") == 0


@pytest.mark.parametrize("tree,weights", [
    # Flax attention: its kernels (in, heads, dim) are weights, its biases (heads, dim) are not.
    ({"query": {"kernel": 2 * np.ones((4, 2, 2)), "bias": 9 * np.ones((2, 2))}}, ["query/kernel"]),
    ({"query": {"kernel": 2 * np.ones((4, 2, 2)), "bias": np.zeros((2, 2))}}, ["query/kernel"]),
    # Equinox Conv2d and LayerNorm over two axes, whose weight has the shape of its bias.
    ({"conv": {"weight": 2 * np.ones((4, 1, 2, 2)), "bias": np.zeros((4, 1, 1))},
      "norm": {"weight": 9 * np.ones((4, 4)), "bias": np.zeros((4, 4))}}, ["conv/weight"]),
    # Haiku: conv and BatchNorm of four axes.
    ({"net/~/conv": {"w": 2 * np.ones((1, 1, 4, 4)), "b": np.zeros((4, 1))},
      "net/~/batch_norm": {"scale": np.ones((1, 1, 1, 4)), "offset": np.zeros((1, 1, 1, 4))}}, ["net/~/conv/w"]),
    ({"mix": {"gamma": np.zeros((1, 4)), "beta": np.zeros((1, 4)), "in_proj_bias": np.zeros((2, 2)),
              "bias_k": np.zeros((2, 2)), "in_proj": 2 * np.ones((4, 4))}}, ["mix/in_proj"]),
    # Letters alone tell nothing: here "b" is a matrix, and rank decides.
    ({"a": 2 * np.ones((2, 2)), "b": np.ones((2, 2)), "c": np.ones(3)}, ["a", "b"])])
def test_biases_and_scales_enter_no_norm_whatever_their_rank(tree, weights):
    tree = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)
    assert sorted(norms.layer_norms(tree)) == weights
    np.testing.assert_allclose(norms.rho(tree, "all"), 8, rtol=1e-6)
    unit = norms.normalised_params(tree)
    for path, leaf in jax.tree_util.tree_leaves_with_path(unit):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in weights:
            np.testing.assert_allclose(np.linalg.norm(leaf), 1, rtol=1e-6)
    assert not deletion.homogeneous(tree, {}) or weights == list(tree)


def test_only_weight_layers_make_a_network_homogeneous():
    weight = {"kernel": jnp.ones((4, 2, 2))}
    assert deletion.homogeneous(weight, {})
    assert not deletion.homogeneous({**weight, "bias": jnp.ones((2, 2))}, {})  # of two axes


def test_a_haiku_offset_belongs_to_its_batch_norm():
    tree = {"net/~/batch_norm": {"scale": jnp.full((1, 1, 1, 4), 3.0), "offset": jnp.full((1, 1, 1, 4), 4.0)},
            "net/~/linear": {"w": 2 * jnp.ones((2, 2)), "b": jnp.ones(2)}}
    np.testing.assert_allclose(norms.rho(tree), 10 * 4, rtol=1e-6)  # sqrt(4 * (9 + 16)) = 10
    with pytest.raises(InputError, match="mode 'conv'"):
        norms.rho(tree, "conv")


@pytest.mark.parametrize("name", ["LayerNorm_0", "layer_norm", "layernorm", "ln_f", "ln1", "h0_ln_1", "GroupNorm_2",
                                  "InstanceNorm_0", "RMSNorm_0", "rms_norm", "gn"])
def test_other_normalisations_do_not_select_the_mode_batch_norm(name):
    tree = {"block": {name: {"scale": jnp.full(4, 7.0), "bias": jnp.ones(4)},
                      "dense": {"kernel": 2 * jnp.ones((2, 2))}}}
    assert norms.default_mode(tree) == "all" and norms.rho(tree) == 4
    with pytest.raises(InputError, match="batch_norm"):
        norms.rho(tree, "batch_norm")


@pytest.mark.parametrize("name", ["BatchNorm_0", "batch_norm", "bn1", "encoder_bn"])
def test_a_batch_norm_is_known_by_its_name(name):
    tree = {name: {"scale": jnp.full(4, 3.0), "bias": jnp.full(4, 4.0)}, "dense": {"kernel": 2 * jnp.ones((2, 2))}}
    assert norms.default_mode(tree) == "batch_norm" and norms.rho(tree) == 40


@pytest.mark.parametrize("name", ["norm", "norm_0", "alnitak", "abnormal"])
@pytest.mark.parametrize("mode", ["default", "batch_norm"])
def test_a_neutral_name_tells_nothing(name, mode):
    tree = {"block": {name: {"scale": jnp.full(4, 3.0), "bias": jnp.full(4, 4.0)}},
            "dense": {"kernel": 2 * jnp.ones((2, 2))}}
    for fn in (norms.rho, norms.log_rho, norms.rho_factors):
        with pytest.raises(InputError, match=f"'block/{name}/scale' may be .* give .*batch_stats.* mode='all'"):
            fn(tree, mode)
    assert norms.rho(tree, "all") == 4
    running = {"block": {name: {"mean": jnp.zeros(4), "var": jnp.ones(4)}}}
    assert norms.rho(tree, mode, batch_stats=running) == 40
    with pytest.raises(InputError, match="got 'batch_stats/block"):
        norms.rho(tree, mode, batch_stats={"batch_stats": running})
    assert norms.default_mode(tree, {}) == "all" and norms.rho(tree, batch_stats={}) == 4
    assert "batch_norm" not in log_rhos(tree)
    np.testing.assert_allclose(log_rhos(tree, batch_stats=running)["batch_norm"], np.log(40))


class OwnModule(nn.Module):
    """A LayerNorm and a BatchNorm under names that tell nothing."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4, name="first")(x)
        x = nn.LayerNorm(name="norm")(x)
        x = nn.BatchNorm(use_running_average=True, name="other")(x)
        return nn.Dense(3, name="last")(x)


def test_running_statistics_tell_flax_layers_apart():
    variables = OwnModule().init(jax.random.key(0), jnp.ones((2, 5)))
    params = variables["params"]
    dense = np.linalg.norm(params["first"]["kernel"]) * np.linalg.norm(params["last"]["kernel"])
    with pytest.raises(InputError, match="'norm/scale'"):
        norms.rho(params)
    # BatchNorm begins with scale 1 and bias 0: sqrt(4) for four channels.
    np.testing.assert_allclose(norms.rho(params, batch_stats=variables["batch_stats"]), 2 * dense, rtol=1e-6)


@pytest.mark.parametrize("name", ["convnet", "densenet"])
def test_the_networks_of_the_package_need_no_running_statistics(name):
    model = default_config().model
    model.update({"name": name, "batch_norm": True, "widths": (4,), "blocks": (1, 1)})
    params, batch_stats = jax.jit(make_network(model, 3, "cpu").init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    found = norms.batch_norm_norms(params)
    assert len(found) == len(jax.tree.leaves(batch_stats)) // 2
    assert found == norms.batch_norm_norms(params, batch_stats)


def test_leaves_that_are_no_arrays_are_named():
    with pytest.raises(InputError, match="function at 'activation'"):
        norms.rho({"activation": lambda x: x, "w": jnp.ones((2, 2))})


@pytest.mark.parametrize("width,expected", [(30.0, np.inf), (1 / 30, 0.0)])
def test_the_logarithm_of_rho_is_right_where_fifty_layers_leave_float32(width, expected):
    tree = {f"layer_{i}": {"kernel": width * jnp.eye(4) / 2} for i in range(50)}  # each of norm `width`
    assert norms.rho(tree) == expected
    np.testing.assert_allclose(norms.log_rho(tree), 50 * np.log(width), rtol=1e-6)
    eta = jnp.array([3e30, -1.0, 0.0, jnp.nan]) if width > 1 else jnp.array([3e-37, -2e-37, 0.0, jnp.nan])
    normalised = distribution.normalised_margins(eta, log_rho=norms.log_rho(tree))
    truth = np.asarray(eta, np.float64) / width**50
    np.testing.assert_allclose(normalised, np.where(np.abs(truth) < 1e-38, 0, truth), rtol=1e-4, atol=1e-42)


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
