"""Rows of cells.csv, one per seed, brought together into means with intervals and counts of what failed."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from margin_jax.tables import Table
from plots.intervals import Interval, t_interval

FINISHED = "finished"


class Summary(NamedTuple):
    """The seeds of one cell; failed ones are counted and enter no mean.

    Attributes:
      seeds: rows in all.
      failed: of these, how many did not finish.
      reasons: why, with how many seeds each.
      error: test error in percent.
      drop: test error minus that on full data, in points.
      drop_frozen: test error minus that of the network at the removal, in points.
      moved: distance from the weights at the removal over their norm.
      updates: mean number of optimiser steps.
      loss_start: mean loss on the kept examples at the removal, in nats.
      loss_end: the same at the end.
    """

    seeds: int
    failed: int
    reasons: tuple[tuple[str, int], ...]
    error: Interval
    drop: Interval
    drop_frozen: Interval
    moved: Interval
    updates: float
    loss_start: float
    loss_end: float


def summarise(cells: Table, by: Sequence[str]) -> dict[tuple, Summary]:
    """One summary per combination of the columns `by`, in the order of their first rows.

    Args:
      cells: columns of cells.csv, each (R,).
      by: columns that name a group; the rows of a group are its seeds.

    Returns:
      Keyed by the values of `by`: numbers as float, text as str.
    """
    keys = list(zip(*(cells[column].tolist() for column in by)))
    groups: dict[tuple, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    return {key: _summary({column: values[places] for column, values in cells.items()})
            for key, places in groups.items()}


def _summary(group: Table) -> Summary:
    good = group["status"] == FINISHED
    reasons = Counter(str(reason) or str(status) for reason, status in
                      zip(group["reason"][~good], group["status"][~good]))

    def over_seeds(column: str) -> Interval:
        return t_interval(group[column][good])

    return Summary(good.size, int(np.sum(~good)), tuple(sorted(reasons.items())), over_seeds("test_error"),
                   over_seeds("drop"), over_seeds("drop_frozen"), over_seeds("moved"), over_seeds("updates").mean,
                   over_seeds("loss_start").mean, over_seeds("loss_end").mean)
