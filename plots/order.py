"""Whether two columns of numbers order the same things alike: Spearman's correlation with a bootstrap interval."""

from typing import NamedTuple

import numpy as np
import scipy  # scipy.stats is loaded at its first use: it takes a second, which a start need not pay

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
