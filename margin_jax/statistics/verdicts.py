"""Verdicts: what evidence says of a claim, by the rule of docs/verdicts.md."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from margin_jax.errors import InputError
from margin_jax.statistics import hypotheses
from margin_jax.statistics.estimates import LEVEL, Estimate
from margin_jax.statistics.hypotheses import Evidence

REPRODUCED, CONTRADICTED, COMPATIBLE = "reproduced", "contradicted", "compatible"
OPEN, NOT_TESTABLE = "open", "not testable"
WORDS = (REPRODUCED, CONTRADICTED, COMPATIBLE, OPEN, NOT_TESTABLE)
FEWEST_UNITS = 3


class Claim(NamedTuple):
    """A claim on a number.

    Attributes:
      low: of the region in which the claim is true; -infinity where it has no end.
      high: the same, +infinity.
      number: the paper's number, or the two ends of its range; None where the claim has none.
    """

    low: float
    high: float
    number: tuple[float, float] | None = None


class Judgement(NamedTuple):
    """A verdict, one of WORDS, with the p-values behind it before and after correction in its family."""

    verdict: str
    p_value: float
    p_adjusted: float


ABOVE_ZERO = Claim(0.0, np.inf)


def number_claim(number: float | tuple[float, float], margin: float) -> Claim:
    """The claim that a number is `number`, or lies in that range, within an equivalence margin >= 0 named in advance.

    Raises:
      InputError: a negative margin, or a range whose ends are the wrong way round.
    """
    first, last = (float(end) for end in np.broadcast_to(number, 2))
    if not margin >= 0 or first > last:
        raise InputError(f"expected a margin >= 0 and a number or a range (low, high), got {margin} and {number}; "
                         "docs/verdicts.md names the margins")
    return Claim(first - margin, last + margin, (first, last))


def verdict(estimate: Estimate, claim: Claim, p_adjusted: float) -> str:
    """One of the five words of docs/verdicts.md, but "not testable", which no interval can say.

    Args:
      estimate: our number with its 95% interval; n counts units.
      claim: of the paper.
      p_adjusted: of the ends of the claim's region, see `region_p_value`, corrected in its family.

    Returns:
      "reproduced" where the interval lies inside the claim's region, "contradicted" where outside, either with
      p_adjusted <= 0.05; else "compatible" where it holds the paper's number; else "open", as for fewer than three
      units.
    """
    low, high = estimate.low, estimate.high
    if estimate.n < FEWEST_UNITS or not (np.isfinite(low) and np.isfinite(high)):
        return OPEN
    decided = p_adjusted <= 1 - LEVEL + 1e-12
    if decided and claim.low < low and high < claim.high:
        return REPRODUCED
    if decided and (high < claim.low or low > claim.high):
        return CONTRADICTED
    if claim.number is not None and low <= claim.number[1] and high >= claim.number[0]:
        return COMPATIBLE
    return OPEN


def region_p_value(evidence: Evidence, claim: Claim) -> float:
    """The p-value of a claim's verdict: of the ends of its region that the interval has to leave behind.

    Inside the region both ends have to be left behind: the larger of their p-values (two one-sided tests, Schuirmann
    1987, each at half the level of the interval). Outside it the nearer end has to be.

    Returns:
      A p-value; NaN without an interval.
    """
    value = evidence.estimate.value
    if not np.isfinite(evidence.estimate.low):
        return float("nan")
    ends = [end for end in (claim.low, claim.high) if np.isfinite(end)]
    if claim.low < value < claim.high:
        return max(evidence.p_value(end) for end in ends)
    return evidence.p_value(min(ends, key=lambda end: abs(end - value)))


def judge_family(evidence: Sequence[Evidence], claims: Sequence[Claim]) -> list[Judgement]:
    """Judges a family of claims, whose p-values are corrected together by Holm.

    Args:
      evidence: m of them.
      claims: m, one for each.

    Returns:
      m judgements in the same order. A family of one is not corrected.
    """
    p_values = [region_p_value(data, claim) for data, claim in zip(evidence, claims, strict=True)]
    return [Judgement(verdict(data.estimate, claim, adjusted), p_value, float(adjusted))
            for data, claim, p_value, adjusted in zip(evidence, claims, p_values, hypotheses.holm(p_values))]


def together(verdicts: Sequence[str]) -> str:
    """The verdict on a claim of many things: all have to be reproduced, and one contradicted contradicts it.

    Compatible where each is at least that; open else, and without any.
    """
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    if verdicts and set(verdicts) <= {REPRODUCED, COMPATIBLE}:
        return REPRODUCED if set(verdicts) == {REPRODUCED} else COMPATIBLE
    return OPEN
