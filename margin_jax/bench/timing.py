"""Two pieces of work timed in turn, so that a machine whose speed drifts slows both alike."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Work = Callable[[], None]  # returns when it is done, not when it has been dispatched
SHORTEST = 0.05  # seconds; work that takes less is repeated within a sample


class Pairing(NamedTuple):
    """Medians over pairs, in seconds for one call, and the ratio ours / theirs with its quartiles."""

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float


def seconds(work: Work, calls: int = 1) -> float:
    """Wall seconds of one call, averaged over `calls`."""
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - start) / calls


def _calls(work: Work) -> int:
    return max(1, round(SHORTEST / max(seconds(work), 1e-9)))


def compare(ours: Work, theirs: Work, pairs: int) -> Pairing:
    """Times two pieces of work in turn, each warmed up by two calls, the first of a pair changing every time.

    Args:
      ours: the numerator.
      theirs: the denominator.
      pairs: >= 1.

    Returns:
      Medians; `low` and `high` are the quartiles of the ratios of pairs.
    """
    for work in (ours, theirs, ours, theirs):
        work()
    calls = _calls(ours), _calls(theirs)
    samples = np.empty((pairs, 2))
    for index in range(pairs):
        for side in ((0, 1), (1, 0))[index % 2]:
            samples[index, side] = seconds((ours, theirs)[side], calls[side])
    low, ratio, high = np.quantile(samples[:, 0] / samples[:, 1], (0.25, 0.5, 0.75))
    return Pairing(*np.median(samples, 0).tolist(), float(ratio), float(low), float(high))


def fastest(variants: dict[str, Work], rounds: int) -> tuple[str, Work]:
    """The variant of the smallest median time over `rounds` calls in turn, after two calls to warm up."""
    for work in variants.values():
        work()
        work()
    times = {name: [] for name in variants}
    for _ in range(rounds):
        for name, work in variants.items():
            times[name].append(seconds(work))
    best = min(times, key=lambda name: float(np.median(times[name])))
    return best, variants[best]
