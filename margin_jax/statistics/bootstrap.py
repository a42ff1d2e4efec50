"""Bootstraps of two levels: points within seeds, and test examples that all networks share.

Points of one seed are alike, so that drawing points alone makes intervals too narrow. Here seeds are drawn first. Both
give (1 + B,) values for `hypotheses.bootstrap_evidence`: the statistic as it is, then of every draw. With few seeds
their intervals are too narrow as well: results/coverage has by how much, docs/verdicts.md from how many on they count.
"""

from collections.abc import Callable, Sequence

import numpy as np

from margin_jax.errors import InputError
from margin_jax.statistics.checks import checked_resamples

DRAWS = 10_000


def hierarchical_bootstrap(seeds: Sequence[np.ndarray], statistic: Callable[[np.ndarray], float] = np.mean,
                           resamples: int = DRAWS, seed: int = 0) -> np.ndarray:
    """The mean over seeds of a statistic of their points; seeds drawn anew, then points within each of them.

    Args:
      seeds: S arrays (P_s, ...), the points of each seed along the first axis, such as trials of replacement.
      statistic: of such an array; a number.
      resamples: B >= 0.
      seed: of the draws, by a generator of their own.

    Returns:
      (1 + B,) float64.

    Raises:
      InputError: no seed, a seed without points, or `resamples` that are no number >= 0.
    """
    arrays = [np.asarray(points) for points in seeds]
    if not arrays or any(array.ndim < 1 or not len(array) for array in arrays):
        raise InputError("expected points of at least one seed, and one point or more for each, got "
                         f"{[array.shape for array in arrays]}; leave out seeds without points")
    resamples, generator = checked_resamples(resamples), np.random.default_rng(seed)
    values = [np.mean([statistic(points) for points in arrays])]
    for _ in range(resamples):
        chosen = (arrays[place] for place in generator.integers(0, len(arrays), len(arrays)))
        values.append(np.mean([statistic(points[generator.integers(0, len(points), len(points))])
                               for points in chosen]))
    return np.array(values, np.float64)


def paired_bootstrap(first: np.ndarray, second: np.ndarray, resamples: int = DRAWS, seed: int = 0,
                     batch: int = 500) -> np.ndarray:
    """The mean of first - second over seeds and test examples, both drawn anew, examples the same for all networks.

    For the difference of two test errors on one test set: outcomes of an example go together, in the two networks of
    a seed and in all seeds, and drawing examples for all at once keeps that.

    Args:
      first: (S, T) float or boolean, whether the network of seed s gets test example t wrong, or any number of both.
      second: (S, T), of the network that it is compared with, same seeds and examples.
      resamples: B >= 0.
      seed: of the draws, by a generator of their own.
      batch: how many draws are held at once, which bounds memory to batch * T numbers.

    Returns:
      (1 + B,) float64, in the unit of the arrays: shares for booleans.

    Raises:
      InputError: arrays that are no (S, T) or of different shapes, or `resamples` that are no number >= 0.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.ndim != 2 or first.shape != second.shape or not first.size:
        raise InputError(f"expected two arrays (seeds, examples) of one shape, got {first.shape} and {second.shape}; "
                         "give the outcome of every test example in every seed")
    difference = first - second
    seeds, examples = difference.shape
    resamples, generator = checked_resamples(resamples), np.random.default_rng(seed)
    values = [np.array([difference.mean()])]
    for start in range(0, resamples, batch):
        draws = min(batch, resamples - start)
        by_seed = generator.multinomial(seeds, np.full(seeds, 1 / seeds), draws)
        by_example = generator.multinomial(examples, np.full(examples, 1 / examples), draws)
        values.append(((by_seed @ difference) * by_example).sum(1) / difference.size)
    return np.concatenate(values)
