"""What figure 11 shows of replace-one trials: mean differences for each choice, and "smallest" beside the others."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from margin_jax.tables import Table, rows

QUANTITIES = ("d_test_loss", "d_test_error", "d_rho", "d_output", "d_margin_min")
SMALLEST = "smallest"
CHOICES = (SMALLEST, "random", "largest")
_DRAWS, _SEED = 5000, 0


class Mean(NamedTuple):
    """A mean over trials and the ends of its 95% interval; NaN where there is none."""

    value: float
    low: float
    high: float


Means = Mapping[str, Mapping[str, Mean]]  # by quantity, then by choice
_Draws = dict[str, dict[str, np.ndarray]]  # the same, (1 + B,): of the trials as they are, then of the draws


class Numbers(NamedTuple):
    """All that the figure shows.

    Attributes:
      choices: those of `CHOICES` that have trials.
      trials: finished trials of each choice.
      diverged: the others that are over.
      points: how many different points left the training set, by choice.
      sizes: mean absolute difference.
      medians: of the same, which a few trials do not move.
      signed: mean difference.
      more: mean absolute difference of "smallest" less that of another choice, by that choice.
      ratio: the first over the second.
      larger: share of trials whose absolute difference is larger for "smallest"; equal ones count half.
      signed_more: `more` of absolute values of the means, in place of means of absolute values.
      continued: quantities of the network trained on without a replacement.
    """

    choices: list[str]
    trials: dict[str, int]
    diverged: dict[str, int]
    points: dict[str, int]
    sizes: Means
    medians: dict[str, dict[str, float]]
    signed: Means
    more: Means
    ratio: Means
    larger: Means
    signed_more: Means
    continued: dict[str, Any]


def gather(table: Table, continued: dict[str, Any]) -> Numbers:
    """Means over trials with percentile intervals of a bootstrap over the numbers of the trials.

    Trials of one number take in the same test point, and are drawn together. Where a choice always replaces the same
    point, its interval is one over the points that come in, for that point.

    Args:
      table: columns of trials.csv, each (R,), R >= 1.
      continued: of continued.json.
    """
    choices = [choice for choice in CHOICES if choice in table["choice"]]
    own = {choice: rows(table, choice=choice) for choice in choices}
    finished = {choice: rows(table, choice=choice, status="finished") for choice in choices}
    numbers = np.unique(table["trial"])
    weights = _weights(numbers.size)
    values = {name: {choice: _aligned(finished[choice], name, numbers) for choice in choices} for name in QUANTITIES}
    sizes = _each(values, lambda found: _means(np.abs(found), weights))
    signed = _each(values, lambda found: _means(found, weights))
    return Numbers(
        choices, {choice: finished[choice]["trial"].size for choice in choices},
        {choice: own[choice]["trial"].size - finished[choice]["trial"].size for choice in choices},
        {choice: np.unique(own[choice]["out_id"]).size for choice in choices},
        _each(sizes, _interval), _each(values, _median), _each(signed, _interval),
        _beside(sizes, np.subtract), _beside(sizes, _over),
        _beside(values, lambda first, second: _means(_larger(np.abs(first), np.abs(second)), weights)),
        _beside(signed, lambda first, second: np.abs(first) - np.abs(second)), continued)


def _weights(trials: int) -> np.ndarray:
    """(1 + B, T): how often each number of a trial counts, once in the first row, and in each draw."""
    draws = np.random.default_rng(_SEED).multinomial(trials, np.full(trials, 1 / trials), _DRAWS)
    return np.concatenate([np.ones((1, trials)), draws])


def _aligned(table: Table, name: str, numbers: np.ndarray) -> np.ndarray:
    """(T,) by the number of the trial, NaN where it has not finished."""
    found = np.full(numbers.size, np.nan)
    found[np.searchsorted(numbers, table["trial"])] = table[name]
    return found


def _each(values: _Draws, of: Callable[[np.ndarray], Any]) -> dict[str, dict[str, Any]]:
    return {name: {choice: of(found) for choice, found in one.items()} for name, one in values.items()}


def _beside(values: _Draws, of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Means:
    """The interval of a function of "smallest" and each other choice; nothing without "smallest"."""
    return {name: {other: _interval(of(one[SMALLEST], found)) for other, found in one.items()
                   if SMALLEST in one and other != SMALLEST} for name, one in values.items()}


def _larger(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """1 where the first is larger, 1/2 where both are equal, else 0; NaN where one of them is."""
    return np.where(np.isfinite(first + second), (first > second) + 0.5 * (first == second), np.nan)


def _means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(T,) and (1 + B, T) -> (1 + B,) means of the trials and of the draws; NaN for a draw without a value."""
    there = np.isfinite(values)
    return _over(weights @ np.where(there, values, 0.0), weights @ there)


def _over(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def _median(values: np.ndarray) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(np.median(finite)) if finite.size else np.nan


def _interval(means: np.ndarray) -> Mean:
    """The first value, and percentiles of the others; none where fewer than half of the draws have a value."""
    draws = means[1:][np.isfinite(means[1:])]
    low, high = np.quantile(draws, (0.025, 0.975)) if 2 * draws.size > means.size else (np.nan, np.nan)
    return Mean(float(means[0]), float(low), float(high))
