"""Rows of removals.csv by network, rule and seed: test error at each count kept, and its rise over the removals."""

from typing import NamedTuple

import numpy as np

from margin_jax.errors import InputError
from margin_jax.tables import Table, rows
from plots import rules
from plots.intervals import Interval, t_interval
from plots.since_removal import BASE


class Steps(NamedTuple):
    """One rule on one network over seeds; (S, K) over seeds and counts kept, NaN where a seed has none.

    Attributes:
      kept: (K,) counts, falling; the first is N, before any removal.
      error: (S, K) test error in percent at the end of the training with that count.
      epoch: (S, K) the last epoch with that count.
      separated: (S, K) 1 where the kept were all classified correctly then, else 0.
      moved: (S, K) distance from the weights before the first removal over their norm.
    """

    kept: np.ndarray
    error: np.ndarray
    epoch: np.ndarray
    separated: np.ndarray
    moved: np.ndarray

    def at(self, column: str, kept: int) -> np.ndarray:
        """Values (S,) of one column at a count kept; NaN where it was not reached."""
        place = np.flatnonzero(self.kept == kept)
        return getattr(self, column)[:, place[0]] if place.size else np.full(self.error.shape[0], np.nan)

    def rise(self, kept: int) -> Interval:
        """Test error at a count kept minus that before the first removal, in points, over seeds."""
        return t_interval(self.at("error", kept) - self.error[:, 0])


def removal_rules(removals: Table) -> list[str]:
    """The rules whose removals a table holds, in the order of every legend."""
    return [rule for rule in rules.in_order(removals["rule"].tolist()) if rule not in (rules.FULL, rules.FROZEN)]


def main_rule(removals: Table) -> str:
    """The paper's rule if the job has it, else the first; raises InputError where there is none."""
    if not (found := removal_rules(removals)):
        raise InputError("removals.csv names no rule that removes examples; wait until a network has")
    return rules.MAIN if rules.MAIN in found else found[0]


def steps(removals: Table, rule: str) -> Steps:
    """Lays the removals of all seeds over one another by the count kept.

    Args:
      removals: columns of removals.csv, each (R,), of one network.
      rule: whose rows.
    """
    mine = rows(removals, rule=rule)
    seeds, row = np.unique(mine["seed"], return_inverse=True)
    falling, column = np.unique(-mine["kept"], return_inverse=True)

    def laid(name: str) -> np.ndarray:
        values = np.full((seeds.size, falling.size), np.nan)
        values[row, column] = mine[name]
        return values

    return Steps((-falling).astype(int), laid("test_error"), laid("epoch"), laid("separated"), laid("moved"))


def full_steps(curves: Table, removals: Table, rule: str) -> np.ndarray | None:
    """Test error of full data at the epochs of a rule's removals, for a comparison after as many epochs.

    Args:
      curves: columns of curves.csv, each (Q,), of the same network.
      removals: columns of removals.csv, each (R,), of one network.
      rule: whose epochs.

    Returns:
      (S, K) in the order of `steps`, from the last epoch recorded by then; NaN beyond the run on full data. None
      without such a run.
    """
    at, seeds = steps(removals, rule).epoch, np.unique(rows(removals, rule=rule)["seed"])
    if rules.FULL not in curves["rule"]:
        return None
    found = np.full(at.shape, np.nan)
    for place, seed in enumerate(seeds):
        run = rows(curves, rule=(rules.FULL, BASE), seed=float(seed))
        order = np.argsort(run["epoch"])
        epochs, errors = run["epoch"][order], run["test_error"][order]
        if rules.FULL in run["rule"]:
            last = np.searchsorted(epochs, np.nan_to_num(at[place], nan=-1.0), side="right") - 1
            found[place] = np.where((last >= 0) & (at[place] <= epochs[-1]), errors[np.maximum(last, 0)], np.nan)
    return found
