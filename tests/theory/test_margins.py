"""Margins against NumPy in float64, and by their algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from margin_jax.errors import InputError
from margin_jax.theory import distribution, margins, scores


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


def network(params, x):
    return x @ params


@pytest.mark.parametrize("labels,message", [
    (np.eye(3, dtype=np.int32), r"one-hot rows give labels.argmax\(1\)"), (np.eye(3), "one-hot"),
    (np.zeros(3), "expected integer labels"), (np.zeros(3, bool), "expected integer labels"),
    (np.zeros(2, np.int32), "labels"), (np.int32(0), "labels"), (np.zeros((3, 1, 1), np.int32), "labels")])
def test_labels_that_are_no_column_of_integers_are_refused_by_all_that_take_labels(labels, message):
    logits, x, kernel = jnp.ones((3, 3)), jnp.ones((3, 2)), jnp.ones((2, 3))
    for fn in (margins.margins, scores.el2n, jax.jit(margins.margins)):
        with pytest.raises(InputError, match=message):
            fn(logits, labels)
    for fn in (margins.network_margins, scores.network_grand):
        with pytest.raises(ValueError, match=message if labels.shape != (2,) else "one length"):
            fn(network, kernel, x, labels)


@pytest.mark.parametrize("label", [np.eye(3, dtype=np.int32)[0], 1.0])
def test_one_label_is_one_integer(label):
    with pytest.raises(InputError, match="label"):
        margins.margin(jnp.arange(3.0), label)


def test_labels_may_be_a_column_a_list_or_of_64_bits():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    expected = margins.margins(logits, jnp.array([2, 0, 3]))
    for labels in ([2, 0, 3], np.array([[2], [0], [3]]), np.array([2, 0, 3], np.uint64), jnp.array([[2], [0], [3]])):
        np.testing.assert_array_equal(margins.margins(logits, labels), expected)
        np.testing.assert_array_equal(margins.network_margins(lambda p, x: x, None, logits, labels, 2), expected)
        np.testing.assert_array_equal(scores.el2n(logits, labels), scores.el2n(logits, np.array([2, 0, 3])))
    # 2**32 + 1 would wrap around to class 1.
    assert np.isnan(margins.margins(logits, np.array([2**32 + 1, -2**32, 2**62]))).all()


@pytest.mark.parametrize("logits,message", [
    (np.ones(3), r"logits \(N, C\)"), (np.ones((3, 2, 2)), r"logits \(N, C\)"), (np.ones((3, 1)), "two outputs"),
    (np.ones((3, 2), int), "floating logits"), (np.ones((3, 2), complex), "floating logits"),
    ([[1.0, 2.0]], "one array")])
def test_logits_that_are_no_matrix_of_floats_are_refused(logits, message):
    for fn in (margins.margins, scores.el2n):
        with pytest.raises(InputError, match=message):
            fn(logits, np.zeros(3, np.int32))


@pytest.mark.parametrize("output,message", [
    (lambda logits: (logits, {"state": 1}), "tuple.*gives its logits alone"),
    (lambda logits: {"logits": logits}, "dict"), (lambda logits: None, "NoneType"),
    (lambda logits: logits[:, :1], "two outputs"), (lambda logits: logits[0], r"logits \(N, C\)"),
    (lambda logits: jnp.concatenate([logits, logits]), "row of its own"),
    (lambda logits: jnp.argmax(logits, 1, keepdims=True) + jnp.arange(3)[None], "before softmax")])
def test_a_network_that_gives_no_logits_is_named_in_our_words(output, message):
    for fn in (margins.network_margins, scores.network_grand):
        with pytest.raises(InputError, match=message):
            fn(lambda p, x: output(x @ p), jnp.ones((2, 3)), jnp.ones((5, 2)), jnp.zeros(5, jnp.int32), 2)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_margins_of_half_precision_are_those_of_the_same_numbers_in_float32(dtype):
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(9, 4)) * 100, dtype)
    labels = jnp.arange(9) % 4
    # A difference of two of these takes more bits than they have: 300 - 0.51 would be 299.5 or 300.
    for values in (margins.margins(logits, labels), margins.network_margins(network, jnp.eye(4, dtype=dtype), logits,
                                                                          labels, 4)):
        assert values.dtype == jnp.float32
        np.testing.assert_array_equal(values, reference(np.asarray(logits, np.float64), labels).astype(np.float32))
    assert margins.margin(jnp.array([300, 0.51], dtype), 0).dtype == jnp.float32


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
