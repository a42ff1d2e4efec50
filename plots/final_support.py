"""How early the examples with the smallest final margins can be told: overlap and rank correlation with the end."""

from typing import NamedTuple

import numpy as np
import scipy  # scipy.stats is loaded at its first use: it takes a second, which a start need not pay

from plots import order, ranks
from plots.recorded import Lacking, Recorded
from plots.tracks import need_course

COUNTS = (20, 100, 200)
LEVEL = 0.95
_WAY = (0.25, 0.5, 0.75)
HALF_WAY = "50% of the way to separation"


class Chance(NamedTuple):
    """Overlap in percent of k examples drawn at random with k others: mean and ends of its 95% range."""

    mean: float
    low: float
    high: float


class Prediction(NamedTuple):
    """Margins through training compared with those of the last recorded epoch.

    Attributes:
      epochs: (E,) of all records, ascending.
      correlation: (E,) Spearman's, over all training examples; NaN where it is undefined.
      overlaps: by k, (E,) share in percent of the k smallest final margins among the k smallest at the epoch.
      chance: by k.
      separation: the epoch of data separation, or None.
      examples: N.
    """

    epochs: np.ndarray
    correlation: np.ndarray
    overlaps: dict[int, np.ndarray]
    chance: dict[int, Chance]
    separation: int | None
    examples: int

    def row(self, epoch: float) -> int:
        """As of `row_at`."""
        return row_at(self.epochs, epoch)


def row_at(epochs: np.ndarray, epoch: float) -> int:
    """The row of the last record at `epoch` or before it, of the first record at least; `epochs` ascend."""
    return max(int(np.searchsorted(epochs, epoch, "right")) - 1, 0)


def gather(run: Recorded) -> Prediction:
    """Compares every record with the last one, one at a time, so that memory does not grow with their number.

    Raises:
      Lacking: as of `need_course`, or fewer examples than the smallest of `COUNTS`.
    """
    need_course(run, "the figure of the final support")
    stored, count = run.margins, run.margins.ids.size
    counts = [k for k in COUNTS if k <= count]
    if not counts:
        raise Lacking(f"the figure of the final support follows the {COUNTS[0]} smallest margins, and {run.workdir} "
                      f"has {count} training examples")
    last = np.asarray(stored.margins[-1])
    final = {k: ranks.ascending(last, stored.ids)[:k] for k in counts}
    correlation, overlaps = np.empty(stored.epochs.size), {k: np.empty(stored.epochs.size) for k in counts}
    for row, values in enumerate(stored.margins):
        correlation[row] = order.spearman(values, last)
        smallest = ranks.ascending(values, stored.ids)[:counts[-1]]
        for k in counts:
            overlaps[k][row] = 100 * np.intersect1d(smallest[:k], final[k]).size / k
    return Prediction(stored.epochs, correlation, overlaps, {k: chance(k, count) for k in counts}, run.separation,
                      count)


def chance(k: int, count: int) -> Chance:
    """Overlap of k of `count` examples drawn without replacement with a fixed set of k: hypergeometric."""
    drawn = scipy.stats.hypergeom(count, k, k)
    low, high = drawn.interval(LEVEL)
    return Chance(100 * k / count, 100 * float(low) / k, 100 * float(high) / k)


def moments(found: Prediction) -> dict[str, int]:
    """Rows of the records at which numbers are told: on the way to separation, there, and through all of training.

    Each is the last record at or before its moment. Without separation, training alone.
    """
    last, rows = int(found.epochs[-1]), {"first record": 0}
    if found.separation is not None:
        rows |= {f"{share:.0%} of the way to separation": found.row(share * found.separation) for share in _WAY}
        rows |= {"last record before separation": found.row(found.separation - 1),
                 "separation": found.row(found.separation)}
    return rows | {f"{share:.0%} of training": found.row(share * last) for share in _WAY}


def share_interval(percent: float, k: int) -> tuple[float, float]:
    """Wilson's 95% interval in percent of a share of k examples, which takes them for a sample of others."""
    found = scipy.stats.binomtest(round(percent * k / 100), k).proportion_ci(LEVEL, "wilson")
    return 100 * float(found.low), 100 * float(found.high)


def correlation_interval(rho: float, count: int) -> tuple[float, float]:
    """95% interval of Spearman's correlation over examples, by Fisher's z, variance of Bonett and Wright (2000)."""
    if not np.isfinite(rho) or count < 4:
        return np.nan, np.nan
    half = scipy.stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt((1 + rho**2 / 2) / (count - 3))
    z = np.arctanh(np.clip(rho, -1 + 1e-15, 1 - 1e-15))
    return float(np.tanh(z - half)), float(np.tanh(z + half))
