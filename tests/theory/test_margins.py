"""Margins against NumPy in float64, and by their algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from margin_jax.theory import distribution, margins


def reference(logits, labels):
    out = []
    for row, label in zip(np.asarray(logits, np.float64), labels, strict=True):
        out.append(row[label] - max(v for j, v in enumerate(row) if j != label))
    return np.array(out)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("count", [1, 2, 17])
def test_margins_match_numpy(classes, count):
    rng = np.random.default_rng(classes * count)
    logits, labels = rng.normal(size=(count, classes)).astype(np.float32), rng.integers(0, classes, count)
    values = margins.margins(jnp.asarray(logits), jnp.asarray(labels))
    assert values.shape == (count,)
    np.testing.assert_allclose(values, reference(logits, labels), rtol=1e-6)


def test_misclassified_margin_subtracts_the_largest_not_the_second_largest():
    # The trap: own - second largest would give 1 - 2 = -1 here.
    assert margins.margin(jnp.array([5.0, 2.0, 1.0]), jnp.int32(2)) == -4


def test_a_tie_is_not_correct():
    value = margins.margin(jnp.array([1.0, 1.0, 0.0]), jnp.int32(0))
    assert value == 0 and not distribution.separated(value[None])


@pytest.mark.parametrize("label", [-1, 3, 100])
def test_label_out_of_range_is_nan(label):
    assert jnp.isnan(margins.margin(jnp.array([1.0, 2.0, 3.0]), jnp.int32(label)))


@pytest.mark.parametrize("shape", [(1,), (2, 3), ()])
def test_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(C,\) with C >= 2"):
        margins.margin(jnp.zeros(shape), jnp.int32(0))


def test_permuting_classes_or_shifting_logits_changes_nothing():
    rng = np.random.default_rng(0)
    logits, labels, order = rng.normal(size=(9, 5)).astype(np.float32), rng.integers(0, 5, 9), rng.permutation(5)
    before = margins.margins(jnp.asarray(logits), jnp.asarray(labels))
    permuted = margins.margins(jnp.asarray(logits[:, order]), jnp.asarray(np.argsort(order)[labels]))
    np.testing.assert_array_equal(before, permuted)
    np.testing.assert_allclose(margins.margins(jnp.asarray(logits + 3), jnp.asarray(labels)), before, atol=1e-6)


@pytest.mark.parametrize("count,piece", [(1, 1), (1, 5), (4, 5), (5, 5), (6, 5), (23, 5), (23, 100)])
def test_network_margins_in_pieces_match_one_pass(count, piece):
    rng = np.random.default_rng(count)
    x, labels = jnp.asarray(rng.normal(size=(count, 4)), jnp.float32), jnp.asarray(rng.integers(0, 3, count))
    params = {"anything": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)}
    apply_fn = lambda p, x: x @ p["anything"]  # noqa: E731
    values = margins.network_margins(apply_fn, params, x, labels, piece)
    np.testing.assert_allclose(values, reference(np.asarray(x) @ np.asarray(params["anything"]), labels), rtol=1e-4,
                               atol=1e-5)


def test_network_margins_map_over_networks():
    rng = np.random.default_rng(3)
    x, labels = jnp.asarray(rng.normal(size=(7, 4)), jnp.float32), jnp.asarray(rng.integers(0, 3, 7))
    stack = jnp.asarray(rng.normal(size=(5, 4, 3)), jnp.float32)
    of_one = lambda w: margins.network_margins(lambda p, x: x @ p, w, x, labels, 3)  # noqa: E731
    np.testing.assert_allclose(jax.vmap(of_one)(stack), jnp.stack([of_one(w) for w in stack]), rtol=1e-5, atol=1e-6)


def test_margin_curve_and_normalisation():
    normalised = distribution.normalised_margins(jnp.array([4.0, -2.0, 1.0, 3.0]), jnp.float32(2))
    ranks, curve = distribution.margin_curve(normalised)
    np.testing.assert_array_equal(curve, [-1, 0.5, 1.5, 2])
    np.testing.assert_array_equal(ranks, [0.25, 0.5, 0.75, 1])


def test_separation_looks_at_kept_rows_and_nan_is_not_separated():
    values = jnp.array([0.1, -1.0, jnp.nan])
    assert not distribution.separated(values)
    assert distribution.separated(values, jnp.array([True, False, False]))
    assert not distribution.separated(values, jnp.array([True, False, True]))


def test_support_set_orders_by_margin_then_id_in_any_row_order():
    values, ids = np.array([2.0, 1.0, 1.0, 0.0, 1.0], np.float32), np.array([7, 9, 3, 5, 4])
    for order in (np.arange(5), np.array([4, 2, 0, 1, 3])):
        found = distribution.support_set(jnp.asarray(values[order]), jnp.asarray(ids[order]), 3)
        np.testing.assert_array_equal(found, [5, 3, 4])
    with pytest.raises(ValueError, match="1 <= k <= N = 5"):
        distribution.support_set(jnp.asarray(values), jnp.asarray(ids), 6)


def test_overlap_counts_common_ids():
    assert distribution.overlap(jnp.array([1, 2, 3, 4]), jnp.array([4, 9, 2, 8])) == 0.5
    assert distribution.overlap(jnp.array([1, 2]), jnp.array([2, 1])) == 1
    with pytest.raises(ValueError, match="same size"):
        distribution.overlap(jnp.array([1]), jnp.array([1, 2]))
