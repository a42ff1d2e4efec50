"""Forgetting events and AUM against lists of presentations kept by hand."""

import jax
import numpy as np
import pytest

from margin_jax.theory import scores

N, ROUNDS = 12, 15
present = jax.jit(scores.present)


def course(seed):
    """Margins and presentations (ROUNDS, N): row 0 is never presented, 1 never learned, 2 removed halfway, 3 returns
    later, 4 is presented once, 5 learned at once and never forgotten; margins are NaN where not shown."""
    rng = np.random.default_rng(seed)
    margins, shown = rng.normal(size=(ROUNDS, N)).astype(np.float32), rng.random((ROUNDS, N)) < 0.7
    margins[rng.random((ROUNDS, N)) < 0.1] = 0  # a tie is not correct
    shown[:, 0], shown[:, 1], shown[ROUNDS // 2:, 2] = False, True, False
    shown[:, 3], shown[5:9, 3], shown[:, 4] = True, False, np.arange(ROUNDS) == 3
    margins[:, 1], margins[:, 5] = -np.abs(margins[:, 1]), np.abs(margins[:, 5]) + 0.1
    return np.where(shown, margins, np.nan), shown


def by_hand(margins, shown):
    forgetting, aum = [], []
    for row in range(N):
        seen = [float(margins[t, row]) for t in range(ROUNDS) if shown[t, row]]
        events = sum(1 for before, after in zip(seen, seen[1:], strict=False) if before > 0 and not after > 0)
        forgetting.append(events if any(value > 0 for value in seen) else len(seen))
        aum.append(sum(seen) / len(seen) if seen else np.nan)
    return forgetting, aum


@pytest.mark.parametrize("seed", range(3))
def test_scores_match_lists_of_presentations(seed):
    margins, shown = course(seed)
    record = scores.fresh_dynamics(N)
    for round_margins, round_shown in zip(margins, shown, strict=True):
        record = present(record, round_margins, round_shown)
    forgetting, aum = by_hand(margins, shown)
    assert forgetting[0] == 0 and forgetting[1] == ROUNDS and forgetting[5] == 0
    np.testing.assert_array_equal(scores.forgetting(record), forgetting)
    np.testing.assert_allclose(scores.aum(record), aum, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(record.presentations, shown.sum(0))
    assert [leaf.dtype for leaf in record] == [leaf.dtype for leaf in scores.fresh_dynamics(N)]


def test_a_row_is_forgotten_between_its_own_presentations_not_between_epochs():
    # Correct, away for two epochs, then wrong: one event. Wrong while away: none.
    record = scores.fresh_dynamics(2)
    for margins, shown in (([1, 1], [True, True]), ([-1, -1], [False, False]), ([-1, 1], [True, True])):
        record = present(record, np.array(margins, np.float32), np.array(shown))
    np.testing.assert_array_equal(scores.forgetting(record), [1, 0])
    np.testing.assert_array_equal(scores.aum(record), [0, 1])


def test_a_nan_that_is_shown_is_not_correct_and_spoils_its_own_row_alone():
    record = present(scores.fresh_dynamics(2), np.ones(2, np.float32), np.ones(2, bool))
    record = present(record, np.array([np.nan, 1], np.float32), np.ones(2, bool))
    np.testing.assert_array_equal(scores.forgetting(record), [1, 0])
    np.testing.assert_array_equal(scores.aum(record), [np.nan, 1])


class Foreign:
    """An array of some other framework: all it offers is to become NumPy's."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


@pytest.mark.parametrize("kind", [np.asarray, Foreign, lambda values: values.tolist()])
def test_arrays_of_any_framework_give_the_same_record_outside_compiled_functions_too(kind):
    margins, shown = course(7)
    stored = scores.Dynamics(*(np.asarray(leaf) for leaf in present(scores.fresh_dynamics(N), margins[0], shown[0])))
    record = scores.present(stored, kind(margins[1].astype(np.float64)), kind(shown[1]))
    for a, b in zip(record, present(stored, margins[1], shown[1]), strict=True):
        assert isinstance(a, jax.Array) and a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("margins,shown", [(np.ones(3), np.ones(3, bool)), (np.ones(N), np.ones(3, bool)),
                                           (np.ones(N), np.arange(N)), (np.ones((N, 1)), np.ones(N, bool))])
def test_scores_of_a_subset_or_ids_in_place_of_a_mask_are_refused(margins, shown):
    with pytest.raises(ValueError, match="boolean mask of all"):
        scores.present(scores.fresh_dynamics(N), margins, shown)


def test_records_of_many_networks_are_mapped():
    margins, shown = course(1)
    stack = jax.jit(jax.vmap(scores.present, (None, 0, 0)))(scores.fresh_dynamics(N), margins[:4], shown[:4])
    for network in range(4):
        alone = present(scores.fresh_dynamics(N), margins[network], shown[network])
        for a, b in zip(stack, alone, strict=True):
            np.testing.assert_array_equal(a[network], b)
