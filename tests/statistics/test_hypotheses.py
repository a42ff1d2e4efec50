"""p-values that fit their intervals, against SciPy; Holm against its definition and under simulated nulls."""

import itertools

import numpy as np
import pytest
from scipy import stats

from margin_jax.errors import InputError
from margin_jax.statistics import estimates, hypotheses


def test_holm_steps_down_as_published():
    """Holm (1979) by its rule: reject in order while p_(j) <= alpha / (m - j + 1)."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        p_values = rng.uniform(0, 0.1, rng.integers(1, 8))
        adjusted = hypotheses.holm(p_values)
        for level in (0.01, 0.05, 0.2):
            rejected = set()
            for step, place in enumerate(np.argsort(p_values)):
                if p_values[place] > level / (p_values.size - step):
                    break
                rejected.add(place)
            assert rejected == set(np.flatnonzero(adjusted <= level))


def test_holm_by_hand_with_ties_and_tests_that_were_not_made():
    assert hypotheses.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert hypotheses.holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])
    assert hypotheses.holm([0.04, np.nan, 0.9]) == pytest.approx([0.08, np.nan, 0.9], nan_ok=True)
    assert hypotheses.holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert hypotheses.holm([]).size == 0


@pytest.mark.parametrize("p_values", [[-0.1], [1.2], [[0.1]]])
def test_values_that_are_no_p_values_are_refused(p_values):
    with pytest.raises(InputError, match=r"p-values \(m,\)"):
        hypotheses.holm(p_values)


def test_holm_keeps_the_chance_of_any_false_rejection_where_tests_depend():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(4000, 6)) * 0.8 + rng.normal(size=(4000, 1)) * 0.6
    p_values = 2 * stats.norm.sf(abs(z))
    adjusted = np.array([hypotheses.holm(row) for row in p_values])
    assert (p_values.min(1) <= 0.05).mean() > 0.15  # without correction
    assert (adjusted.min(1) <= 0.05).mean() <= 0.058


def test_student_is_scipys():
    values = np.array([3.1, 2.2, 4.9, 3.3])
    evidence = hypotheses.t_evidence(values)
    for bound in (0, 2.5, 3.4):
        assert evidence.p_value(bound) == pytest.approx(stats.ttest_1samp(values, bound).pvalue)
    assert evidence.p_value(evidence.estimate.high) == pytest.approx(0.05)
    assert np.isnan(hypotheses.t_evidence(np.array([1.0])).p_value(0))
    same = hypotheses.t_evidence(np.full(3, 2.0))
    assert (same.p_value(2.0), same.p_value(1.9)) == (1, 0)


def test_a_mean_from_a_table_gives_the_p_values_of_its_values():
    values = np.array([3.1, 2.2, 4.9])
    table = hypotheses.summary_evidence(estimates.t_interval(values))
    assert table.p_value(1.0) == pytest.approx(stats.ttest_1samp(values, 1.0).pvalue)


def test_draws_reject_where_the_percentile_interval_ends():
    draws = np.concatenate([[0.3], np.random.default_rng(2).normal(0.3, 0.1, 4000)])
    evidence = hypotheses.bootstrap_evidence(draws, 20)
    assert evidence.estimate == estimates.bootstrap_estimate(draws, 20)
    low, high = evidence.estimate.low, evidence.estimate.high
    assert evidence.p_value(low - 0.01) < 0.05 < evidence.p_value(low + 0.01)
    assert evidence.p_value(high + 0.01) < 0.05 < evidence.p_value(high - 0.01)
    assert evidence.p_value(-9) == pytest.approx(2 / 4001)  # never 0
    assert evidence.p_value(0.3) > 0.9
    assert np.isnan(hypotheses.bootstrap_evidence(np.array([np.nan, 1.0]), 2).p_value(0))


def test_correlations_and_ratios_are_judged_on_their_scales():
    correlations = np.array([0.9, 0.7, 0.8])
    evidence = hypotheses.correlation_evidence(correlations)
    ends = stats.t.interval(0.95, 2, *(f(np.arctanh(correlations)) for f in (np.mean, stats.sem)))
    assert evidence.estimate[1:3] == pytest.approx(np.tanh(ends))
    assert evidence.p_value(0.2) == pytest.approx(stats.ttest_1samp(np.arctanh(correlations), np.arctanh(0.2)).pvalue)
    ratios = np.array([0.5, 0.8, 1.0])
    evidence = hypotheses.ratio_evidence(ratios)
    assert evidence.estimate.value == pytest.approx(stats.gmean(ratios))
    assert evidence.p_value(1) == pytest.approx(stats.ttest_1samp(np.log(ratios), 0).pvalue)


def test_the_jackknife_of_a_mean_is_student_and_of_pairs_knows_their_network():
    values = np.array([1.0, 4.0, 2.0, 9.0])
    without = [np.delete(values, place).mean() for place in range(4)]
    jackknife = hypotheses.jackknife_evidence(values.mean(), without)
    assert jackknife.estimate == pytest.approx(tuple(hypotheses.t_evidence(values).estimate))

    rng, covered = np.random.default_rng(3), []
    for _ in range(400):  # overlaps a_i + a_j + noise, truth 0: pairs of a network go together
        network, noise = rng.normal(size=5), rng.normal(size=(5, 5)) / 4
        pairs = {(i, j): network[i] + network[j] + noise[i, j] for i, j in itertools.combinations(range(5), 2)}
        without = [np.mean([x for pair, x in pairs.items() if place not in pair]) for place in range(5)]
        estimate = hypotheses.jackknife_evidence(np.mean(list(pairs.values())), without).estimate
        covered.append(estimate.low <= 0 <= estimate.high)
    assert 0.91 <= np.mean(covered) <= 0.99
