"""A number with its 95% interval: means over seeds by Student's t, statistics of networks or trials by a bootstrap.

The bootstrap draws networks again within their strata, such as the seeds of one init std. scipy.stats is loaded at its
first use: it takes a second, which a start need not pay.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy

from margin_jax.errors import InputError
from margin_jax.statistics import ranking
from margin_jax.statistics.checks import (
    checked_column,
    checked_draws,
    checked_level,
    checked_numbers,
    checked_resamples,
)

LEVEL = 0.95
FEWEST = 3  # pairs: fewer have no correlation


class Estimate(NamedTuple):
    """A number, the ends of its 95% interval and how many values it is of: scalars, or arrays of one shape.

    Attributes:
      value: NaN where undefined.
      low: NaN where there is no interval, as from fewer than two values.
      high: the same.
      n: how many values, such as seeds, networks, pairs or draws.
    """

    value: Any
    low: Any
    high: Any
    n: Any

    @property
    def half(self) -> Any:
        """Half the width of the interval, in the unit of the value."""
        return (self.high - self.low) / 2


UNDEFINED = Estimate(float("nan"), float("nan"), float("nan"), 0)


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
      InputError: strata that are no column, or a number of draws that is negative or no whole number.
    """
    strata, resamples = np.asarray(strata), checked_resamples(resamples)
    if strata.ndim != 1:
        raise InputError(f"expected strata (R,), got {strata.shape}; give one stratum per network")
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    members = np.argsort(stratum, kind="stable")
    starts = np.cumsum(sizes) - sizes
    picks = np.random.default_rng(seed).integers(0, sizes[stratum], size=(resamples, strata.size))
    return members[starts[stratum] + picks]


def counts(indices: np.ndarray) -> np.ndarray:
    """How often each network is in each draw: (B, R) int places among R networks -> (B, R) float64.

    Raises:
      InputError: no such places.
    """
    indices = np.asarray(indices)
    if indices.ndim != 2 or indices.dtype.kind not in "iu" or ((indices < 0) | (indices >= indices.shape[1])).any():
        raise InputError(f"expected draws (B, R) of whole numbers in 0..R-1, got {indices.dtype} {indices.shape}; make "
                         "them by margin_jax.resample")
    draws, networks = indices.shape
    flat = (indices + networks * np.arange(draws)[:, None]).ravel()
    return np.bincount(flat, minlength=indices.size).reshape(indices.shape).astype(np.float64)


def draw_counts(things: int, resamples: int, seed: int) -> np.ndarray:
    """Counts (1 + B, T) of a bootstrap of T things without strata: each once in the first row, then every draw."""
    draws = np.random.default_rng(seed).multinomial(things, np.full(things, 1 / things), resamples)
    return np.concatenate([np.ones((1, things)), draws])


def percentile_interval(draws: np.ndarray, level: float = LEVEL) -> Estimate:
    """The interval between the percentiles of the draws.

    Args:
      draws: (B,) float, the statistic of every draw; NaN and infinity are left out.
      level: in (0, 1), the share of draws between the ends.

    Returns:
      The median of the draws, the ends, and how many draws are defined. NaN where fewer than half of them are, or none
      was taken: an interval over what a minority of draws happened to define would be of another statistic.

    Raises:
      InputError: draws that are no column of numbers, or a level outside of (0, 1).
    """
    draws, level = checked_draws(draws), checked_level(level)
    defined = draws[np.isfinite(draws)]
    if not defined.size or 2 * defined.size < draws.size:
        return UNDEFINED._replace(n=defined.size)
    value, low, high = np.quantile(defined, (0.5, (1 - level) / 2, (1 + level) / 2))
    return Estimate(float(value), float(low), float(high), defined.size)


def bootstrap_estimate(values: np.ndarray, n: int) -> Estimate:
    """A statistic with the percentile interval of its draws.

    Args:
      values: (1 + B,) float: of the things as they are, then of every draw.
      n: how many things.

    Returns:
      The estimate; without an interval where the value is undefined or `percentile_interval` has none.

    Raises:
      InputError: values that are no column of numbers, or none.
    """
    values = checked_draws(values, "values")
    if not values.size:
        raise InputError("expected values (1 + B,), the statistic and then its draws, got none")
    if not np.isfinite(values[0]):
        return UNDEFINED._replace(n=n)
    return percentile_interval(values[1:])._replace(value=float(values[0]), n=n)


def reflected_interval(value: float, draws: np.ndarray, level: float = LEVEL) -> Estimate:
    """The basic bootstrap interval, from 2 * value - upper percentile to 2 * value - lower percentile.

    For a statistic with a bias that resampling repeats: draws then lie as far above the value as the value above the
    truth, and percentiles of them miss it. The value itself may lie outside (Davison and Hinkley 1997, chapter 5).

    Args:
      value: of the networks as they are; NaN makes the ends NaN.
      draws: (B,) float; NaN is left out.
      level: in (0, 1).

    Returns:
      The value, the ends, and how many draws are defined.
    """
    _, low, high, defined = percentile_interval(draws, level)
    return Estimate(value, 2 * value - high, 2 * value - low, defined)


def corrected(value: float, draws: np.ndarray) -> float:
    """The value less the bias that the draws show: 2 * value - their mean; NaN where `percentile_interval` is."""
    draws = checked_draws(draws)
    if np.isnan(percentile_interval(draws).low):
        return float("nan")
    return float(2 * value - draws[np.isfinite(draws)].mean())


def _checked_seeds(values: Any, axis: int) -> np.ndarray:
    values = checked_numbers(values, "values")
    if not -values.ndim <= axis < values.ndim:
        raise InputError(f"expected values with an axis {axis} of seeds, got {values.shape}; give one number per seed")
    return values


def half_width(values: np.ndarray, axis: int = 0) -> Any:
    """Half the width of the interval of `t_interval`; NaN for fewer than two values. Arguments as there."""
    values = _checked_seeds(values, axis)
    good = np.isfinite(values)
    n = good.sum(axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(good, values, 0.0).sum(axis) / n
        squares = np.where(good, values - np.expand_dims(mean, axis), 0.0) ** 2
        return scipy.stats.t.ppf(0.5 + LEVEL / 2, n - 1) * np.sqrt(squares.sum(axis) / (n - 1) / n)


def t_interval(values: np.ndarray, axis: int = 0) -> Estimate:
    """Mean over one axis with the 95% Student t interval, in the unit of the values.

    Args:
      values: (S,) or (S, ...) float; NaN and infinity are left out, and `n` counts the others.
      axis: the axis of the seeds.

    Returns:
      The estimate: scalars, or arrays without the axis; NaN for no value.

    Raises:
      InputError: no real numbers, or an axis that they do not have.
    """
    values = _checked_seeds(values, axis)
    good = np.isfinite(values)
    n = good.sum(axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(good, values, 0.0).sum(axis) / n
    half = half_width(values, axis)
    return Estimate(mean, mean - half, mean + half, n)


def finite_pairs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two columns (R,) as float64 (r,) without the pairs of which one is no number; InputError as `checked_column`."""
    first = checked_column(first, "first")
    second = checked_column(second, "second", first.size)
    both = np.isfinite(first) & np.isfinite(second)
    return first[both], second[both]


def agreement(first: np.ndarray, second: np.ndarray, resamples: int = 5000, seed: int = 0) -> Estimate:
    """Spearman's correlation of two columns with the percentile interval of a bootstrap over pairs.

    Args:
      first: (R,) float; pairs with a NaN are left out.
      second: (R,) float.
      resamples: how many times pairs are drawn again with replacement.
      seed: of the draws, which use no global generator.

    Returns:
      The correlation over `n` pairs; NaN for fewer than three or a constant column. Draws that make a column constant
      have no correlation and are left out of the interval. Those of two different pairs stay, with 1 or -1: without
      them a handful of pairs would seem to be more certain.

    Raises:
      InputError: columns of different lengths or without numbers, or a number of draws that is none.
    """
    first, second = finite_pairs(first, second)
    if first.size < FEWEST:
        return UNDEFINED._replace(n=first.size)
    draws = counts(resample(np.zeros(first.size), resamples, seed))
    weights = np.concatenate([np.ones((1, first.size)), draws])
    return bootstrap_estimate(ranking.rank_correlation(first, second, (), weights, 2), first.size)
