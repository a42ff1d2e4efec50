"""Shares: Wilson's formula, its inverse the score test, and the hull with Student's t."""

import math

import numpy as np
import pytest
from scipy import stats

from margin_jax.errors import InputError
from margin_jax.statistics import proportions


@pytest.mark.parametrize("hits, of", [(0, 60), (12, 60), (63, 200), (60, 60), (1, 1)])
def test_wilsons_interval_is_its_closed_form(hits, of):
    z, share = 1.959963984540054, hits / of
    centre = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    expected = (share, centre - half, centre + half, of)
    assert proportions.wilson_interval(hits, of) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("hits, of", [(0, 60), (12, 60), (199, 200)])
def test_the_score_test_rejects_just_outside_of_wilsons_interval(hits, of):
    share, low, high, _ = proportions.wilson_interval(hits, of)
    for end in (end for end in (low, high) if 0 < end < 1):
        assert proportions.score_p_value(hits, of, end) == pytest.approx(0.05)
        assert proportions.score_p_value(hits, of, (9 * end + share) / 10) > 0.05
    assert proportions.score_p_value(hits, of, -0.1) == proportions.score_p_value(hits, of, 1.0) == 0


def test_equal_shares_keep_a_width_and_unequal_ones_that_of_seeds():
    equal = proportions.share_evidence(np.array([0, 0, 0]), np.array([20, 20, 20]))
    assert equal.estimate[:3] == pytest.approx(proportions.wilson_interval(0, 60)[:3]) and equal.estimate.n == 3
    assert equal.p_value(equal.estimate.high) == pytest.approx(0.05)
    apart = proportions.share_evidence(np.array([20, 40, 60]), np.array([100, 100, 100]))
    low, high = stats.t.interval(0.95, 2, 0.4, stats.sem([0.2, 0.4, 0.6]))
    assert apart.estimate == pytest.approx((0.4, max(low, 0), high, 3))
    assert apart.p_value(high) == pytest.approx(0.05)
    assert apart.p_value(0.41) == pytest.approx(stats.ttest_1samp([0.2, 0.4, 0.6], 0.41).pvalue)


def test_seeds_of_unequal_size_are_pooled_by_examples():
    estimate = proportions.share_evidence(np.array([1, 30]), np.array([10, 100])).estimate
    assert estimate.value == pytest.approx(31 / 110) and 0 == estimate.low < estimate.high == 1


def test_one_seed_has_wilsons_interval_and_counts_as_one():
    evidence = proportions.share_evidence(np.array([63]), np.array([200]))
    assert evidence.estimate == (*proportions.wilson_interval(63, 200)[:3], 1)
    assert evidence.p_value(0.5) == proportions.score_p_value(63, 200, 0.5)


@pytest.mark.parametrize("hits, of", [([2], [1]), ([-1], [4]), ([0.5], [4]), ([1, 2], [4]), ([], []), ([0], [0])])
def test_counts_that_are_none_are_refused(hits, of):
    with pytest.raises(InputError, match="give counts of examples"):
        proportions.share_evidence(np.array(hits), np.array(of))
