"""Rules that leave out the hardest examples, against plain loops: windows, strata, greedy k-center."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from margin_jax.errors import InputError
from margin_jax.theory import scores, selection
from margin_jax.theory.selection import Cut

N = 24
KEEPS = (1, 2, 5, 11, 23, 24, 30)


@functools.cache
def cases():
    """Scores that are exact in float32, labels of 2 and 10 classes, rows to choose from, an order to draw by."""
    rng = np.random.default_rng(7)
    distinct, ties = rng.permutation(N) * 0.25, rng.integers(0, 4, N).astype(float)
    skewed = np.where(np.arange(N) < 18, rng.integers(0, 8, N) / 64, rng.integers(0, 64, N) / 8.0)
    nan = np.where(rng.random(N) < 0.3, np.nan, distinct)
    return [(values.astype(np.float32), (rng.permutation(N) % classes).astype(np.int32), within, rng.permutation(N))
            for values in (distinct, ties, np.ones(N), skewed, nan, np.full(N, np.nan)) for classes in (2, 10)
            for within in (np.ones(N, bool), rng.random(N) < 0.6)]


def quotas(values, labels, keep):
    """How many of each class: filled in turn, numbers before NaN, in a turn by score, then by id."""
    unknown, values = np.isnan(values), np.nan_to_num(values)  # NaN cannot be compared
    left, taken = list(range(len(values))), dict.fromkeys(labels.tolist(), 0)
    ranked = {label: sorted((row for row in left if labels[row] == label),
                            key=lambda row: (unknown[row], values[row], row)) for label in taken}
    while keep and any(ranked.values()):
        heads = [rows[0] for rows in ranked.values() if rows]
        row = min(heads, key=lambda row: (unknown[row], taken[labels[row]], values[row], row))
        ranked[labels[row]].pop(0)
        taken[labels[row]] += 1
        keep -= 1
    return taken


def plain_window(values, keep, hardest):
    numbers = sorted((row for row in range(len(values)) if not np.isnan(values[row])),
                     key=lambda row: (values[row], row))
    rest = [row for row in range(len(values)) if np.isnan(values[row])]
    cut = min(math.floor(hardest * len(numbers)), max(len(numbers) - keep, 0))
    return (numbers[cut:] + rest)[:keep], numbers[cut:], rest


def plain_strata(values, keep, hardest, strata, order):
    """Algorithm 1 of coverage-centric selection, one stratum after the other, the smallest first."""
    _, left, rest = plain_window(values, keep, hardest)
    low, high = (min(values[left]), max(values[left])) if left else (0, 0)
    groups = [[] for _ in range(strata)]
    for row in left:
        share = (values[row] - low) / (high - low) if high > low else 0.0
        groups[min(int(share * strata), strata - 1)].append(row)
    chosen, budget = [], min(keep, len(left))
    ascending = sorted(range(strata), key=lambda place: len(groups[place]))
    for done, place in enumerate(ascending):
        take = min(len(groups[place]), budget // (strata - done))
        chosen += sorted(groups[place], key=lambda row: order[row])[:take]
        budget -= take
    return chosen + sorted(rest, key=lambda row: order[row])[:keep - len(chosen)]


def plain(rule, values, keep, labels, within, cut, balanced):
    rows = np.flatnonzero(within)
    values, labels, order, mask = values[rows].astype(float), labels[rows], cut.order[rows], np.zeros(N, bool)
    counts = quotas(values, labels, keep) if balanced else {0: min(keep, rows.size)}
    for label, count in counts.items():
        places = np.flatnonzero(labels == label) if balanced else np.arange(rows.size)
        chosen = plain_window(values[places], count, cut.hardest)[0] if rule == "window" else plain_strata(
            values[places], count, cut.hardest, cut.strata, order[places])
        mask[rows[places[chosen]]] = True
    return mask


@functools.partial(jax.jit, static_argnums=(0, 6, 7, 8, 9))
def chosen(rule, values, keep, labels, within, order, difficulty, hardest, strata, balanced):
    return selection.select(rule, values, keep, labels, within, balanced, Cut(difficulty, hardest, strata, order))


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("hardest", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("rule", ["window", "stratified"])
def test_windows_and_strata_are_those_of_a_loop(rule, hardest, balanced):
    for values, labels, within, order in cases():
        for keep in KEEPS:
            expected = plain(rule, values, keep, labels, within, Cut("aum", hardest, 8, order), balanced)
            assert expected.sum() == min(keep, within.sum())
            for difficulty, sign in (("aum", 1), ("el2n", -1)):
                found = chosen(rule, sign * values, keep, labels, within, order, difficulty, hardest, 8, balanced)
                np.testing.assert_array_equal(found, expected, err_msg=f"{keep} {values} {labels} {within}")
    assert chosen._cache_size() <= 12 * 4  # for every rule, share and difficulty one program, whatever the count


def test_a_window_leaves_out_the_hardest_and_no_more_than_may_go():
    margins = np.arange(10.0)
    of = functools.partial(selection.window_mask, margins)
    np.testing.assert_array_equal(np.flatnonzero(of(3, Cut(hardest=0.2))), [2, 3, 4])
    np.testing.assert_array_equal(np.flatnonzero(of(9, Cut(hardest=0.5))), np.arange(1, 10))
    np.testing.assert_array_equal(of(10, Cut(hardest=1.0)), np.ones(10, bool))
    np.testing.assert_array_equal(np.flatnonzero(of(1, Cut(hardest=1.0))), [9])
    np.testing.assert_array_equal(np.flatnonzero(of(2, Cut("grand", 0.2))), [6, 7])


def test_strata_share_the_count_and_a_small_one_gives_all_it_has():
    """Counts 12, 1 and 3 of three ranges, 9 to keep: 1, 3 and the other 5."""
    values = np.concatenate([np.zeros(12), [1.5], [2.7, 2.8, 3.0]])
    mask = np.asarray(selection.stratified_mask(values, 9, Cut(hardest=0, strata=3, order=np.arange(16))))
    np.testing.assert_array_equal(np.flatnonzero(mask), [0, 1, 2, 3, 4, 12, 13, 14, 15])
    drawn = np.stack([selection.stratified_mask(values, 9, Cut(hardest=0, strata=3, order=selection.random_scores(
        jax.random.key(seed), 16))) for seed in range(200)])
    share = drawn[:, :12].mean(axis=0)  # 5 of 12 in each draw: 0.42 with a standard error of 0.035
    assert (drawn.sum(axis=1) == 9).all() and drawn[:, 12:].all() and np.abs(share - 5 / 12).max() < 0.14


def plain_k_center(features, count, labels, within):
    """Gonzalez's traversal in float64 by full distance matrices."""
    rows, places = np.flatnonzero(within).tolist(), np.full(len(features), len(features))
    taken = {label: [] for label in labels[within].tolist()}
    for place in range(min(count, len(rows))):
        least = min(len(t) for label, t in taken.items() if any(labels[r] == label and r not in t for r in rows))
        free = [r for r in rows if len(taken[labels[r]]) == least and r not in taken[labels[r]]]

        def farness(row):
            ours = taken[labels[row]]
            mean = np.mean([features[r] for r in rows if labels[r] == labels[row]], axis=0)
            if not ours:
                return -np.sum((features[row] - mean) ** 2)
            return min(np.sum((features[row] - features[r]) ** 2) for r in ours)

        new = max(free, key=lambda row: (farness(row), -row))
        taken[labels[new]].append(new)
        places[new] = place
    return places


@pytest.mark.parametrize("by_class", [False, True])
def test_greedy_k_center_is_that_of_a_loop_ties_and_all(by_class):
    rng = np.random.default_rng(4)
    # Whole numbers whose means are exact: many distances are equal.
    half = rng.integers(-3, 4, (8, 3)).astype(np.float32)
    features, within = np.concatenate([half, -half]), np.ones(16, bool)
    labels = (np.tile(np.arange(8) % 2, 2) if by_class else np.zeros(16)).astype(np.int32)
    for count in (1, 2, 5, 15, 16):
        found = scores.farthest_first(features, count, labels if by_class else None, within)
        np.testing.assert_array_equal(found, plain_k_center(features, count, labels, within))
        assert (np.asarray(found) < 16).sum() == count
    some = rng.random((40, 5)).astype(np.float32)
    labels = (rng.permutation(40) % (10 if by_class else 1)).astype(np.int32)
    within = rng.random(40) < 0.7
    found = np.asarray(scores.farthest_first(some, 40, labels if by_class else None, within))
    np.testing.assert_array_equal(found, plain_k_center(some.astype(float), 40, labels, within))
    for keep in (1, 9, 20):  # the places are scores of which the smallest are kept, the same for every count
        mask = selection.select("kcenter", found, keep, labels, within, balanced=by_class)
        np.testing.assert_array_equal(mask, found < keep)


def test_greedy_k_center_covers_within_twice_the_best_radius():
    """Gonzalez's bound, against all choices of 3 of 9 points."""
    import itertools
    points = np.random.default_rng(5).normal(size=(9, 2)).astype(np.float32)
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
    best = min(gaps[list(chosen)].min(axis=0).max() for chosen in itertools.combinations(range(9), 3))
    greedy = np.flatnonzero(np.asarray(scores.farthest_first(points, 3)) < 3)
    assert greedy.size == 3 and gaps[greedy].min(axis=0).max() <= 2 * best + 1e-6


def test_bad_cuts_and_features_are_refused():
    values = np.arange(4.0)
    for cut, message in ((Cut("hard"), "expected a difficulty"), (Cut(hardest=1.5), r"in \[0, 1\]"),
                         (Cut(hardest=math.nan), r"in \[0, 1\]")):
        with pytest.raises(InputError, match=message):
            selection.select("window", values, 2, cut=cut)
    for cut, message in ((Cut(), "order .* to draw by"), (Cut(order=np.arange(3)), "order .* to draw by"),
                         (Cut(order=np.arange(4), strata=0), "strata >= 1")):
        with pytest.raises(InputError, match=message):
            selection.select("stratified", values, 2, cut=cut)
    with pytest.raises(InputError, match="expected labels"):
        selection.select("window", values, 2, balanced=True)
    for features, message in ((np.ones(3), "features"), (np.array([[1.0, np.nan]]), "finite features"),
                              (np.ones((3, 2), int), "features")):
        with pytest.raises(InputError, match=message):
            scores.farthest_first(features, 1)
    with pytest.raises(InputError, match="count as an integer"):
        scores.farthest_first(np.ones((3, 2)), 4)


def test_dual_is_the_mean_over_windows_of_difficulty_times_deviation():
    rng = np.random.default_rng(6)
    p = rng.random((12, 7)).astype(np.float32)
    for window in (2, 5, 12):
        parts = [(1 - p[t:t + window].astype(float).mean(0)) * np.std(p[t:t + window].astype(float), axis=0, ddof=1)
                 for t in range(12 - window + 1)]
        np.testing.assert_allclose(scores.dual(p, window), np.mean(parts, axis=0), rtol=1e-5)
    np.testing.assert_allclose(scores.dual(np.full((5, 3), 0.25, np.float32), 3), 0, atol=1e-7)  # no deviation
    for bad, window, message in ((p[0], 2, "probabilities"), (p, 13, r"window of 2..E epochs, here E = 12"),
                                 (p, 1, "window"), (np.ones((4, 2), int), 2, "int64")):
        with pytest.raises(InputError, match=message):
            scores.dual(jnp.asarray(bad) if bad.ndim == 1 else bad, window)
