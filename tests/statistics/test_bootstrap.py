"""Bootstraps of two levels against closed forms of their variance, and by simulated coverage."""

import numpy as np
import pytest

from margin_jax.errors import InputError
from margin_jax.statistics import bootstrap, hypotheses


def test_hierarchical_draws_have_the_variance_of_both_levels():
    """Var of the draws = var(means) / S + mean of var(points) / P / S, each with divisor n."""
    rng = np.random.default_rng(0)
    seeds = [rng.normal(centre, 1, 40) for centre in (0, 1, 2, 5)]
    values = bootstrap.hierarchical_bootstrap(seeds, resamples=4000)
    assert values.shape == (4001,) and values[0] == pytest.approx(np.mean(seeds))
    expected = (np.var([points.mean() for points in seeds]) + np.mean([points.var() / 40 for points in seeds])) / 4
    assert values[1:].var() == pytest.approx(expected, rel=0.1)
    assert values[1:].mean() == pytest.approx(values[0], abs=0.05)


def test_a_statistic_of_the_points_of_a_seed_is_taken_within_it():
    seeds = [np.array([1.0, 9.0, 2.0]), np.array([4.0, 4.0, 4.0, 4.0])]
    assert bootstrap.hierarchical_bootstrap(seeds, np.median, 0) == pytest.approx([3.0])
    pairs = {(a + b) / 2 for a in (1, 2, 9, 4) for b in (1, 2, 9, 4)}  # of the largest points that seeds can have
    assert {1.5, 4.0, 6.5, 9.0} <= set(bootstrap.hierarchical_bootstrap(seeds, np.max, 500)) <= pairs


def test_draws_follow_their_seed():
    seeds = [np.arange(5.0), np.arange(3.0)]
    first, second, third = (bootstrap.hierarchical_bootstrap(seeds, resamples=20, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first != third).any()
    outcomes = np.random.default_rng(0).random((3, 30)) < 0.2
    pair = (outcomes, ~outcomes)
    np.testing.assert_array_equal(bootstrap.paired_bootstrap(*pair, 20, 1), bootstrap.paired_bootstrap(*pair, 20, 1))


def test_paired_draws_are_independent_of_their_batches_in_law_and_exact_where_nothing_differs():
    outcomes = np.random.default_rng(0).random((3, 50)) < 0.3
    np.testing.assert_array_equal(bootstrap.paired_bootstrap(outcomes, outcomes, 30), np.zeros(31))
    more = outcomes | (np.arange(50) == 7)
    values = bootstrap.paired_bootstrap(more, outcomes, 300, batch=7)
    assert values.shape == (301,) and values[0] == (more.sum() - outcomes.sum()) / 150
    # One example differs, in some seeds: a draw holds it a whole number of times, for all seeds alike.
    assert np.allclose(values * 150, np.round(values * 150))


def test_paired_draws_have_the_variance_of_seeds_and_examples():
    rng = np.random.default_rng(1)
    difference = rng.normal(size=(6, 1)) + rng.normal(size=(1, 200)) * 3
    values = bootstrap.paired_bootstrap(difference, np.zeros_like(difference), 6000)
    expected = difference.mean(1).var() / 6 + difference.mean(0).var() / 200  # additive: no more than these
    assert values[1:].var() == pytest.approx(expected, rel=0.1)


def test_the_paired_interval_covers_and_seeds_alone_do_not():
    """Networks that share the test set: seeds of one test set miss what other examples would do."""
    rng, paired, seeds_alone = np.random.default_rng(2), [], []
    for trial in range(150):
        hard = rng.normal(0, 1, 300)  # of examples, for the difference; the truth is 0
        difference = hard + rng.normal(0, 0.03, (10, 1)) + rng.normal(0, 0.5, (10, 300))
        draws = bootstrap.paired_bootstrap(difference, np.zeros((10, 300)), 300, trial)
        for estimate, covered in ((hypotheses.bootstrap_evidence(draws, 10).estimate, paired),
                                  (hypotheses.t_evidence(difference.mean(1)).estimate, seeds_alone)):
            covered.append(estimate.low <= 0 <= estimate.high)
    assert 0.9 <= np.mean(paired) <= 1 and np.mean(seeds_alone) < 0.8


@pytest.mark.parametrize("seeds", [[], [np.array([])], [np.array(3.0)]])
def test_seeds_without_points_are_refused(seeds):
    with pytest.raises(InputError, match="points of at least one seed"):
        bootstrap.hierarchical_bootstrap(seeds)


@pytest.mark.parametrize("shapes", [((3,), (3,)), ((2, 3), (3, 2)), ((2, 0), (2, 0))])
def test_outcomes_of_other_examples_are_refused(shapes):
    with pytest.raises(InputError, match=r"\(seeds, examples\)"):
        bootstrap.paired_bootstrap(*map(np.zeros, shapes))


@pytest.mark.parametrize("resamples", [-1, 2.5, None])
def test_a_number_of_draws_that_is_none_is_refused(resamples):
    with pytest.raises(InputError, match="resamples >= 0"):
        bootstrap.hierarchical_bootstrap([np.arange(3.0)], resamples=resamples)
    with pytest.raises(InputError, match="resamples >= 0"):
        bootstrap.paired_bootstrap(np.ones((2, 3)), np.zeros((2, 3)), resamples)
