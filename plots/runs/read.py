"""What figures share of the margins of a run, finished or not: ranks without NaN, and what of many is drawn."""

import numpy as np

from margin_jax.theory.distribution import ascending, overlap


def finite(values: np.ndarray) -> np.ndarray:
    """The numbers (m,) among values of any shape: a run that diverged has NaN or infinity in the others."""
    return values[np.isfinite(values)]


def ranked_rows(margins: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Rows of the margins that are numbers, in the order of `distribution.ascending`.

    Args:
      margins: (n,) float; NaN where there is none.
      ids: (n,) whole numbers, in any order.

    Returns:
      (m,) row numbers, m <= n.
    """
    order = ascending(margins, ids)
    return order[np.isfinite(margins[order])]


def percent_shared(first: np.ndarray, second: np.ndarray, k: int) -> float:
    """`distribution.overlap` of two sets of k ids in percent; 29 of 100 are 29.0, which 100 * 0.29 is not.

    Args:
      first: (j,) distinct ids >= 0, j <= k; where fewer than k margins are numbers, the other places share nothing.
      second: (l,) the same of another network or epoch.
      k: how many smallest margins are compared.
    """
    sets = [np.append(ids[:k], np.arange(start, start - (k - ids[:k].size), -1)) for ids, start in
            ((first, -1), (second, -1 - k))]
    return 100 * round(k * float(overlap(*sets))) / k


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
    places = np.flatnonzero(epochs == separation) if separation is not None else np.array([], int)
    if places.size and places[0] not in rows:
        inner = 1 + np.argmin(np.abs(rows[1:-1] - places[0])) if rows.size > 2 else 0
        rows[inner] = places[0]
    return np.unique(rows)
