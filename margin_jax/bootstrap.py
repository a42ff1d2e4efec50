"""A bootstrap that draws networks again within their strata, such as the seeds of one init std, and its intervals."""

from typing import NamedTuple

import numpy as np

LEVEL = 0.95


class Interval(NamedTuple):
    """Ends of an interval and how many draws were undefined (NaN) and so left out of it.

    low and high are NaN where fewer than half of the draws are defined, or none was taken: an interval over what a
    minority of draws happened to define would be of another statistic.
    """

    low: float
    high: float
    undefined: int


def resample(strata: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Draws networks with replacement, each place of a draw from the stratum of the network that it stands for.

    Every draw has as many networks of a stratum as there are. A stratum of one network is in every draw as it is and
    adds nothing to the width of an interval; where all strata are so, all draws equal the original and an interval
    from them would claim certainty (`margin_jax.audit` then gives none). A stratum of n understates the variance by
    (n - 1) / n, as any bootstrap: with 5 seeds per std a 95% interval covers about 90%.

    Args:
      strata: (R,) of numbers or text; equal values are one stratum.
      resamples: B >= 0, the number of draws.
      seed: of the draws, by a generator of their own, not the global one.

    Returns:
      (B, R) int64 places in [0, R).

    Raises:
      ValueError: strata that are no column, or a negative number of draws.
    """
    strata = np.asarray(strata)
    if strata.ndim != 1 or resamples < 0:
        raise ValueError(f"expected strata (R,) and resamples >= 0, got {strata.shape} and {resamples}; "
                         "give one stratum per network and the number of draws")
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    members = np.argsort(stratum, kind="stable")
    starts = np.cumsum(sizes) - sizes
    picks = np.random.default_rng(seed).integers(0, sizes[stratum], size=(resamples, strata.size))
    return members[starts[stratum] + picks]


def counts(indices: np.ndarray) -> np.ndarray:
    """How often each network is in each draw: (B, R) int places among R networks -> (B, R) float64."""
    draws, networks = indices.shape
    flat = (indices + networks * np.arange(draws)[:, None]).ravel()
    return np.bincount(flat, minlength=indices.size).reshape(indices.shape).astype(np.float64)


def percentile_interval(draws: np.ndarray, level: float = LEVEL) -> Interval:
    """The interval between the percentiles of the draws.

    Args:
      draws: (B,) float, the statistic of every draw; NaN is left out.
      level: in (0, 1), the share of draws between the ends.
    """
    draws = np.asarray(draws, np.float64)
    defined = draws[~np.isnan(draws)]
    undefined = draws.size - defined.size
    if not defined.size or undefined > defined.size:
        return Interval(float("nan"), float("nan"), undefined)
    low, high = np.quantile(defined, ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(low), float(high), undefined)


def reflected_interval(value: float, draws: np.ndarray, level: float = LEVEL) -> Interval:
    """The basic bootstrap interval, from 2 * value - upper percentile to 2 * value - lower percentile.

    For a statistic with a bias that resampling repeats: draws then lie as far above the value as the value above the
    truth, and percentiles of them miss it. The value itself may lie outside (Davison and Hinkley 1997, chapter 5).

    Args:
      value: of the networks as they are; NaN makes the ends NaN.
      draws: (B,) float; NaN is left out.
      level: in (0, 1).
    """
    low, high, undefined = percentile_interval(draws, level)
    return Interval(2 * value - high, 2 * value - low, undefined)


def corrected(value: float, draws: np.ndarray) -> float:
    """The value less the bias that the draws show: 2 * value - their mean; NaN where `percentile_interval` is."""
    draws = np.asarray(draws, np.float64)
    if np.isnan(percentile_interval(draws).low):
        return float("nan")
    return float(2 * value - draws[~np.isnan(draws)].mean())
