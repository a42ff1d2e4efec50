"""Tests: p-values that fit the intervals of `estimates`, and Holm's correction of a family of them.

A p-value here is always two-sided and of one bound: of the hypothesis that the true number is that bound. It is below
1 - level where the bound lies outside the interval. docs/verdicts.md has the families.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy

from margin_jax.errors import InputError
from margin_jax.statistics import estimates
from margin_jax.statistics.checks import checked_column
from margin_jax.statistics.estimates import LEVEL, UNDEFINED, Estimate


class Evidence(NamedTuple):
    """What data say of a number.

    Attributes:
      estimate: the number with its 95% interval, n counting units, such as seeds.
      p_value: of a bound, the two-sided p-value that the true number is this bound; NaN without an interval.
    """

    estimate: Estimate
    p_value: Callable[[float], float]


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's correction: p-values that keep the chance of any false rejection in the family (Holm 1979).

    The i-th smallest of m becomes the largest of (m - j + 1) p_(j) over j <= i, at most 1. Tests may depend.

    Args:
      p_values: (m,) in [0, 1]; NaN, of a test that could not be made, stays NaN and counts for nothing.

    Returns:
      (m,) float64 in the same order.

    Raises:
      InputError: values that are no column, or outside [0, 1].
    """
    p_values = np.asarray(p_values, np.float64)
    if p_values.ndim != 1 or (p_values < 0).any() or (p_values > 1).any():
        raise InputError(f"expected p-values (m,) in [0, 1], got {p_values.tolist()}; give one for each test")
    made = np.flatnonzero(~np.isnan(p_values))
    order = made[np.argsort(p_values[made], kind="stable")]
    adjusted = p_values.copy()
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(order.size, 0, -1)), 1)
    return adjusted


def t_evidence(values: np.ndarray) -> Evidence:
    """The mean over seeds with Student's t: values (S,) float, of which NaN and infinity are left out."""
    mean = estimates.t_interval(np.asarray(values, np.float64))
    return summary_evidence(Estimate(float(mean.value), float(mean.low), float(mean.high), int(mean.n)))


def summary_evidence(mean: Estimate) -> Evidence:
    """The same from a mean with its interval, such as a table gives it: the ends hold the standard error."""
    freedom = mean.n - 1
    error = mean.half / scipy.stats.t.ppf(0.5 + LEVEL / 2, freedom) if freedom > 0 else np.nan

    def p_value(bound: float) -> float:
        if not error > 0:  # equal values, or too few
            return float(mean.value == bound) if error == 0 else float("nan")
        return float(2 * scipy.stats.t.sf(abs(mean.value - bound) / error, freedom))

    return Evidence(mean, p_value)


def bootstrap_evidence(values: np.ndarray, n: int) -> Evidence:
    """A statistic and its draws, (1 + B,) float as `estimates.bootstrap_estimate` takes them, of n things.

    The p-value inverts the percentile interval: twice the smaller share of draws on one side of the bound, the
    statistic itself counted as a draw on either side, so that it is never 0 (Davison and Hinkley 1997, 4.4).
    """
    values = np.asarray(values, np.float64)
    draws = values[1:][np.isfinite(values[1:])]
    estimate = estimates.bootstrap_estimate(values, n)

    def p_value(bound: float) -> float:
        if not np.isfinite(estimate.low):
            return float("nan")
        tail = min((draws <= bound).sum(), (draws >= bound).sum())
        return float(min(1, 2 * (1 + tail) / (1 + draws.size)))

    return Evidence(estimate, p_value)


def mapped(evidence: Evidence, forward: Callable[[float], float], back: Callable[[float], float]) -> Evidence:
    """Evidence of g(x), judged on the scale x, told as x: back = g^-1 increasing, such as exp for logarithms."""
    value, low, high, n = evidence.estimate
    return Evidence(Estimate(float(back(value)), float(back(low)), float(back(high)), n),
                    lambda bound: evidence.p_value(float(forward(bound))))


def correlation_evidence(correlations: np.ndarray) -> Evidence:
    """The correlation over seeds, one for each, (S,) in [-1, 1], NaN left out: Student's t of Fisher's z = artanh.

    Raises:
      InputError: no column, or a number outside of [-1, 1], which would be left out like a missing one.
    """
    correlations = checked_column(correlations, "correlations")
    if (np.abs(correlations) > 1).any():
        raise InputError(f"expected correlations in [-1, 1], got {correlations.tolist()}")
    return mapped(t_evidence(np.arctanh(correlations)), np.arctanh, np.tanh)


def ratio_evidence(ratios: np.ndarray) -> Evidence:
    """The geometric mean of ratios over seeds, (S,) > 0, NaN left out: Student's t of their logarithms.

    Raises:
      InputError: no column, or a ratio <= 0, which would be left out like a missing one.
    """
    ratios = checked_column(ratios, "ratios")
    if (ratios <= 0).any():
        raise InputError(f"expected ratios > 0, got {ratios.tolist()}; they have no geometric mean")
    return mapped(t_evidence(np.log(ratios)), np.log, np.exp)


def jackknife_evidence(whole: float, without: np.ndarray) -> Evidence:
    """A statistic of S seeds by Student's t of its pseudo-values S * whole - (S - 1) * without (Tukey 1958).

    For statistics whose terms share seeds, such as the mean overlap of all pairs of networks.

    Args:
      whole: of all seeds.
      without: (S,) of all seeds but one.
    """
    without = np.asarray(without, np.float64)
    return t_evidence(without.size * whole - (without.size - 1) * without)


NONE = Evidence(UNDEFINED, lambda bound: float("nan"))
