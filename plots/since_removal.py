"""Curves of several seeds laid over one another by the epochs since the removal, which each seed reaches in its own."""

from typing import NamedTuple

import numpy as np

from margin_jax.tables import Table, rows

BASE = "base"  # rule and scope of the epochs before the removal


class Aligned(NamedTuple):
    """Curves over one another.

    Attributes:
      epochs: (T,) since the removal, ascending: all that some seed recorded.
      values: (S, T), straight lines between a seed's own records, NaN outside them.
    """

    epochs: np.ndarray
    values: np.ndarray


def align(curves: Table, column: str = "test_error") -> dict[tuple[str, int, str], Aligned]:
    """Lays the curves of all seeds over one another.

    Args:
      curves: columns of curves.csv, each (R,); of networks with the same settings.
      column: the values, in their own unit.

    Returns:
      Keyed by (rule, kept, scope). Epochs are 0 and below before the removal. Fresh networks train for as many epochs
      in all as the others, so that they start where these did and end where these end.
    """
    base = rows(curves, rule=BASE)
    removal = {seed: base["epoch"][base["seed"] == seed].max() for seed in np.unique(base["seed"])}
    kept = np.nan_to_num(curves["kept"]).astype(int)
    groups: dict[tuple[str, int, str], list[int]] = {}
    for row, key in enumerate(zip(curves["rule"].tolist(), kept.tolist(), curves["scope"].tolist())):
        groups.setdefault(key, []).append(row)
    since = curves["epoch"] - np.array([removal.get(seed, 0.0) for seed in curves["seed"]])
    return {key: _align(since[places], curves["seed"][places], curves[column][places])
            for key, places in groups.items()}


def _align(epochs: np.ndarray, seeds: np.ndarray, values: np.ndarray) -> Aligned:
    at, column = np.unique(epochs, return_inverse=True)
    names, row = np.unique(seeds, return_inverse=True)
    # Seeds that reached the removal at different epochs record at different ones after it: a mean over those that
    # happen to have a record would jump from seed to seed.
    laid = np.full((names.size, at.size), np.nan)
    for seed in range(names.size):
        mine = np.sort(column[row == seed])
        own = np.empty(at.size)
        own[column[row == seed]] = values[row == seed]
        laid[seed, mine[0]:mine[-1] + 1] = np.interp(at[mine[0]:mine[-1] + 1], at[mine], own[mine])
    return Aligned(at, laid)
