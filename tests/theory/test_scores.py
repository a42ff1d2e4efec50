"""EL2N and GraNd against NumPy in float64, closed forms and loops over single examples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import reference
from helpers.networks import small_arrays, small_network

from margin_jax.errors import InputError
from margin_jax.models import convolution
from margin_jax.theory import scores

COUNT = 7
el2n = jax.jit(scores.el2n)


def el2n_by_hand(logits, labels):
    out = []
    for row, label in zip(np.asarray(logits, np.float64), labels, strict=True):
        p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        p[label] = -sum(v for j, v in enumerate(p) if j != label)
        out.append(np.sqrt(sum(v * v for v in p)))
    return np.array(out)


@functools.cache
def logits_and_labels(classes, count=17):
    rng = np.random.default_rng(classes)
    return (5 * rng.normal(size=(count, classes))).astype(np.float32), rng.integers(0, classes, count)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_el2n_matches_numpy(classes):
    logits, labels = logits_and_labels(classes)
    values = el2n(jnp.asarray(logits), jnp.asarray(labels))
    assert values.shape == (17,) and values.dtype == jnp.float32
    np.testing.assert_allclose(values, el2n_by_hand(logits, labels), rtol=1e-5)


def test_el2n_and_cross_entropy_stay_exact_however_confident_the_network():
    # Two classes: the probability of the error is 1 / (1 + e^m), EL2N its sqrt(2)-fold, the loss log(1 + e^-m).
    m = np.array([-1000, -80, -3, 0, 3, 17, 30, 60, 80], np.float64)
    logits, labels = jnp.asarray(np.stack([m + 5, np.full(9, 5.0)], 1), jnp.float32), jnp.zeros(9, jnp.int32)
    error = np.exp(-np.logaddexp(0, m))
    np.testing.assert_allclose(el2n(logits, labels), np.sqrt(2) * error, rtol=2e-5)
    loss, slope = jax.jit(jax.vmap(jax.value_and_grad(scores.cross_entropy)))(logits, labels)
    np.testing.assert_allclose(loss, np.logaddexp(0, -m), rtol=2e-5)
    np.testing.assert_allclose(slope, np.stack([-error, error], 1), rtol=2e-5)


def test_el2n_far_below_the_others_is_that_of_their_shares():
    """A logit of -3e8 has no digits left for the difference of 1 between the two others."""
    shares = np.exp([0.0, 1.0]) / np.exp([0.0, 1.0]).sum()
    np.testing.assert_allclose(el2n(jnp.array([[0.0, -3e8, 1.0]]), jnp.array([1])), np.sqrt(1 + np.sum(shares**2)),
                               rtol=1e-6)


def test_el2n_of_a_label_out_of_range_is_nan_and_wrong_shapes_are_refused():
    assert jnp.isnan(el2n(jnp.ones((3, 3)), jnp.array([-1, 3, 9]))).all()
    for shape in ((2, 1), (2,), (2, 3, 4)):
        with pytest.raises(ValueError, match="C >= 2"):
            scores.el2n(jnp.ones(shape), jnp.zeros(2, jnp.int32))


def test_el2n_of_logits_near_the_largest_float_is_exact():
    huge = float(np.float32(3e38))
    rows = np.array([[huge, -huge, 0], [-huge, huge, 0], [huge, huge, -huge], [0, huge, huge],
                     [huge, 0.5 * huge, -huge], [5, -huge, 3]], np.float32)
    # p = (1, 0, 0), (0, 1, 0), (1/2, 1/2, 0), (0, 1/2, 1/2), (1, 0, 0) and the sigmoid of 2; the label is class 0.
    expected = [0, np.sqrt(2), np.sqrt(0.5), np.sqrt(1.5), 0, np.sqrt(2) / (1 + np.exp(2))]
    np.testing.assert_allclose(el2n(rows, np.zeros(6, np.int32)), expected, rtol=1e-6)
    np.testing.assert_allclose(el2n(rows[4:5], np.array([2])), np.sqrt(2), rtol=1e-6)
    assert np.isnan(el2n(np.array([[np.inf, 1], [np.nan, 1]], np.float32), np.zeros(2, np.int32))).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_scores_of_half_precision_are_taken_in_float32(dtype):
    logits, labels = logits_and_labels(3)
    logits = jnp.asarray(logits, dtype)
    values = el2n(logits, labels)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, el2n_by_hand(np.asarray(logits, np.float64), labels), rtol=1e-5)
    # 300 x 300 entries of the gradient are 1: their squares add up to more than float16 holds.
    grand = scores.grand(lambda p, x: jnp.sum(p["w"]) * x, {"w": jnp.ones((300, 300), dtype)}, (jnp.ones(2, dtype),))
    assert grand.dtype == jnp.float32
    np.testing.assert_allclose(grand, 300, rtol=1e-6)


@pytest.mark.parametrize("loss", [lambda p, x: (p * x, x), lambda p, x: p * jnp.ones(3), lambda p, x: 1])
def test_a_loss_that_is_not_one_number_is_refused(loss):
    with pytest.raises(InputError, match="expected the loss of one example"):
        scores.grand(loss, jnp.float32(1), (jnp.ones(4),))


def test_parameters_without_gradients_are_named():
    with pytest.raises(InputError, match="int32 in 'layers/1'"):
        scores.grand(lambda p, x: x, {"layers": [jnp.ones(2), jnp.arange(3)]}, (jnp.ones(4),))


def test_grand_of_a_linear_network_is_the_input_norm_times_el2n_in_any_pieces():
    logits, labels = logits_and_labels(3)
    x = np.random.default_rng(1).normal(size=(17, 4)).astype(np.float32)
    params = {"kernel": jnp.asarray(np.linalg.pinv(x) @ logits), "bias": jnp.asarray(logits[0])}
    logits = x.astype(np.float64) @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)
    apply_fn = lambda p, x: x @ p["kernel"] + p["bias"][None]  # noqa: E731
    truth = np.sqrt((x.astype(np.float64) ** 2).sum(1) + 1) * el2n_by_hand(logits, labels)
    for piece in (1, 4, 5, 6, 17):
        grand = jax.jit(lambda p, x, y, piece=piece: scores.network_grand(apply_fn, p, x, y, piece))
        np.testing.assert_allclose(grand(params, x, labels), truth, rtol=2e-5)
    wrong = np.where(np.arange(17) == 2, 3, labels)  # a label that is out of range
    np.testing.assert_array_equal(jnp.isnan(grand(params, x, wrong)), np.arange(17) == 2)


def test_tiny_and_huge_gradients_neither_vanish_nor_overflow():
    sizes = jnp.array([0, 1e-30, 1e-20, 1, 1e20, 1e30, np.inf, np.nan])
    grand = jax.jit(lambda p, x: scores.grand(lambda p, size: size * (3 * p["a"] + 4 * p["b"][0]), p, (x,), 3))
    norms = grand({"a": jnp.float32(1), "b": jnp.ones(1)}, sizes)
    np.testing.assert_allclose(norms, 5 * sizes, rtol=1e-6)


@functools.cache
def images_and_network(**kwargs):
    """Images, labels, logits as a function of the parameters, and random parameters and running statistics."""
    images, labels = small_arrays(COUNT)
    network, rng = small_network(**kwargs), np.random.default_rng(1)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), shapes[0])
    stats = jax.tree.map(lambda leaf: rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32), shapes[1])
    x = ((images - 120.0) / 60).astype(np.float32)
    return x, labels, lambda p, x: network.logits(p, stats, x), params, stats


@functools.cache
def compiled_grand(**kwargs):
    logits = images_and_network(**kwargs)[2]
    return jax.jit(lambda p, x, y: scores.network_grand(logits, p, x, y, 3))


@functools.cache
def grand_scores(**kwargs):
    x, labels, _, params, _ = images_and_network(**kwargs)
    return np.asarray(compiled_grand(**kwargs)(params, x, labels))


@pytest.mark.parametrize("conv", convolution.FORMULATIONS)
def test_grand_of_a_convolutional_network_matches_numpy(conv):
    x, labels, _, params, _ = images_and_network(conv=conv)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for row, score in enumerate(grand_scores(conv=conv)):
        _, gradient = reference.loss_and_gradient(params, np.asarray(x[row:row + 1], np.float64), labels[row:row + 1])
        truth = np.sqrt(sum((leaf ** 2).sum() for leaf in jax.tree.leaves(gradient)))
        np.testing.assert_allclose(score, truth, rtol=1e-4)


def test_grand_with_batch_norm_and_biases_is_a_loop_over_single_gradients_with_running_statistics():
    x, labels, logits, params, _ = images_and_network(batch_norm=True, biases=True, conv="lax")

    @jax.jit
    def gradient(params, image, label):  # the usual cross-entropy, not the one of scores
        return jax.grad(lambda p: -jax.nn.log_softmax(logits(p, image[None])[0])[label])(params)

    for row, score in enumerate(grand_scores(batch_norm=True, biases=True, conv="lax")):
        leaves = jax.tree.leaves(gradient(params, x[row], labels[row]))
        np.testing.assert_allclose(score, np.sqrt(sum((np.asarray(leaf, np.float64) ** 2).sum() for leaf in leaves)),
                                   rtol=1e-4)


def test_gradients_of_a_convolution_in_tiles_under_vmap_are_those_of_a_loop():
    # One image an example never reaches tiles; several hundred images, as crops of one example would be, do.
    keys = jax.random.split(jax.random.key(2))
    x, kernel = jax.random.normal(keys[0], (2, 300, 3, 2, 2)), jax.random.normal(keys[1], (3, 3, 2, 3))

    def slope(name):
        return jax.grad(lambda k, x: jnp.mean(jnp.sin(convolution.convolve(jnp.cos(x * k[0, 0, 0, 0]), k, name))))

    assert "scan" in str(jax.make_jaxpr(slope("tiled"))(kernel, x[0]))  # the loop over tiles
    mapped, truth = jax.jit(jax.vmap(slope("tiled"), (None, 0)))(kernel, x), jax.jit(slope("lax"))
    np.testing.assert_allclose(mapped, np.stack([truth(kernel, row) for row in x]), rtol=1e-4, atol=1e-6)


def test_permuting_rows_permutes_scores_and_relabelling_classes_changes_nothing():
    logits, labels = logits_and_labels(10)
    rng = np.random.default_rng(5)
    rows, classes = rng.permutation(17), rng.permutation(10)
    values = np.asarray(el2n(jnp.asarray(logits), jnp.asarray(labels)))
    np.testing.assert_array_equal(el2n(jnp.asarray(logits[rows]), jnp.asarray(labels[rows])), values[rows])
    np.testing.assert_allclose(el2n(jnp.asarray(logits[:, classes]), jnp.asarray(np.argsort(classes)[labels])), values,
                               rtol=1e-6)
    x, image_labels, _, params, _ = images_and_network(conv="tiled")
    moved, order = np.random.default_rng(6).permutation(COUNT), np.array([2, 0, 1])
    turned = {**params, "dense": {"kernel": params["dense"]["kernel"][:, order]}}
    again = compiled_grand(conv="tiled")(turned, x[moved], np.argsort(order).astype(np.int32)[image_labels][moved])
    np.testing.assert_allclose(again, grand_scores(conv="tiled")[moved], rtol=1e-5)
