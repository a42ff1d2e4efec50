"""Replace-one trials: which points are drawn, and differences against sums written out."""

import numpy as np
import pytest

from margin_jax.theory.replace_one import CHOICES, Outcome, Trial, design, differences, index_map, quantities

MARGINS = np.array([0.5, 0.1, 0.9, 0.1, 0.7, 0.9, 0.3])  # ties for smallest and largest
N = MARGINS.size


def of(drawn, choice):
    return [trial for trial in drawn if trial.choice == choice]


@pytest.mark.parametrize("trials", [1, 3, 4, 5, 17])
def test_points_are_drawn_without_replacement_until_all_have_come(trials):
    drawn = design(CHOICES, trials, 1, MARGINS, 4, seed=3)
    assert [(trial.number, trial.choice) for trial in drawn] == [(n, c) for n in range(trials) for c in CHOICES]
    assert {trial.out_row for trial in of(drawn, "smallest")} == {1} and {
        trial.out_row for trial in of(drawn, "largest")} == {2}  # ties go to the smaller id
    for rows, count, first in (([t.in_row for t in of(drawn, "random")], 4, N),
                               ([t.out_row for t in of(drawn, "random")], N, 0)):
        for start in range(0, trials, count):
            part = rows[start:start + count]
            assert len(set(part)) == len(part) and set(part) <= set(range(first, first + count))
    for number in range(trials):
        assert len({trial.in_row for trial in drawn if trial.number == number}) == 1


def test_more_trials_and_other_choices_leave_the_draws_as_they_are():
    whole = design(CHOICES, 9, 3, MARGINS, 4, seed=5)
    assert design(CHOICES, 4, 3, MARGINS, 4, seed=5) == whole[:12]
    assert design(("largest",), 9, 3, MARGINS, 4, seed=5) == of(whole, "largest")
    assert design(CHOICES, 9, 3, MARGINS, 4, seed=6) != whole
    assert design(CHOICES, 0, 3, MARGINS, 4, seed=5) == []


@pytest.mark.parametrize("pool,smallest,largest", [(1, {1}, {2}), (2, {1, 3}, {2, 5}),
                                                   (N, set(range(N)), set(range(N)))])
def test_a_pool_is_drawn_from_evenly(pool, smallest, largest):
    drawn = design(CHOICES, 2 * pool, pool, MARGINS, 5, seed=0)
    for choice, expected in (("smallest", smallest), ("largest", largest)):
        rows = [trial.out_row for trial in of(drawn, choice)]
        assert set(rows) == expected and all(rows.count(row) == 2 for row in expected)


@pytest.mark.parametrize("choices,pool", [(("middle",), 1), (("random",), 0), (("random",), N + 1)])
def test_unknown_choices_and_pools_are_refused(choices, pool):
    with pytest.raises(ValueError, match="expected choices of"):
        design(choices, 3, pool, MARGINS, 4, seed=0)


def outcomes(classes, rows, rng):
    """Two networks with their margins and losses worked out in float64."""
    labels, networks = rng.integers(0, classes, rows), []
    for rho in (3.0, 1e40):  # beyond float32
        logits = (rng.normal(size=(rows, classes)) * rho).astype(np.float64)
        margins = np.array([row[y] - np.delete(row, y).max() for row, y in zip(logits, labels, strict=True)])
        shifted = logits - logits.max(axis=1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(rows), labels]
        networks.append(Outcome(margins, losses, logits, rho))
    return networks


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("incoming", [N, N + 2, N + 4])
def test_differences_are_those_of_sums_without_the_incoming_point(classes, incoming):
    before, after = outcomes(classes, N + 5, np.random.default_rng(incoming))
    changes = differences(before, after, Trial(0, "random", 2, incoming), N)
    tested = [row for row in range(N, N + 5) if row != incoming]
    trained = [row for row in range(N) if row != 2] + [incoming]
    np.testing.assert_allclose(changes["d_test_loss"], sum(after.losses[r] - before.losses[r] for r in tested) / 4)
    wrong = [sum(outcome.margins[row] <= 0 for row in tested) for outcome in (before, after)]
    assert changes["d_test_error"] == 25 * wrong[1] - 25 * wrong[0] and changes["d_rho"] == 1e40 - 3
    smallest = min(before.margins[:N]) / 3, min(after.margins[trained]) / 1e40
    np.testing.assert_allclose(changes["d_margin_min"], smallest[1] - smallest[0])
    np.testing.assert_allclose(changes["d_output"], sum(
        np.sqrt(sum((after.logits[r] / 1e40 - before.logits[r] / 3) ** 2)) for r in tested) / 4)
    assert changes["train_error"] == pytest.approx(100 * sum(after.margins[trained] <= 0) / N)


def test_a_point_replaced_by_itself_leaves_the_test_set_whole():
    outcome = outcomes(3, N + 5, np.random.default_rng(0))[0]
    changes = differences(outcome, outcome, Trial(0, "random", 4, 4), N)
    assert all(changes[name] == 0 for name in changes if name.startswith("d_"))
    assert changes["train_error"] == quantities(outcome, np.arange(N), np.arange(N, N + 5))["train_error"]


@pytest.mark.parametrize("out", [0, 3, N - 1])
def test_the_incoming_point_stands_in_the_place_of_the_outgoing_one(out):
    index = index_map(Trial(0, "random", out, N + 1), N)
    assert index.dtype == np.int32 and index[out] == N + 1
    assert np.delete(index, out).tolist() == [row for row in range(N) if row != out]
