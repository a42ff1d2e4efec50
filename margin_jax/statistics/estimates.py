"""A bootstrap that draws networks again within their strata, such as the seeds of one init std, and its intervals.

Means over seeds with a 95% interval of Student's t.

Whether two columns of numbers order the same things alike: Spearman's correlation with a bootstrap interval.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy

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


  # scipy.stats is loaded at its first use: it takes a second, which a start need not pay


class MeanInterval(NamedTuple):
    """A mean over seeds, scalars or arrays of one shape.

    Attributes:
      mean: NaN without a value.
      half: half the width of the 95% interval; NaN for fewer than two values, which have no interval.
      n: how many values it is of.
    """

    mean: Any
    half: Any
    n: Any


def t_interval(values: np.ndarray, axis: int = 0) -> MeanInterval:
    """Mean and half width of the 95% Student t interval over one axis, in the unit of the values.

    Args:
      values: (S,) or (S, ...) float; NaN and infinity are left out, and `n` counts the others.
      axis: the axis of the seeds.
    """
    values = np.asarray(values, np.float64)
    good = np.isfinite(values)
    n = good.sum(axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(good, values, 0.0).sum(axis) / n
        squares = np.where(good, values - np.expand_dims(mean, axis), 0.0) ** 2
        error = np.sqrt(squares.sum(axis) / (n - 1) / n)
        return MeanInterval(mean, scipy.stats.t.ppf(0.5 + LEVEL / 2, n - 1) * error, n)


  # scipy.stats is loaded at its first use: it takes a second, which a start need not pay

FEWEST = 3


class Agreement(NamedTuple):
    """Spearman's correlation, the ends of its 95% interval, and how many pairs it is over; NaN where undefined."""

    rho: float
    low: float
    high: float
    pairs: int


def agreement(first: np.ndarray, second: np.ndarray, resamples: int = 5000, seed: int = 0) -> Agreement:
    """Spearman's correlation of two columns with the percentile interval of a bootstrap over pairs.

    Args:
      first: (R,) float; pairs with a NaN are left out.
      second: (R,) float.
      resamples: how many times pairs are drawn again with replacement.
      seed: of the draws, which use no global generator.

    Returns:
      The agreement; NaN for fewer than three pairs or a constant column. Draws that make a column constant have no
      correlation and are left out of the interval.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    both = np.isfinite(first) & np.isfinite(second)
    first, second = first[both], second[both]
    if first.size < FEWEST:
        return Agreement(np.nan, np.nan, np.nan, first.size)
    draws = np.random.default_rng(seed).integers(first.size, size=(resamples, first.size))
    rho = _spearman(first[None], second[None])[0]
    found = _spearman(first[draws], second[draws])
    found = found[np.isfinite(found)]
    low, high = np.quantile(found, (0.025, 0.975)) if np.isfinite(rho) else (np.nan, np.nan)
    return Agreement(float(rho), float(low), float(high), first.size)


def _spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Row by row (B, n) -> (B,); many rows at once, where scipy.stats.spearmanr would compare all with all."""
    a, b = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in
            (scipy.stats.rankdata(first, axis=1), scipy.stats.rankdata(second, axis=1)))
    with np.errstate(invalid="ignore"):
        return (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of two columns (n,), ties at their mean rank; NaN below three pairs or without variation.

    Pairs that are not both finite are left out. scipy.stats.spearmanr warns of a column without variation.
    """
    both = np.isfinite(first) & np.isfinite(second)
    return float(_spearman(first[both][None], second[both][None])[0]) if both.sum() >= FEWEST else np.nan
