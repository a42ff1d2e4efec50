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
    assert estimates.percentile_interval(draws) == pytest.approx((50, 2.5, 97.5, 101))
    assert estimates.percentile_interval(draws, 0.5) == pytest.approx((50, 25, 75, 101))
    mostly_undefined = estimates.percentile_interval(np.array([1.0, np.nan, np.nan]))
    assert np.isnan(mostly_undefined[:3]).all() and mostly_undefined.n == 1
    assert np.isnan(estimates.percentile_interval(np.array([])).low)


def test_reflection_takes_the_bias_of_the_draws_off_twice():
    draws = np.arange(101.0)  # mean 50 where the value is 40: a bias of 10
    assert estimates.reflected_interval(40, draws) == pytest.approx((40, -17.5, 77.5, 101))
    assert estimates.corrected(40, draws) == 30
    assert np.isnan(estimates.reflected_interval(np.nan, draws)[:3]).all()
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
        _, low, high, defined = estimates.percentile_interval(ranking.spearman(*networks(), counts))
        covered.append(low <= truth <= high)
        assert defined == 200
    assert 0.86 <= np.mean(covered) <= 0.985


def test_strata_that_are_no_column_are_refused():
    with pytest.raises(ValueError, match=r"strata \(R,\)"):
        estimates.resample(np.zeros((2, 3)), 5, 0)
    with pytest.raises(ValueError, match="resamples >= 0"):
        estimates.resample(np.zeros(3), -1, 0)


def test_an_estimate_from_draws_keeps_its_value_and_has_no_interval_where_that_is_undefined():
    values = np.append(7.0, np.arange(101.0))
    assert estimates.bootstrap_estimate(values, 12) == pytest.approx((7, 2.5, 97.5, 12))
    assert estimates.bootstrap_estimate(values[:1], 12)[0] == 7
    assert np.isnan(estimates.bootstrap_estimate(values[:1], 12)[1:3]).all()
    values[0] = np.nan
    assert np.isnan(estimates.bootstrap_estimate(values, 12)[:3]).all()


def test_draws_without_strata_hold_as_many_things_as_there_are():
    counts = estimates.draw_counts(30, 2000, 0)
    assert counts.shape == (2001, 30) and (counts[0] == 1).all() and (counts.sum(1) == 30).all()
    np.testing.assert_allclose(counts[1:].mean(0), 1, atol=0.1)
    np.testing.assert_allclose(counts[1:].var(0), 29 / 30, atol=0.2)


def test_half_the_width_is_that_of_the_interval():
    values = np.random.default_rng(0).normal(size=(7, 3))
    values[2, 1] = np.nan
    estimate = estimates.t_interval(values)
    np.testing.assert_allclose(estimate.half, estimates.half_width(values), rtol=1e-12)
    np.testing.assert_allclose(estimate.high - estimate.value, estimates.half_width(values), rtol=1e-12)
