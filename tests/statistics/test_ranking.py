"""Rank statistics against scipy, the textbook, an explicit regression and plain loops over pairs."""

import numpy as np
import pytest
from scipy import stats

from margin_jax.statistics import estimates, ranking


def columns(networks=40, seed=0, ties=True):
    """An error a measure predicts, the error, and two covariates, all related; with ties if wanted."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=networks)
    target = 0.6 * first + rng.normal(size=networks)
    loss, width = first - target + rng.normal(size=networks), rng.integers(5, size=networks).astype(float)
    return (np.round(first, 1), np.round(target, 1), np.round(loss, 1), width) if ties else (first, target, loss, width)


def draws(networks=40, resamples=6, seed=1):
    indices = estimates.resample(np.arange(networks) % 4, resamples, seed)
    return indices, estimates.counts(indices)


def looped_sign_error(predicted, target):
    wrong = [(1 - np.sign(predicted[i] - predicted[j]) * np.sign(target[i] - target[j])) / 2
             for i in range(len(target)) for j in range(len(target)) if target[i] != target[j]]
    return np.mean(wrong)


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_are_those_of_scipy(ties):
    first, target, *_ = columns(ties=ties)
    assert ranking.spearman(first, target) == pytest.approx(stats.spearmanr(first, target).statistic, abs=1e-12)
    assert ranking.kendall(first, target) == pytest.approx(stats.kendalltau(first, target).statistic, abs=1e-12)


def test_a_draw_is_the_same_networks_written_out_as_often_as_drawn():
    first, target, loss, width = columns()
    indices, counts = draws()
    found = {f: f(first, target, counts) for f in (ranking.spearman, ranking.kendall, ranking.sign_error)}
    partial = ranking.partial_spearman(first, target, [loss, width], counts)
    for row, index in enumerate(indices):
        a, b = first[index], target[index]
        assert found[ranking.spearman][row] == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
        # Kendall and the sign error do without a network's pairs with itself, which are ties of both columns.
        assert found[ranking.kendall][row] == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-12)
        assert found[ranking.sign_error][row] == pytest.approx(looped_sign_error(a, b), abs=1e-12)
        written_out = ranking.partial_spearman(a, b, [loss[index], width[index]])
        assert partial[row] == pytest.approx(float(written_out), abs=1e-12)


def test_ranks_share_ties_and_take_infinity_for_the_largest():
    values = np.array([2.0, np.inf, -1.0, 2.0, np.inf])
    np.testing.assert_array_equal(ranking.ranks(values, np.ones(5)), stats.rankdata(values))
    twice = ranking.ranks(values, np.array([2.0, 0, 1, 1, 1]))
    np.testing.assert_array_equal(twice[[0, 2, 3, 4]], [3, 1, 3, 5])


def test_partial_correlation_is_the_textbook_formula_for_one_covariate():
    first, target, loss, _ = columns()
    r_pt, r_pz, r_tz = (stats.spearmanr(a, b).statistic for a, b in ((first, target), (first, loss), (target, loss)))
    expected = (r_pt - r_pz * r_tz) / np.sqrt((1 - r_pz**2) * (1 - r_tz**2))
    assert ranking.partial_spearman(first, target, [loss]) == pytest.approx(expected, abs=1e-12)
    assert abs(expected - r_pt) > 0.05


def test_partial_correlation_is_that_of_residuals_for_several():
    first, target, *covariates = columns()
    design = np.stack([np.ones(first.size), *map(stats.rankdata, covariates)], 1)
    left = [ranked - design @ np.linalg.lstsq(design, ranked, rcond=None)[0]
            for ranked in (stats.rankdata(first), stats.rankdata(target))]
    found = ranking.partial_spearman(first, target, covariates)
    assert found == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-12)
    # One that repeats another takes out nothing more, nor does a constant.
    more = [*covariates, covariates[0], np.ones(first.size)]
    assert ranking.partial_spearman(first, target, more) == pytest.approx(float(found), abs=1e-9)


def test_partial_correlation_is_undefined_where_the_covariate_says_all():
    _, target, loss, width = columns()
    assert np.isnan(ranking.partial_spearman(np.exp(width), target, [width]))
    assert np.isnan(ranking.partial_spearman(np.exp(width), target, [loss, width], draws()[1])).all()


def test_partial_correlation_takes_out_a_common_cause():
    rng = np.random.default_rng(3)
    cause = np.repeat(np.arange(20.0), 50)
    first, target = cause + rng.normal(size=1000), cause + rng.normal(size=1000)
    assert ranking.spearman(first, target) > 0.9
    assert abs(ranking.partial_spearman(first, target, [cause])) < 0.1


def test_sign_error_counts_pairs_by_hand():
    # Pairs with unequal errors: (0,1) right, (0,2) tied by the measure, (0,3) right, (1,2) wrong, (1,3) right; the
    # errors of 2 and 3 tie. (0 + 0.5 + 0 + 1 + 0) / 5.
    predicted, target = np.array([1.0, 2, 1, 3]), np.array([1.0, 2, 3, 3])
    assert ranking.sign_error(predicted, target) == pytest.approx(1.5 / 5)


def test_the_signs_of_support():
    error = np.arange(10.0)
    for predicted, correlation, wrong in ((error**3, 1, 0), (-error, -1, 1)):
        assert ranking.spearman(predicted, error) == pytest.approx(correlation)
        assert ranking.kendall(predicted, error) == pytest.approx(correlation)
        assert ranking.sign_error(predicted, error) == pytest.approx(wrong)


def test_independent_columns_are_near_chance():
    first, target = np.random.default_rng(4).normal(size=(2, 1000))
    assert abs(ranking.spearman(first, target)) < 0.08 and abs(ranking.kendall(first, target)) < 0.06
    assert ranking.sign_error(first, target) == pytest.approx(0.5, abs=0.03)


def test_order_of_the_networks_does_not_matter():
    first, target, loss, _ = columns()
    mixed = np.random.default_rng(5).permutation(first.size)
    for statistic in (ranking.spearman, ranking.kendall, ranking.sign_error,
                      lambda a, b: ranking.partial_spearman(a, b, [loss[np.searchsorted(first_sorted, a)]])):
        first_sorted = np.sort(first)
        assert statistic(first, target) == pytest.approx(float(statistic(first[mixed], target[mixed])), abs=1e-12)


def test_what_is_undefined_is_nan_without_a_warning():
    error, same = np.arange(6.0), np.ones(6)
    for statistic in (ranking.spearman, ranking.kendall):
        assert np.isnan(statistic(same, error)) and np.isnan(statistic(error, same))
    assert ranking.sign_error(same, error) == 0.5 and np.isnan(ranking.sign_error(error, same))
    two_valued = np.array([0.0, 0, 0, 0, 0, 1])
    counts = np.array([[1.0, 1, 1, 1, 1, 1], [2, 1, 1, 1, 1, 0]])
    np.testing.assert_array_equal(np.isnan(ranking.spearman(two_valued, error, counts)), [False, True])
    np.testing.assert_array_equal(np.isnan(ranking.kendall(two_valued, error, counts)), [False, True])
    # Two networks always correlate by 1, three given a covariate do.
    assert np.isnan(ranking.spearman(error[:2], error[:2]))
    assert np.isnan(ranking.partial_spearman(error[:3], error[:3], [np.array([2.0, 0, 1])]))


def test_columns_that_do_not_fit_are_refused():
    error = np.arange(6.0)
    with pytest.raises(ValueError, match="one length"):
        ranking.spearman(error, error[:5])
    with pytest.raises(ValueError, match="without NaN"):
        ranking.kendall(np.where(error == 2, np.nan, error), error)
    with pytest.raises(ValueError, match=r"expected counts \(..., 6\)"):
        ranking.sign_error(error, error, np.ones((3, 5)))
    with pytest.raises(ValueError, match="one length"):
        ranking.partial_spearman(error, error, [error[:5]])
