"""The five words, case by case, and families."""

import numpy as np
import pytest
from scipy import stats

from margin_jax.errors import InputError
from margin_jax.statistics import hypotheses, verdicts
from margin_jax.statistics.estimates import Estimate
from margin_jax.statistics.verdicts import ABOVE_ZERO, Claim, number_claim

SHARE = number_claim(55, 10)


@pytest.mark.parametrize("low, high, p, word", [
    (50, 60, 0.01, "reproduced"), (46, 54, 0.01, "reproduced"),  # within the margin, the number inside or not
    (50, 60, 0.06, "compatible"), (46, 54, 0.06, "open"),  # not after correction
    (10, 44, 0.01, "contradicted"), (66, 70, 0.01, "contradicted"), (66, 70, 0.2, "open"),
    (40, 60, 0.3, "compatible"), (10, 99, 0.9, "compatible"),  # a wide interval is never more
    (40, 50, 0.3, "open"), (45, 60, 0.01, "compatible"),  # an end on the margin is not within
    (np.nan, np.nan, np.nan, "open")])
def test_numbers(low, high, p, word):
    assert verdicts.verdict(Estimate((low + high) / 2, low, high, 3), SHARE, p) == word


def test_no_interval_reproduces_two_numbers_that_the_margins_tell_apart():
    other = number_claim(85, 10)
    for low in range(0, 100, 5):
        for high in range(low, 101, 5):
            words = [verdicts.verdict(Estimate(0, low, high, 3), claim, 0.001) for claim in (SHARE, other)]
            assert words.count("reproduced") <= 1


@pytest.mark.parametrize("low, high, p, word", [
    (0.1, 0.5, 0.01, "reproduced"), (0.1, 0.5, 0.07, "open"), (-0.5, -0.1, 0.01, "contradicted"),
    (-0.5, -0.1, 0.07, "open"), (-0.1, 0.5, 0.2, "open")])
def test_orders_are_never_compatible(low, high, p, word):
    assert verdicts.verdict(Estimate((low + high) / 2, low, high, 3), ABOVE_ZERO, p) == word


def test_fewer_than_three_units_leave_it_open():
    assert verdicts.verdict(Estimate(55, 54, 56, 2), SHARE, 0.0) == "open"


def test_a_range_is_compatible_where_the_interval_touches_it():
    overlap = number_claim((60, 63), 10)
    assert overlap == Claim(50, 73, (60, 63))
    assert verdicts.verdict(Estimate(50, 40, 61, 5), overlap, 1) == "compatible"
    assert verdicts.verdict(Estimate(50, 40, 59, 5), overlap, 1) == "open"


def test_margins_and_ranges_are_checked():
    for number, margin in ((5, -1), ((3, 2), 1), (5, float("nan"))):
        with pytest.raises(InputError, match="margin >= 0"):
            number_claim(number, margin)


def test_the_p_value_of_a_region_is_that_of_two_one_sided_tests():
    values = np.array([0.3, -0.4, 0.5, 0.1])
    evidence = hypotheses.t_evidence(values)
    below = stats.ttest_1samp(values, -1, alternative="greater").pvalue
    above = stats.ttest_1samp(values, 1, alternative="less").pvalue
    assert verdicts.region_p_value(evidence, number_claim(0, 1)) == pytest.approx(2 * max(below, above))
    assert verdicts.region_p_value(evidence, number_claim(5, 1)) == pytest.approx(stats.ttest_1samp(values, 4).pvalue)
    assert verdicts.region_p_value(evidence, ABOVE_ZERO) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert np.isnan(verdicts.region_p_value(hypotheses.NONE, ABOVE_ZERO))


def test_p_values_and_intervals_decide_alike_in_a_family_of_one():
    rng = np.random.default_rng(0)
    words = set()
    for _ in range(500):
        evidence = hypotheses.t_evidence(rng.normal(rng.uniform(-3, 3), 0.3, 4))
        claim = number_claim(0, 1)
        (judgement,) = verdicts.judge_family([evidence], [claim])
        assert judgement.verdict == verdicts.verdict(evidence.estimate, claim, 0.0)
        words.add(judgement.verdict)
    assert words == {"reproduced", "contradicted", "compatible", "open"}


def test_a_family_is_corrected_together():
    weak = hypotheses.t_evidence(np.array([1.0, 1.1, 1.6]))  # p = 0.02
    strong = hypotheses.t_evidence(np.array([1.0, 1.01, 1.02]))
    nothing = hypotheses.t_evidence(np.array([1.0, -1.0, 0.5]))
    alone = verdicts.judge_family([weak], [ABOVE_ZERO])[0]
    assert alone.verdict == "reproduced" and alone.p_adjusted == alone.p_value
    three = verdicts.judge_family([nothing, weak, weak, weak, strong], [ABOVE_ZERO] * 5)
    assert [row.verdict for row in three] == ["open", "open", "open", "open", "reproduced"]
    assert three[1].p_adjusted == pytest.approx(4 * alone.p_value)


def test_equivalence_is_claimed_wrongly_at_most_one_time_in_forty():
    """The truth on the margin: the interval lies within it in 2.5% of cases at most."""
    rng = np.random.default_rng(1)
    claim = number_claim(0, 1)
    words = [verdicts.judge_family([hypotheses.t_evidence(rng.normal(1, 0.4, 5))], [claim])[0].verdict
             for _ in range(2000)]
    assert 0.01 <= words.count("reproduced") / 2000 <= 0.035


@pytest.mark.parametrize("words, word", [
    (["reproduced"] * 2, "reproduced"), (["reproduced", "compatible"], "compatible"), ([], "open"),
    (["reproduced", "open"], "open"), (["open", "contradicted", "reproduced"], "contradicted")])
def test_claims_of_many_things(words, word):
    assert verdicts.together(words) == word
