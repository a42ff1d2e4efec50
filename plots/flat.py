"""How flat a margin curve is, epoch by epoch, for all examples and for each class.

Both numbers are free of scale. The bare spread of normalised margins would follow rho, which grows or, under L2, falls
through training, whatever becomes of the curve's shape. `margin_jax.distribution` has the same for JAX arrays.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from plots.recorded import Recorded


def coefficient_of_variation(values: np.ndarray) -> np.ndarray:
    """Standard deviation over mean along the last axis, (..., n) -> (...); NaN where the mean is not positive."""
    mean = values.mean(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(mean > 0, values.std(-1) / mean, np.nan)


def relative_iqr(values: np.ndarray) -> np.ndarray:
    """Interquartile range over median along the last axis, (..., n) -> (...); NaN where the median is not positive."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75), axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(median > 0, (high - low) / median, np.nan)


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"cv": coefficient_of_variation, "iqr": relative_iqr}
NAMES = {"cv": "standard deviation / mean", "iqr": "interquartile range / median"}


class Course(NamedTuple):
    """The flatness of one network through training.

    Attributes:
      epochs: (E,) whose margins were kept.
      values: by measure, (E, 1 + C): of all examples, then of each class; NaN where a measure means nothing.
      separation: the row of the epoch of data separation, None without it.
    """

    epochs: np.ndarray
    values: dict[str, np.ndarray]
    separation: int | None

    def change(self, measure: str) -> np.ndarray:
        """(1 + C,) ln of the value at the end over that at separation, below 0 for flatter curves.

        The end is the geometric mean over the last quarter of the epochs since separation: with BatchNorm single epochs
        differ from their neighbours by as much as hundreds do. NaN without separation or an epoch after it.
        """
        values = self.values[measure]
        if self.separation is None or self.separation == len(values) - 1:
            return np.full(values.shape[1], np.nan)
        start, last = self.epochs[self.separation], self.epochs[-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            logs = np.log(values)
            change = logs[self.epochs > last - (last - start) / 4].mean(0) - logs[self.separation]
        return np.where(np.isfinite(change), change, np.nan)


def course(run: Recorded) -> Course:
    """Reads the flatness of a run at every epoch whose margins were kept, an epoch at a time."""
    labels = run.margins.labels
    groups = [np.ones(labels.size, bool), *(labels == number for number in range(len(run.class_names)))]
    found: dict[str, list[list[float]]] = {name: [] for name in MEASURES}
    for row in range(run.margins.epochs.size):
        curve = run.normalised(row)
        for name, measure in MEASURES.items():
            found[name].append([float(measure(curve[group])) if group.any() else np.nan for group in groups])
    return Course(run.margins.epochs, {name: np.array(rows) for name, rows in found.items()}, separation_row(run))


def separation_row(run: Recorded) -> int | None:
    """The row of a run's kept margins at data separation, None where it did not separate."""
    rows = np.flatnonzero(run.margins.epochs == run.separation) if run.separation is not None else np.zeros(0, int)
    return int(rows[0]) if rows.size else None
