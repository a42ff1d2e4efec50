"""Appendix B: equation (5) against autodiff in float64, equation (4) in closed form, and the rows of the table."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import examples_of, small_arrays, small_network
from scipy.special import softmax

from margin_jax.errors import InputError
from margin_jax.experiments.appendix_b import Deletions, deletion_rows, deletions, interpolable
from margin_jax.run_folder import tables as columns
from margin_jax.theory import deletion
from margin_jax.theory.margins import margins
from margin_jax.training.state import standardised

N = 17


def forward(params, x):
    """A bias-free ReLU network of three layers."""
    for name in ("a", "b"):
        x = jax.nn.relu(x @ params[name])
    return x @ params["c"]


def normalised(params):
    return jax.tree.map(lambda w: w / jnp.sqrt(jnp.sum(w**2)), params)


@functools.cache
def example(classes):
    rng = np.random.default_rng(classes)
    params = {"a": rng.normal(size=(4, 6)), "b": rng.normal(size=(6, 5)), "c": rng.normal(size=(5, classes))}
    return params, rng.normal(size=(N, 4)), rng.permutation(N) % classes


@functools.partial(jax.jit, static_argnums=4)
def computed(params, x, y, weights, piece):
    return (deletion.weighted_gradient(forward, params, x, y, weights, piece),
            deletion.term_norms(forward, params, x, y, piece))


def sides(params, x, y, left, piece=5):
    """Of the library, in float64."""
    eta = np.asarray(margins(forward(params, x), y))
    weights = deletion.soft_weights(eta, left)
    slope, terms = jax.device_get(computed(params, x, y, weights, piece))
    return deletion.network_sides(params, slope, eta, weights, terms), eta, terms


@jax.jit
def by_autodiff(params, x, y, left, rho):
    """The gradient in V of the exponential loss of rho f(V), V projected to norm 1; and that of each m_n, without."""

    def loss(free):
        return -jnp.sum(jnp.where(left, jnp.exp(-rho * margins(forward(normalised(free), x), y)), 0)) / rho

    def margin_of(v, row, label):
        return margins(forward(v, row[None]), label[None])[0]

    v = normalised(params)
    return jax.grad(loss)(v), jax.vmap(jax.grad(margin_of), (None, 0, 0))(v, x, y)


@pytest.mark.parametrize("classes, removed", [(2, 0), (2, 3), (10, 0), (10, 16)])
def test_equation_5_is_the_gradient_of_the_exponential_loss_in_normalised_weights(classes, removed):
    params, x, y = example(classes)
    left = np.arange(N) >= removed
    with jax.enable_x64(True):
        by_layer, eta, terms = sides(params, x, y, left)
        rho = math.prod(float(np.linalg.norm(w)) for w in params.values())
        truth, slopes = jax.device_get(by_autodiff(params, x, y, left, rho))
    total = np.exp(-eta[left]).sum()
    for name, side in by_layer.items():
        assert side.value.dtype == np.float64
        np.testing.assert_allclose(side.value * total, truth[name], rtol=1e-9, atol=1e-12 * total)
        unit = params[name] / np.linalg.norm(params[name])
        assert abs(np.sum(side.value * unit)) < 1e-12  # the projection takes out what homogeneity puts along V_k
        loop = np.array([np.linalg.norm(slope - unit * m) for slope, m in zip(slopes[name], eta / rho)])
        np.testing.assert_allclose(terms[name] / rho, loop, rtol=1e-9)
        np.testing.assert_allclose(side.scale, np.exp(-eta[left]) @ loop[left] / total, rtol=1e-9)
        assert np.linalg.norm(side.value) <= side.scale * (1 + 1e-9)


@pytest.mark.parametrize("piece", [1, 6])
def test_pieces_change_nothing(piece):
    params, x, y = example(10)
    with jax.enable_x64(True):
        args = params, x, y, np.arange(N) > 3
        for a, b in zip(jax.tree.leaves(sides(*args, piece=piece)), jax.tree.leaves(sides(*args))):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14)


def test_weights_neither_underflow_nor_depend_on_what_is_deleted():
    values = np.array([900.0, 901.0, 905.0, -1e9, 5000.0])
    left = np.array([True, True, True, False, True])
    np.testing.assert_allclose(deletion.soft_weights(values, left), np.insert(softmax(-values[left]), 3, 0), rtol=1e-12)
    np.testing.assert_allclose(deletion.soft_weights(values[:3], left[:3]),
                               deletion.soft_weights(values[:3] - 900, left[:3]))
    assert deletion.soft_weights(values, np.arange(5) == 4).tolist() == [0, 0, 0, 0, 1]


def test_a_residual_is_compared_with_its_scale():
    before, now = deletion.Side(np.array([3.0, 4.0]), 10.0), deletion.Side(np.array([3.0, 0.0]), 4.0)
    assert deletion.residual_of(now, before, 0.25) == deletion.Residual(3.0, 0.75, 0.4, 0.25)
    assert math.isnan(deletion.residual_of(deletion.Side(np.zeros(2), 0.0), before, 0.0).relative)


@pytest.mark.parametrize("n", [1, 5, 6, 30])
def test_the_regression_gradient_is_zero_at_the_minimum_and_after_deletions_where_it_interpolates(n):
    rng = np.random.default_rng(n)
    features, targets = rng.normal(size=(n, 6)), np.eye(3)[rng.integers(0, 3, n)]
    solution, every = deletion.least_squares(features, targets), np.ones(n, bool)
    if n <= 6:
        np.testing.assert_allclose(solution, features.T @ np.linalg.solve(features @ features.T, targets), atol=1e-9)
    else:
        np.testing.assert_allclose(solution, np.linalg.solve(features.T @ features, features.T @ targets), atol=1e-9)
    assert deletion.interpolates(features, targets, solution) == (n <= 6)
    before = deletion.regression_side(features, targets, solution, every)
    assert np.linalg.norm(before.value) < 1e-12 * before.scale
    for row in range(n if n > 1 else 0):
        side = deletion.regression_side(features, targets, solution, np.arange(n) != row)
        truth = -2 / (n - 1) * np.outer(features[row], features[row] @ solution - targets[row])
        np.testing.assert_allclose(side.value, truth, atol=1e-12)
        assert (np.linalg.norm(side.value) > 1e-3) == (n > 6)


def test_the_regression_side_is_the_gradient_of_the_mean_squared_error():
    rng = np.random.default_rng(1)
    features, targets, solution = rng.normal(size=(7, 4)), rng.normal(size=(7, 2)), rng.normal(size=(4, 2))
    left = np.arange(7) % 3 > 0
    with jax.enable_x64(True):
        truth = jax.grad(lambda a: jnp.mean(jnp.sum((features[left] @ a - targets[left]) ** 2, 1)))(solution)
    side = deletion.regression_side(features, targets, solution, left)
    np.testing.assert_allclose(side.value, truth, rtol=1e-12)
    zero = 2 / left.sum() * sum(np.linalg.norm(np.outer(h, t)) for h, t in zip(features[left], targets[left]))
    np.testing.assert_allclose(side.scale, zero, rtol=1e-12)


def test_every_deletion_leaves_what_it_says():
    values = np.array([3.0, 1.0, 2.0, 1.0, 5.0])
    chosen = list(deletions(Deletions((9, 2, 1), seed=0, draws=2), values))
    assert [(f.choice, f.draw, f.removed) for f in chosen] == [("none", 0, 0)] + [
        (choice, draw, count) for count in (1, 2)
        for choice, draw in (("smallest", 0), ("largest", 0), ("random", 0), ("random", 1))]
    gone = {(f.choice, f.draw, f.removed): np.flatnonzero(~f.left).tolist() for f in chosen}
    assert gone["smallest", 0, 1] == [1] and gone["smallest", 0, 2] == [1, 3] and gone["largest", 0, 2] == [0, 4]
    assert all(f.left.sum() == 5 - f.removed for f in chosen)
    assert set(gone["random", 1, 1]) < set(gone["random", 1, 2])


def test_dead_units_leave_fewer_examples_to_interpolate():
    rng = np.random.default_rng(0)
    features, values = rng.normal(size=(20, 16)), rng.normal(size=20)
    targets = np.eye(2)[rng.integers(0, 2, 20)]
    chosen = interpolable(features, targets, values, 0)
    assert chosen.size == 8 and set(np.argsort(values)[:4]) <= set(chosen.tolist()) and (np.diff(chosen) > 0).all()
    features[:, 3:] = 0
    assert interpolable(features, targets, values, 0).size == 2
    assert interpolable(np.zeros((20, 16)), targets, values, 0).size == 0


@functools.cache
def small_run():
    """A convolutional network, its data and its margins."""
    images, labels = small_arrays(30)
    network, examples = small_network(conv="lax"), examples_of(images, labels)
    params, _ = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    logits = jax.jit(lambda p: network.logits(p, {}, standardised(examples.images, examples)))(params)
    return network, params, examples, np.asarray(margins(logits, examples.labels))


@functools.cache
def small_rows():
    network, params, examples, values = small_run()
    return deletion_rows(Deletions((1, 4, 40), 0, draws=2), network, params, {}, examples, values, 3)


def test_rows_of_a_network_are_those_of_autodiff():
    network, params, examples, values = small_run()
    rows = small_rows()
    assert all(set(row) == set(columns.DELETION) for row in rows)
    equation_5 = [row for row in rows if row["equation"] == 5]
    assert len(equation_5) == 3 * (1 + 2 * 4) and {row["minimum"] for row in equation_5} == {"not separated"}
    x, order = standardised(examples.images, examples), np.argsort(values, kind="stable")

    @jax.jit
    def slope(left):
        def loss(free):  # logarithm: its gradient is that of the loss over the loss
            return -jax.nn.logsumexp(-rho * margins(network.logits(normalised(free), {}, x), examples.labels),
                                     where=left) / rho
        return jax.grad(loss)(normalised(params))

    rho = math.prod(float(jnp.linalg.norm(w)) for w in jax.tree.leaves(params))
    truth = {k: jax.tree.leaves(slope(~np.isin(np.arange(30), order[:k]))) for k in (0, 1, 4)}
    for layer, name in enumerate(("conv_0/kernel", "conv_1/kernel", "dense/kernel")):
        for k, choice in ((0, "none"), (1, "smallest"), (4, "smallest")):
            row = next(r for r in equation_5 if (r["layer"], r["removed"], r["choice"]) == (name, k, choice))
            np.testing.assert_allclose(row["residual"], np.linalg.norm(truth[k][layer]), rtol=2e-4)
            change = np.linalg.norm(truth[k][layer] - truth[0][layer])
            first = next(r for r in equation_5 if r["layer"] == name and not r["removed"])
            scale = first["residual"] / first["relative"]
            np.testing.assert_allclose(row["change"], change / scale, rtol=1e-3, atol=1e-6)
            assert 0 <= row["relative"] <= 1 and row["examples"] == 30 - k and (row["weight"] > 0) == (k > 0)


def test_rows_of_the_regression_vanish_at_an_interpolating_minimum_alone():
    rows = [row for row in small_rows() if row["equation"] == 4]
    fitted, other = ([row for row in rows if row["minimum"] == name] for name in ("interpolating", "not interpolating"))
    assert all(row["relative"] < 1e-9 for row in fitted) and other[0]["relative"] < 1e-9
    assert all(row["relative"] > 1e-4 for row in other[1:])
    assert other[0]["examples"] == 30 and fitted[0]["examples"] <= 12  # of 24 features


@pytest.mark.parametrize("change", [{"batch_norm": True}, {"biases": True}])
def test_networks_that_are_not_homogeneous_are_refused(change):
    _, _, examples, values = small_run()
    network = small_network(conv="lax", **change)
    params, stats = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    assert not deletion.homogeneous(params, stats) and deletion.homogeneous(small_run()[1], {})
    with pytest.raises(InputError, match="model.batch_norm=False"):
        deletion_rows(Deletions((1,), 0), network, params, stats, examples, values, 3)


def test_kkt_weights_are_shares_of_the_terms_of_every_layer():
    params, x, y = example(3)
    _, eta, terms = sides(params, x, y, np.ones(N, bool))
    expected = np.zeros(N)
    for term in terms.values():
        sizes = [np.exp(-float(value)) * float(size) for value, size in zip(eta, term, strict=True)]
        expected += np.array([size / sum(sizes) for size in sizes]) / len(terms)
    found = deletion.kkt_weights(eta, terms)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-12)
    far = deletion.kkt_weights(eta.astype(np.float64) + 1000, terms)  # whose factors underflow
    np.testing.assert_allclose(far, found, rtol=1e-9)
    silent = dict.fromkeys(terms, np.zeros(N))
    np.testing.assert_array_equal(deletion.kkt_weights(eta, silent), deletion.soft_weights(eta, np.ones(N, bool)))
    with pytest.raises(InputError, match="expected terms"):
        deletion.kkt_weights(eta, {"a": np.ones(N + 1)})


def test_terms_of_a_network_with_biases_are_those_of_its_weight_layers():
    params, x, y = example(3)
    held = {"c": {"kernel": params["c"], "bias": np.ones(3)}}

    def with_bias(p, x):
        return forward({"a": params["a"], "b": params["b"], "c": p["c"]["kernel"]}, x) + p["c"]["bias"][None]

    terms = deletion.term_norms(with_bias, held, x, y)
    assert list(terms) == ["c/kernel"] and terms["c/kernel"].shape == (N,)
    kernel, rho = params["c"], np.linalg.norm(params["c"])
    for n in range(3):
        eta, slope = jax.value_and_grad(lambda w, n=n: margins(with_bias(
            {"c": {"kernel": w, "bias": np.ones(3)}}, x[n:n + 1]), y[n:n + 1])[0])(kernel)
        np.testing.assert_allclose(terms["c/kernel"][n], np.linalg.norm(rho * slope - kernel / rho * eta), rtol=1e-5)
