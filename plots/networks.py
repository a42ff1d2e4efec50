"""The networks that a continuous removal compares: one for each optimiser and std of the initial weights."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from margin_jax.tables import Table, rows

Key = tuple[str, float]  # optimiser, std of the initial weights; NaN where these are not normal


class Network(NamedTuple):
    """One network, over seeds: its name in the figure, its std, and its rows of removals.csv and curves.csv."""

    name: str
    init_std: float
    removals: Table
    curves: Table


def in_order(keys: Iterable[Key]) -> list[Key]:
    """Distinct networks: by optimiser, then ascending std, weights that are not normal last."""
    distinct = {(optimizer, None if math.isnan(std) else std) for optimizer, std in keys}
    ordered = sorted(distinct, key=lambda key: (key[0], math.inf if key[1] is None else key[1]))
    return [(optimizer, math.nan if std is None else std) for optimizer, std in ordered]


def names(keys: list[Key]) -> list[str]:
    """Such as "A, init std 0.01"; the letter and the optimiser only where they tell networks apart."""
    several = len({optimizer for optimizer, _ in keys}) > 1
    return [", ".join([*[chr(ord("A") + place)] * (len(keys) > 1), *[optimizer] * several,
                       "default initial weights" if math.isnan(std) else f"init std {std:g}"])
            for place, (optimizer, std) in enumerate(keys)]


def split(removals: Table, curves: Table) -> list[Network]:
    """The networks of a job.

    Args:
      removals: columns of removals.csv, each (R,).
      curves: columns of curves.csv, each (Q,); may be empty.
    """
    keys = in_order(zip(removals["optimizer"].tolist(), removals["init_std"].tolist()))
    # Alone, an optimiser may have followed another one, that of the epochs before the removals.
    several = np.unique(removals["optimizer"]).size > 1
    return [Network(name, std, rows(removals, optimizer=optimizer, init_std=std),
                    rows(curves, init_std=std, **({"optimizer": optimizer} if several else {})))
            for name, (optimizer, std) in zip(names(keys), keys)]
