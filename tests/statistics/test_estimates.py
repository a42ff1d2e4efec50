"""Draws within strata, and intervals that cover what they should."""

import numpy as np
import pytest

from margin_jax.statistics import estimates, ranking


def test_draws_keep_the_count_of_every_stratum():
    strata = np.array(["b", "a", "b", "c", "a", "b"])
    indices = estimates.resample(strata, 200, 0)
    assert indices.shape == (200, 6) and indices.dtype == np.int64
    np.testing.assert_array_equal(strata[indices], np.broadcast_to(strata, indices.shape))
    # Every member of a stratum is drawn, and in any place of it; one alone is always itself.
    assert all(set(indices[:, place]) == set(np.flatnonzero(strata == strata[place])) for place in range(6))
    counts = estimates.counts(indices)
    np.testing.assert_array_equal(counts[:, strata == "b"].sum(1), np.full(200, 3))
    np.testing.assert_array_equal(counts[:, 3], np.ones(200))
    assert (counts[:, 0] == 3).any() and (counts[:, 0] == 0).any()


def test_counts_say_how_often_each_network_is_drawn():
    found = estimates.counts(np.array([[0, 1, 2], [2, 2, 0]]))
    np.testing.assert_array_equal(found, [[1, 1, 1], [1, 0, 2]])


def test_draws_follow_their_seed_and_leave_the_global_generator_alone():
    strata = np.zeros(20)
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = estimates.resample(strata, 10, 7)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.random.seed(2)
    np.testing.assert_array_equal(estimates.resample(strata, 10, 7), first)
    assert (estimates.resample(strata, 10, 8) != first).any()


def test_percentiles_leave_out_undefined_draws_and_count_them():
    draws = np.concatenate([np.arange(101.0), [np.nan] * 50])
    assert estimates.percentile_interval(draws) == pytest.approx((2.5, 97.5, 50))
    assert estimates.percentile_interval(draws, 0.5) == pytest.approx((25, 75, 50))
    mostly_undefined = estimates.percentile_interval(np.array([1.0, np.nan, np.nan]))
    assert np.isnan(mostly_undefined[:2]).all() and mostly_undefined.undefined == 2
    assert np.isnan(estimates.percentile_interval(np.array([])).low)


def test_reflection_takes_the_bias_of_the_draws_off_twice():
    draws = np.arange(101.0)  # mean 50 where the value is 40: a bias of 10
    assert estimates.reflected_interval(40, draws) == pytest.approx((-17.5, 77.5, 0))
    assert estimates.corrected(40, draws) == 30
    assert np.isnan(estimates.reflected_interval(np.nan, draws)[:2]).all()
    assert np.isnan(estimates.corrected(40, np.array([1.0, np.nan, np.nan])))


def test_intervals_cover_the_truth_about_as_often_as_they_claim():
    """Measure and error both follow the std and nothing else: the expected correlation is known by simulation."""
    rng = np.random.default_rng(0)
    std = np.repeat(np.arange(6), 10)

    def networks():
        return std / 3 + rng.normal(size=std.size), std / 3 + rng.normal(size=std.size)

    truth = np.mean([ranking.spearman(*networks()) for _ in range(1000)])
    covered = []
    for trial in range(200):
        counts = estimates.counts(estimates.resample(std, 200, trial))
        low, high, undefined = estimates.percentile_interval(ranking.spearman(*networks(), counts))
        covered.append(low <= truth <= high)
        assert undefined == 0
    assert 0.86 <= np.mean(covered) <= 0.985


def test_strata_that_are_no_column_are_refused():
    with pytest.raises(ValueError, match=r"strata \(R,\)"):
        estimates.resample(np.zeros((2, 3)), 5, 0)
    with pytest.raises(ValueError, match="resamples >= 0"):
        estimates.resample(np.zeros(3), -1, 0)
