"""Measures against closed forms, matrices and enumerations in NumPy float64."""

import functools
import itertools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import small_network
from helpers.operators import dense_matrix

from margin_jax.models.convnet import Layer, fold_batch_norm
from margin_jax.models.densenet import DenseNetBC
from margin_jax.models.network import from_flax
from margin_jax.theory import distribution, measures
from margin_jax.theory.complexity import (
    log_path_norm,
    log_spectral_complexity,
    network_norms,
    norm_measures,
    spectral_norm,
    two_one_norm,
)
from margin_jax.theory.measures import (
    Gammas,
    Trained,
    log_rhos,
    loss_excess,
    margin_measures,
    raw_margins,
    tenth_percentile,
)

SHAPE = (6, 5, 3)
LOWER = {"margin_smallest", "margin_p10", "margin_median", "auc_mean",
         *(f"auc_{kind}_{unit}" for kind in ("ramp", "tail") for unit in ("absolute", "pooled", "own"))}
UNDEFINED = {"log_spectral_product", "log_spectral_complexity", "log_path_norm"}


def over_margin(names):
    return {key for name in names for key in (name, f"{name}_over_margin")}


@functools.cache
def trained(**kwargs):
    """A stand-in for a trained network: random weights and statistics, labels with a few errors; and its logits."""
    rng = np.random.default_rng(0)
    network = from_flax(DenseNetBC(3, (1, 1), 4), True) if kwargs.get("densenet") else small_network(**kwargs)
    shapes, stats = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *SHAPE)))
    params, initial = (jax.tree.map(lambda leaf: rng.uniform(-1, 1, leaf.shape).astype(np.float32), shapes)
                       for _ in range(2))
    stats = jax.tree.map(lambda leaf: rng.uniform(0.5, 2, leaf.shape).astype(np.float32), stats)
    logits = jax.jit(network.logits)
    x = rng.normal(size=(40, *SHAPE)).astype(np.float32)
    out = np.asarray(logits(params, stats, x))
    labels = np.where(np.arange(40) < 2, 0, out.argmax(1))
    return params, initial, stats, out, labels, lambda p: np.asarray(logits(p, stats, x))


def compute(**kwargs):
    params, initial, stats, logits, labels, _ = trained(**kwargs)
    return measures.compute_measures(Trained(params, stats, SHAPE, initial), logits, labels, pooled_median=0.01)


def test_bartlett_complexity_of_a_linear_network_by_hand():
    # ||A_1|| = 4, ||A_2|| = 2; A_1 - M_1 has rows (3, 4) and (0, 12): 5 + 12 = 17; A_2 - M_2 one row (1, 0), norm 1.
    first, second = np.diag([1.0, 4.0]), np.array([[2.0, 0.0]])
    start = first - np.array([[3.0, 4.0], [0.0, 12.0]]), second - np.array([[1.0, 0.0]])
    layers = [Layer(jnp.asarray(a.T, jnp.float32), None, (2,)) for a in (first, second)]
    moved = [two_one_norm(layer._replace(kernel=layer.kernel - jnp.asarray(b.T, jnp.float32)))
             for layer, b in zip(layers, start, strict=True)]
    complexity = log_spectral_complexity(np.array([spectral_norm(layer) for layer in layers]), np.array(moved))
    truth = 4 * 2 * ((17 / 4) ** (2 / 3) + (1 / 2) ** (2 / 3)) ** 1.5
    np.testing.assert_allclose(math.exp(complexity), truth, rtol=1e-6)
    assert log_spectral_complexity(np.ones(2), np.zeros(2)) == -math.inf
    np.testing.assert_allclose(log_spectral_complexity(np.full(9, 1e30), np.r_[np.zeros(8), 1e30]), 9 * math.log(1e30))


def matrices(params):
    """Matrices of the layers of a ConvNet on images of SHAPE, in float64."""
    shapes = {"conv_0": SHAPE, "conv_1": (3, 3, 4)}
    return [*(dense_matrix(params[name]["kernel"], shape, 2) for name, shape in shapes.items()),
            np.float64(params["dense"]["kernel"]).T]


def test_norm_measures_of_a_convolutional_network_are_those_of_its_matrices():
    params, initial, _, logits, labels, _ = trained()
    computed, dense, start = compute(), matrices(params), matrices(initial)
    margin = np.quantile(np.sort(raw_margins(logits, labels)), 0.1)
    weights, first = ([np.float64(leaf).ravel() for leaf in jax.tree.leaves(tree)] for tree in (params, initial))
    spectral = np.array([np.linalg.norm(a, 2) for a in dense])
    moved = np.array([np.sqrt(((a - b) ** 2).sum(1)).sum() for a, b in zip(dense, start, strict=True)])
    frobenius = np.prod([(w**2).sum() for w in weights])
    paths = functools.reduce(lambda x, a: a**2 @ x, dense, np.ones(math.prod(SHAPE))).sum()
    complexity = spectral.prod() * ((moved / spectral) ** (2 / 3)).sum() ** 1.5
    weights, first = np.concatenate(weights), np.concatenate(first)
    distance = np.linalg.norm(weights - first)
    truth = {"log_frobenius_product": np.log(frobenius), "frobenius_sum": 3 * frobenius ** (1 / 3),
             "frobenius_sum_over_margin": 3 * (frobenius / margin**2) ** (1 / 3),
             "log_frobenius_product_over_margin": np.log(frobenius / margin**2),
             "log_spectral_product": np.log((spectral**2).prod()),
             "log_spectral_product_over_margin": np.log((spectral**2).prod() / margin**2),
             "log_spectral_complexity": np.log(complexity),
             "log_spectral_complexity_over_margin": np.log(complexity / margin),
             "log_path_norm": np.log(np.sqrt(paths)), "log_path_norm_over_margin": np.log(np.sqrt(paths) / margin),
             "parameter_norm": np.linalg.norm(weights), "distance_from_init": distance,
             "relative_distance_from_init": distance / np.linalg.norm(first), "inverse_margin": 1 / margin**2}
    for name, value in truth.items():
        np.testing.assert_allclose(computed[name], value, rtol=2e-5, err_msg=name)


def test_path_norm_is_a_sum_over_paths():
    rng = np.random.default_rng(0)
    sizes = (3, 2, 4, 2)
    weights = [rng.normal(size=pair) for pair in itertools.pairwise(sizes)]
    biases = [rng.normal(size=size) for size in sizes[1:]]
    total = 0.0
    for start in range(len(weights) + 1):  # a path starts at an input, or at the bias of a layer
        for path in itertools.product(*map(range, sizes[start:])):
            product = 1.0 if start == 0 else biases[start - 1][path[0]]
            for weight, (i, j) in zip(weights[start:], itertools.pairwise(path), strict=True):
                product *= weight[i, j]
            total += product**2
    layers = [Layer(jnp.asarray(w, jnp.float32), jnp.asarray(b, jnp.float32), w.shape[:1])
              for w, b in zip(weights, biases, strict=True)]
    np.testing.assert_allclose(log_path_norm(layers), np.log(np.sqrt(total)), rtol=1e-5)
    many = [Layer(jnp.full((4, 4), 1e12), None, (4,))] * 9  # 1e24 to the ninth: far beyond float32
    np.testing.assert_allclose(log_path_norm(many), np.log(np.sqrt(4**10)) + 9 * np.log(1e12), rtol=1e-5)
    assert log_path_norm([Layer(jnp.zeros((4, 4)), None, (4,))]) == -jnp.inf


def test_norms_of_a_stack_are_those_of_each_network():
    params, initial, stats = trained(batch_norm=True)[:3]
    double = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), (params, initial))
    stack = jax.vmap(lambda p, q: network_norms(p, q, stats, SHAPE))(*double)
    for row, pair in enumerate(((params, initial), jax.tree.map(lambda leaf: 2 * leaf, (params, initial)))):
        for a, b in zip(stack, network_norms(*pair, stats, SHAPE), strict=True):
            np.testing.assert_allclose(a[row], b, rtol=1e-4)


def test_scaling_all_weights():
    params, initial, _, logits, labels, outputs = trained()
    double = jax.tree.map(lambda leaf: 2 * leaf, params)
    shift = 3 * math.log(2)  # K = 3 layers
    single, doubled = (norm_measures(network_norms(p, initial, {}, SHAPE), 1.0) for p in (params, double))
    for name, factor in (("log_frobenius_product", 2), ("log_spectral_product", 2), ("log_path_norm", 1)):
        np.testing.assert_allclose(doubled[name] - single[name], factor * shift, rtol=1e-4)
    np.testing.assert_allclose(doubled["frobenius_sum"], 4 * single["frobenius_sum"], rtol=1e-5)
    # Divided by rho, and the spectral complexity by the margin, nothing changes: f(2W; x) = 8 f(W; x).
    assert log_rhos(params).keys() == {"all", "conv"}
    before, after = (measures.compute_measures(Trained(weights, {}, SHAPE, weights), logits, labels, pooled_median=0.01)
                     for weights, logits in ((params, logits), (double, outputs(double))))
    free = {key for key in before if any(part in key for part in ("over_margin", "margin_", "auc", "excess"))}
    for key in free:
        np.testing.assert_allclose(after[key], before[key], rtol=2e-5, atol=1e-6, err_msg=key)
    assert len(free) == 34 and after["inverse_margin"] != before["inverse_margin"]


def test_measures_of_batch_norm_are_those_of_the_function():
    params, initial, stats, logits, labels, _ = trained(batch_norm=True)
    folded = Trained(fold_batch_norm(params, stats), {}, SHAPE, fold_batch_norm(initial))
    biased = measures.compute_measures(folded, logits, labels)
    computed = measures.compute_measures(Trained(params, stats, SHAPE, initial), logits, labels)
    kernels = {key for key in computed if key.startswith(("log_", "frobenius", "distance", "relative", "parameter"))}
    assert len(kernels) == 13
    for key in kernels:
        np.testing.assert_allclose(computed[key], biased[key], rtol=1e-5)
    # BatchNorm undoes a scale of the kernel before it, but for its epsilon.
    scaled = params | {"conv_0": {"kernel": 30 * params["conv_0"]["kernel"]}}
    moved = stats | {"norm_0": {"mean": 30 * stats["norm_0"]["mean"], "var": 900 * stats["norm_0"]["var"]}}
    same = measures.compute_measures(Trained(scaled, moved, SHAPE, initial), logits, labels)
    for key in kernels:
        np.testing.assert_allclose(same[key], computed[key], rtol=1e-4)


def test_rho_in_every_mode():
    params, initial, stats, logits, labels, _ = trained(batch_norm=True)
    spectral = network_norms(params, initial, stats, SHAPE).spectral
    by_mode = log_rhos(params, spectral)
    assert by_mode.keys() == {"all", "conv", "batch_norm", "operator"}
    np.testing.assert_allclose(by_mode["operator"], np.log(np.float64(spectral)).sum())
    layers = [np.concatenate([params[f"norm_{i}"]["scale"], params[f"norm_{i}"]["bias"]]) for i in (0, 1)]
    default = np.log([np.linalg.norm(w) for w in (*layers, params["dense"]["kernel"])]).sum()
    np.testing.assert_allclose(by_mode["batch_norm"], default, rtol=1e-6)
    eta = raw_margins(logits, labels)
    for given, log_rho in ((None, default), (by_mode["conv"], by_mode["conv"])):
        computed = measures.compute_measures(Trained(params, stats, SHAPE, initial), logits, labels, log_rho=given)
        value = computed["margin_smallest"]
        np.testing.assert_allclose(value, eta.min() / np.exp(log_rho), rtol=1e-6)
    deep = {f"w{i}": np.full((10, 10), 1e15, np.float32) for i in range(20)}  # rho is 1e320, beyond float64
    np.testing.assert_allclose(log_rhos(deep)["all"], 20 * math.log(1e16), rtol=1e-6)


def test_gamma_measures_by_hand_and_as_the_distribution_functions():
    eta = np.array([-2.0, 2, 6, 10, 14])  # median 6
    logits, labels = np.stack([eta, np.zeros(5)], 1).astype(np.float32), np.zeros(5, np.int32)
    computed = margin_measures(logits, labels, math.log(2), Gammas((4.0,), (0.5, 1)), pooled_median=2.0)
    hand = {"margin_smallest": -1, "margin_median": 3, "margin_p10": -0.2, "auc_mean": 3,
            "auc_ramp_absolute@4": (0.25 + 0.75 + 1 + 1) / 5, "auc_tail_absolute@4": (-1 + 1 + 3) / 5,
            "small_margin_count_absolute@4": 3, "auc_ramp_pooled@0.5": (0.5 + 1 + 1 + 1) / 5 + 0.1,
            "auc_tail_pooled@0.5": -0.5 / 5, "auc_tail_pooled@1": (-0.5 + 0.5) / 5, "small_margin_count_pooled@1": 2,
            "auc_ramp_own@1": (1 / 3 + 3) / 5, "auc_tail_own@1": (-1 + 1) / 3 / 5, "small_margin_count_own@0.5": 1}
    for key, value in hand.items():
        np.testing.assert_allclose(computed[key], value, rtol=1e-12, atol=1e-12, err_msg=key)
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(200, 4)).astype(np.float32), rng.integers(0, 4, 200)
    logits[np.arange(200), labels] += 3
    eta = raw_margins(logits, labels)
    computed = margin_measures(logits, labels, math.log(100), Gammas((0.01,), (0.5,)), pooled_median=0.02)
    for unit, median, gamma in (("absolute", 1, 0.01), ("pooled", 0.02, 0.5), ("own", np.median(eta) / 100, 0.5)):
        curve = jnp.asarray(eta / 100 / median, jnp.float32)
        for name in ("auc_ramp", "auc_tail", "small_margin_count"):
            np.testing.assert_allclose(computed[f"{name}_{unit}@{gamma:g}"], getattr(distribution, name)(curve, gamma),
                                       rtol=1e-4)


def test_normalised_loss_against_numpy_and_at_any_rho():
    rng = np.random.default_rng(0)
    logits, labels = (20 * rng.normal(size=(50, 5))).astype(np.float32), rng.integers(0, 5, 50)
    for rho in (0.02, 1, 70):
        scaled = np.float64(logits) / rho
        losses = [np.logaddexp.reduce(row) - row[y] for row, y in zip(scaled, labels, strict=True)]
        excess = loss_excess(logits, labels, math.log(rho))
        np.testing.assert_allclose(excess, np.mean(losses) - math.log(5), rtol=1e-10)
        if rho == 1:
            np.testing.assert_allclose(margin_measures(logits, labels, 0.0)["training_loss"], np.mean(losses))
    slope = np.mean(np.float64(logits) - np.float64(logits)[np.arange(50), labels][:, None])
    np.testing.assert_allclose(loss_excess(logits, labels, math.log(1e100)), slope / 1e100, rtol=1e-6)


def test_what_is_not_defined_is_nan_and_the_rest_is_not():
    logits, labels = np.float32([[0, 1], [0, 3], [0, -5]]), np.array([0, 0, 0])
    computed = margin_measures(logits, labels, 0.0)
    undefined = {key for key, value in computed.items() if math.isnan(value)}
    assert undefined == {key for key in computed if "_pooled" in key or "_own" in key} | {"inverse_margin"}
    for log_rho in (-math.inf, 800.0):
        computed = margin_measures(-logits, labels, log_rho)
        assert {key for key, v in computed.items() if not math.isnan(v)} == {"training_loss"}
    assert all(map(math.isnan, margin_measures(np.full((3, 2), np.nan, np.float32), labels, 0.0).values()))
    assert math.isnan(norm_measures(network_norms(*trained()[:3], SHAPE), -1.0)["log_path_norm_over_margin"])
    with pytest.raises(ValueError, match="C >= 2"):
        margin_measures(np.zeros(3, np.float32), labels, 0.0)
    assert tenth_percentile(np.arange(21.0)) == 2 and raw_margins(logits, labels).dtype == np.float64


@pytest.mark.parametrize("kwargs,undefined", [({}, set()), ({"batch_norm": True}, set()), ({"biases": True}, set()),
                                              ({"densenet": True}, over_margin(UNDEFINED))],
                         ids=["plain", "batch_norm", "biases", "densenet"])
def test_every_measure_is_finite_where_it_is_defined(kwargs, undefined):
    computed = compute(**kwargs)
    assert {measures.measure_of(key).name for key in computed} == set(measures.MEASURES)
    assert all(type(value) is float for value in computed.values())
    assert {key for key, value in computed.items() if not math.isfinite(value)} == undefined


def test_without_initial_weights_what_needs_them_is_nan():
    params, _, stats, logits, labels, _ = trained()
    computed = measures.compute_measures(Trained(params, stats, SHAPE), logits, labels, pooled_median=0.01)
    assert {key for key, value in computed.items() if math.isnan(value)} == {
        name for name, row in measures.MEASURES.items() if row.needs_initial} == over_margin(
        {"log_spectral_complexity"}) | {"distance_from_init", "relative_distance_from_init"}


def test_the_table_says_what_each_measure_is_and_which_way_it_points():
    assert {name for name in measures.MEASURES if measures.sign(name) > 0} == LOWER
    for name, row in measures.MEASURES.items():
        assert row.name == name and row.formula and row.source and row.larger_is in ("lower error", "higher error")
        assert measures.sign(f"{name}@0.5") == measures.sign(name) == (1 if row.larger_is == "lower error" else -1)
    with pytest.raises(KeyError, match="^'auc'$"):
        measures.sign("auc")


def test_every_measure_is_in_the_guide():
    text = (pathlib.Path(__file__).parents[2] / "docs" / "measures.md").read_text(encoding="utf-8")
    assert [name for name in measures.MEASURES if f"| `{name}` |" not in text] == []
