"""Every rule against a greedy loop: the right end of the right score, exactly as many as asked for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from margin_jax.theory import selection

N = 20
KEEPS = range(1, N + 3)
ENDS = {"smallest": 1, "largest": -1, "random": 1, "balanced": 1, "el2n": -1, "grand": -1, "forgetting": -1, "aum": 1,
        "kkt": -1, "dual": -1, "kcenter": 1}


def greedy_order(values, labels, within, per_class):
    """Rows one at a time: numbers before NaN, classes with fewer rows before those with more, then value, then id."""
    left, order, taken = np.flatnonzero(within).tolist(), [], dict.fromkeys(labels.tolist(), 0)
    ranks = [(True, 0.0) if np.isnan(value) else (False, value) for value in values.tolist()]
    while left:
        best = min(left, key=lambda row: (ranks[row][0], taken[labels[row]], ranks[row][1], row))
        order.append(best)
        left.remove(best)
        taken[labels[best]] += per_class
    return order


@functools.cache
def cases():
    """Scores, labels and rows to choose from, (cases, N)."""
    rng = np.random.default_rng(3)
    distinct, ties = rng.normal(size=N), rng.integers(0, 3, N).astype(float)
    some_nan = np.where(rng.random(N) < 0.4, np.nan, ties)
    rows = [(values, rng.permutation(N) % classes, within)
            for values in (distinct, ties, np.ones(N), some_nan, np.full(N, np.nan))
            for classes in (2, 10) for within in (np.ones(N, bool), rng.random(N) < 0.6)]
    values, labels, within = (np.stack(part) for part in zip(*rows, strict=True))
    return values.astype(np.float32), labels.astype(np.int32), within


@functools.cache
def truth(sign, per_class):
    """Masks (cases, counts, N) of the first 1, 2, ..., N + 2 rows of every case."""
    orders = [greedy_order(sign * value, label, rows, per_class) for value, label, rows in zip(*cases(), strict=True)]
    return np.array([[np.isin(np.arange(N), order[:keep]) for keep in KEEPS] for order in orders])


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("rule", ENDS)
def test_every_rule_keeps_exactly_n_of_the_right_rows(rule, balanced):
    values, labels, within = cases()

    def of_case(values, labels, within):
        return jax.vmap(lambda keep: selection.select(rule, values, keep, labels, within, balanced))(jnp.array(KEEPS))

    found = np.asarray(jax.vmap(of_case)(values, labels, within))
    np.testing.assert_array_equal(found.sum(2), np.minimum(np.array(KEEPS)[None], within.sum(1)[:, None]))
    np.testing.assert_array_equal(found, truth(ENDS[rule], balanced or rule == "balanced"))


def test_the_table_holds_every_rule_with_a_score_and_others_are_refused():
    assert (*selection.RANKINGS, "ids") == selection.RULES
    assert {rule: -1 if r.largest else 1 for rule, r in selection.RANKINGS.items() if r.score} == ENDS
    assert [r.score for r in selection.RANKINGS.values()] == [
        "margins", "margins", "random", "margins", "el2n", "grand", "forgetting", "aum", "kkt", "dual", "kcenter", "",
        ""]
    for rule in ("ids", "hardest"):
        with pytest.raises(ValueError, match=f"got '{rule}'"):
            selection.select(rule, jnp.ones(3), 1)


def test_random_is_the_selection_it_always_was():
    within = np.arange(N) % 3 > 0
    for seed in range(5):
        drawn = selection.random_scores(jax.random.key(seed), N)
        permutation = np.asarray(jax.random.permutation(jax.random.key(seed), N))
        rows = sorted(np.flatnonzero(within), key=lambda row: permutation[row])
        for keep in (1, 6, N):
            found = selection.select("random", drawn, keep, within=jnp.asarray(within))
            np.testing.assert_array_equal(found, np.isin(np.arange(N), rows[:keep]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, bool])
def test_scores_of_any_type_keep_their_order(dtype):
    values = np.array([3, 0, 2, 0, 1]).astype(dtype)
    for rule, sign in (("forgetting", -1), ("aum", 1)):
        order = sorted(range(5), key=lambda row: (sign * int(values[row]), row))
        for keep in range(1, 6):
            found = selection.select(rule, values, keep)
            np.testing.assert_array_equal(found, np.isin(np.arange(5), order[:keep]))


@pytest.mark.parametrize("rule", ["balanced", "el2n"])
def test_keep_may_be_traced_and_compiles_once(rule):
    chosen = jax.jit(lambda values, labels, keep: selection.select(rule, values, keep, labels, balanced=True))
    values, labels, _ = cases()
    assert [int(chosen(values[0], labels[0], keep).sum()) for keep in (0, 3, N)] == [0, 3, N]
    assert chosen._cache_size() == 1


@pytest.mark.parametrize("balanced", [False, True])
def test_names_and_order_of_classes_and_rows_do_not_matter(balanced):
    rng = np.random.default_rng(9)
    values, labels = rng.normal(size=N).astype(np.float32), (rng.permutation(N) % 5).astype(np.int32)
    classes, rows = np.array([40, 3, 17, 0, 9], np.int32), rng.permutation(N)
    for rule in ("smallest", "el2n"):
        found = np.asarray(selection.select(rule, values, 8, labels, balanced=balanced))
        np.testing.assert_array_equal(selection.select(rule, values, 8, classes[labels], balanced=balanced), found)
        np.testing.assert_array_equal(selection.select(rule, values[rows], 8, labels[rows], balanced=balanced),
                                      found[rows])


def test_dividing_margins_by_rho_leaves_the_smallest_as_they_are():
    values = np.random.default_rng(10).normal(size=N).astype(np.float32)
    for rho in (np.float32(2.0 ** -20), np.float32(1 / 3), np.float32(22_400)):
        for keep in (1, 5, N - 1):
            np.testing.assert_array_equal(selection.smallest(jnp.asarray(values / rho), keep),
                                          selection.smallest(jnp.asarray(values), keep))


@pytest.mark.parametrize(("rule", "balanced"), [("smallest", True), ("balanced", False)])
def test_equal_shares_need_labels(rule, balanced):
    with pytest.raises(ValueError, match="expected labels"):
        selection.select(rule, jnp.arange(4.0), 2, balanced=balanced)
