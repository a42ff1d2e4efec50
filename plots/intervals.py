"""Means over seeds with a 95% interval of Student's t."""

from typing import Any, NamedTuple

import numpy as np
import scipy  # scipy.stats is loaded at its first use: it takes a second, which a start need not pay

from plots import scales

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean over seeds, scalars or arrays of one shape.

    Attributes:
      mean: NaN without a value.
      half: half the width of the 95% interval; NaN for fewer than two values, which have no interval.
      n: how many values it is of.
    """

    mean: Any
    half: Any
    n: Any


def t_interval(values: np.ndarray, axis: int = 0) -> Interval:
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
        return Interval(mean, scipy.stats.t.ppf(0.5 + LEVEL / 2, n - 1) * error, n)


def band(values: np.ndarray, axis: int = 0) -> tuple[Any, Any]:
    """Ends of the intervals for a band along a line; NaN for fewer than three seeds, whose band would hide the rest.

    Args:
      values: (S, ...) float; NaN is left out.
      axis: the axis of the seeds.
    """
    mean, half, n = t_interval(values, axis)
    half = np.where(n >= 3, half, np.nan)
    return mean - half, mean + half


def ends(values: np.ndarray, axis: int = 0) -> tuple[Any, Any]:
    """The part of an interval that an axis should have room for: its ends, or the seeds' range 1.5 times over.

    Two seeds have an interval thirteen times as wide as the distance between them, which would flatten all else.

    Args:
      values: (S,) or (S, ...) float; NaN is left out.
      axis: the axis of the seeds.
    """
    values = np.asarray(values, np.float64)
    mean, half, n = t_interval(values, axis)
    good = np.isfinite(values)
    span = np.where(good, values, -np.inf).max(axis, initial=-np.inf) - np.where(good, values, np.inf).min(
        axis, initial=np.inf)
    reach = np.where(n > 1, np.minimum(half, 1.5 * span), 0.0)
    return mean - reach, mean + reach


def text(interval: Interval, digits: int = 2, sign: bool = False) -> str:
    """Such as "0.45 ± 0.30", "0.45" from one value, "–" from none; `sign` writes a plus too."""
    if not np.isfinite(interval.mean):
        return "–"
    mean = scales.signed(f"{interval.mean:{'+' if sign else ''}.{digits}f}")
    return f"{mean} ± {interval.half:.{digits}f}" if np.isfinite(interval.half) else mean
