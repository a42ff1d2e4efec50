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
@pytest.mark.parametrize("keep", [0, 1, 9, 10, 11, N, N + 5])
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


def test_nan_scores_rank_last_in_both_directions():
    values = jnp.array([jnp.nan, 2.0, 1.0, jnp.nan])
    np.testing.assert_array_equal(selection.smallest(values, 2), [False, True, True, False])
    np.testing.assert_array_equal(selection.select("largest", values, 3), [True, True, True, False])


def drawn(seed, keep, within):
    scores = selection.random_scores(jax.random.key(seed), within.size)
    return np.asarray(selection.select("random", scores, keep, within=jnp.asarray(within)))


@pytest.mark.parametrize("keep", [0, 1, 7, N])
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
@pytest.mark.parametrize("keep", [0, 1, 7, 10, 20, N])
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
    for wanted, message in (([], "got 0 ids"), ([5, 5], "1 are repeats"), ([5, 4], "the first of these 4")):
        with pytest.raises(InputError, match=message):
            selection.of_ids(ids, np.array(wanted, int))
