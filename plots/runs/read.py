"""What the figures need of a run folder, read once, from a finished run or one that still goes on.

Ranking margins, and choosing which epochs and ranks of many are drawn.
"""


import numpy as np

from margin_jax.errors import InputError


class Lacking(InputError):
    """A run that is whole, but not made for a figure: too few epochs or examples, or some left out."""


def ascending(margins: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Rows of the margins that are numbers, from the smallest margin to the largest, ties by id.

    Args:
      margins: (n,) float; NaN where there is none.
      ids: (n,) whole numbers, in any order.

    Returns:
      (m,) row numbers, m <= n.
    """
    order = np.lexsort((ids, margins))
    return order[np.isfinite(margins[order])]


def curve(margins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The margin curve of one epoch: rank n/N in (0, 1], and the margins ascending; NaN left out."""
    values = np.sort(margins[np.isfinite(margins)])
    return np.arange(1, values.size + 1) / max(values.size, 1), values


def thin(size: int, most: int = 4000, ends: int = 100) -> np.ndarray:
    """Which of `size` points of a curve are drawn: all up to `most`, else evenly chosen ones and all near the ends.

    Fifty thousand points in a column of a thousand pixels look the same and make a PDF of tens of megabytes.
    """
    if size <= most:
        return np.arange(size)
    inner = np.linspace(ends, size - 1 - ends, most - 2 * ends).round().astype(int)
    return np.unique(np.concatenate((np.arange(ends), inner, np.arange(size - ends, size))))


def choose_epochs(epochs: np.ndarray, separation: int | None, most: int = 60) -> np.ndarray:
    """Rows of the epochs to draw: evenly chosen, always with the first, the last and the one of separation.

    Args:
      epochs: (E,) recorded epochs, ascending, E >= 1.
      separation: the epoch of data separation, or None.
      most: how many at most.

    Returns:
      Rows, ascending.
    """
    rows = np.linspace(0, epochs.size - 1, min(most, epochs.size)).round().astype(int)
    found = np.flatnonzero(epochs == separation) if separation is not None else np.array([], int)
    if found.size and found[0] not in rows:
        inner = 1 + np.argmin(np.abs(rows[1:-1] - found[0])) if rows.size > 2 else 0
        rows[inner] = found[0]
    return np.unique(rows)
