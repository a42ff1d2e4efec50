"""Rules keep exactly the count asked for, of the right rows, whatever ties there are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from margin_jax.errors import InputError
from margin_jax.theory import selection

N = 24


def within_mask(kept, seed=0):
    mask = np.zeros(N, bool)
    mask[np.random.default_rng(seed).permutation(N)[:kept]] = True
    return mask


def scores(kind):
    rng = np.random.default_rng(7)
    values = {"distinct": rng.normal(size=N), "ties": rng.integers(0, 3, N), "equal": np.ones(N)}
    return values[kind].astype(np.float32)


def first_by(values, keep, within):
    rows = sorted(np.flatnonzero(within), key=lambda row: (values[row], row))
    return np.isin(np.arange(N), rows[:keep])


@pytest.mark.parametrize("kind", ["distinct", "ties", "equal"])
@pytest.mark.parametrize("kept", [1, 10, N])
@pytest.mark.parametrize("keep", [1, 9, 10, 11, N])
def test_smallest_and_largest_match_a_sorted_list(kind, kept, keep):
    values, within = scores(kind), within_mask(kept)
    garbage = np.where(within, values, np.nan)
    for rule, sign in (("smallest", 1), ("largest", -1)):
        found = selection.select(rule, jnp.asarray(garbage), keep, within=jnp.asarray(within))
        np.testing.assert_array_equal(found, first_by(sign * values, keep, within))


def test_keep_may_be_traced_and_compiles_once():
    chosen = jax.jit(selection.smallest)
    for keep in range(N + 1):
        assert chosen(jnp.asarray(scores("ties")), keep).sum() == keep
    assert chosen._cache_size() == 1


@pytest.mark.parametrize("keep", [0, -1, N + 1, 2**40, 2.0, 2.5, True, None, np.float32(3), np.arange(2), "3"])
@pytest.mark.parametrize("rule", ["smallest", "balanced"])
def test_a_count_that_is_none_of_1_to_n_is_refused(rule, keep):
    with pytest.raises(InputError, match=f"keep as an integer in 1..N = {N}"):
        selection.select(rule, jnp.asarray(scores("distinct")), keep, np.zeros(N, int))
    with pytest.raises(InputError, match="keep as an integer"):
        jax.jit(selection.smallest)(scores("distinct"), 2.0)  # traced: its type alone is known


@pytest.mark.parametrize("keep", [np.int64(3), np.uint8(3), np.array(3), jnp.int32(3)])
def test_a_count_of_any_integer_type_is_taken(keep):
    assert selection.smallest(jnp.asarray(scores("distinct")), keep).sum() == 3


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.zeros(0), np.float32(1), np.zeros(3, complex),
                                    np.array(["a", "b"])])
def test_scores_that_are_no_column_of_numbers_are_refused(values):
    with pytest.raises(InputError, match=r"expected scores \(N,\)"):
        selection.select("smallest", values, 1)


@pytest.mark.parametrize("within", [np.ones(N, int), np.ones(N - 1, bool), np.ones((N, 1), bool)])
def test_rows_to_choose_from_are_a_boolean_mask(within):
    with pytest.raises(InputError, match="expected within as a boolean mask"):
        selection.smallest(scores("distinct"), 3, within)


@pytest.mark.parametrize("labels", [np.eye(N, dtype=np.int32), np.zeros(N), np.zeros(N - 1, int)])
def test_classes_are_integers_one_for_each_score(labels):
    with pytest.raises(InputError, match="labels"):
        selection.balanced_mask(scores("distinct"), labels, 3)


def test_scores_in_float64_keep_their_order_below_the_smallest_float32():
    # Normalised margins of a deep network; in float32 all would be 0 and tie, and in integers of 32 bits wrap around.
    values = np.array([3e-60, np.nan, 1e-60, 2e-60, 1e-60])
    np.testing.assert_array_equal(selection.smallest(values, 2), [False, False, True, False, True])
    np.testing.assert_array_equal(selection.select("largest", values, 4), [True, False, True, True, True])
    np.testing.assert_array_equal(selection.smallest(np.array([2**40, 1, 2**33]), 2), [False, True, True])


def test_nan_scores_rank_last_in_both_directions():
    values = jnp.array([jnp.nan, 2.0, 1.0, jnp.nan])
    np.testing.assert_array_equal(selection.smallest(values, 2), [False, True, True, False])
    np.testing.assert_array_equal(selection.select("largest", values, 3), [True, True, True, False])


def drawn(seed, keep, within):
    scores = selection.random_scores(jax.random.key(seed), within.size)
    return np.asarray(selection.select("random", scores, keep, within=jnp.asarray(within)))


@pytest.mark.parametrize("keep", [1, 7, N])
def test_random_keeps_exactly_that_many_of_the_kept(keep):
    within = within_mask(15)
    found = [drawn(seed, keep, within) for seed in range(30)]
    assert all(f.sum() == min(keep, 15) and not (f & ~within).any() for f in found)
    np.testing.assert_array_equal(found[3], drawn(3, keep, within))
    if keep == 7:  # every kept row is drawn now and then, and not always
        share = np.mean(found, 0)[within]
        assert share.min() > 0 and share.max() < 1


def balanced_by_hand(values, labels, keep, within):
    queues = {c: [r for r in sorted(range(N), key=lambda r: (values[r], r)) if within[r] and labels[r] == c]
              for c in set(labels.tolist())}
    chosen = []
    while len(chosen) < keep and any(queues.values()):
        turn = sorted((q.pop(0) for q in queues.values() if q), key=lambda r: (values[r], r))
        chosen += turn[:keep - len(chosen)]
    return np.isin(np.arange(N), chosen)


@pytest.mark.parametrize("kind", ["distinct", "ties", "equal"])
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("keep", [1, 7, 10, 20, N])
@pytest.mark.parametrize("kept", [9, N])
def test_balanced_matches_filling_classes_in_turn(kind, classes, keep, kept):
    values, within = scores(kind), within_mask(kept)
    labels = (np.random.default_rng(1).permutation(N) % classes).astype(np.int32)
    found = np.asarray(selection.balanced_mask(jnp.asarray(values), jnp.asarray(labels), keep, jnp.asarray(within)))
    np.testing.assert_array_equal(found, balanced_by_hand(values, labels, keep, within))
    counts = np.bincount(labels[found], minlength=classes)
    available = np.bincount(labels[within], minlength=classes)
    assert all(counts[c] == available[c] or counts[c] >= counts.max() - 1 for c in range(classes))


def test_balanced_moves_the_share_of_an_exhausted_class_to_the_others():
    labels = jnp.array([0, 0, 0, 0, 1])
    np.testing.assert_array_equal(selection.balanced_mask(jnp.arange(5.0), labels, 4), [True, True, True, False, True])


def test_explicit_ids():
    ids = np.array([3, 5, 8, 13])
    np.testing.assert_array_equal(selection.of_ids(ids, np.array([13, 5])), [False, True, False, True])
    for wanted, message in (([], "got 0 ids"), ([5, 5], "1 are repeats"), ([5, 4], "the first of these 4"),
                            ([5.0], "list of integers"), ([[5]], "list of integers"), ([True], "list of integers")):
        with pytest.raises(InputError, match=message):
            selection.of_ids(ids, np.array(wanted))
