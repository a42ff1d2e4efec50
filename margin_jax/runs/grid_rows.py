"""What the two scopes of a grid share: networks at their removal, and the rows of cells.csv so far."""

from typing import Any, NamedTuple

import jax
import numpy as np

from margin_jax import tables
from margin_jax.results import RunFolder
from margin_jax.runs import cells
from margin_jax.runs.base import Base
from margin_jax.runs.branches import SCRATCH, Branch, rules
from margin_jax.runs.group import Course, Group
from margin_jax.state import parameter_distance

Row = dict[str, Any]


class Network(NamedTuple):
    """One network of the grid at its removal.

    Attributes:
      base: where it comes from; shared by learning rates within scope "after".
      learning_rate: after the removal.
      margins: (N,) raw margins at the removal.
    """

    base: Base
    learning_rate: float
    margins: np.ndarray


class Rows:
    """The rows of cells.csv so far, written anew after each group."""

    def __init__(self, folder: RunFolder, whole_run: bool) -> None:
        """Takes over the rows of an interrupted job."""
        self._folder, self._whole_run = folder, whole_run
        self.rows = tables.rows_of(tables.read_table(folder.path, "cells.csv", required=False))

    def has(self, **wanted: Any) -> bool:
        """Whether a row with these values is there."""
        return any(all(row[name] == value for name, value in wanted.items()) for row in self.rows)

    def add(self, rows: list[Row]) -> None:
        """Adds rows, with their drops against the controls that are there."""
        self.rows = cells.with_drops(self.rows + rows, self._whole_run)
        self._folder.write_table("cells.csv", self.rows)


def setting(config: Any, optimizer: str, batch_size: int, learning_rate: float) -> Any:
    """The config of one cell."""
    own = config.copy_and_resolve_references()
    own.optimizer.name, own.optimizer.learning_rate, own.batch_size = optimizer, learning_rate, batch_size
    return own


def failed_rows(config: Any, own: Any, base: Base, scope: str) -> list[Row]:
    """Every rule of a cell whose network did not get to the removal, in both scopes.

    Args:
      config: of the compression.
      own: of the cell.
      base: the network.
      scope: "after" or "whole_run".
    """
    section = config.compress
    names = [Branch(*rule, section.keep, scope).rule_name for rule in rules(config)]
    scopes = [scope] + [SCRATCH] * (SCRATCH in section.controls)
    return [cells.failed_row(own, base, name, section.keep, where) for name in names for where in scopes]


def group_rows(own: Any, group: Group, rule: str, scope: str, networks: list[Network], kept: np.ndarray,
               first: np.ndarray, begun: Course, ended: Course) -> list[Row]:
    """The rows of a group that has ended.

    Args:
      own: the config of its cells; the learning rate is each network's own.
      group: its compiled functions.
      rule, scope: as tables write them.
      networks: K of them.
      kept: (K, n) int, the rows that each kept.
      first: (K,) float, loss on these at the removal.
      begun, ended: the group before and after.
    """
    count = len(networks)
    train, test = (group.measure(ended.states, count, rows=kept), group.measure(ended.states, count, test=True))
    steps = ended.states.opt_state.count - begun.states.opt_state.count
    done = []
    for k, network in enumerate(networks):
        good = bool(ended.healthy[k])
        errors = {name: 100 * float(np.mean(~(values.margins[k] > 0))) for name, values in
                  (("train", train), ("test", test))}
        done.append(cells.settings(own) | {"learning_rate": network.learning_rate} | {
            "base": network.base.start.name,
            "rule": rule, "seed": network.base.start.seed, "kept": kept.shape[1], "scope": scope,
            "test_error": errors["test"] if good else cells.NOTHING,
            "moved": cells.NOTHING if not good or scope == SCRATCH else _moved(begun, ended, k),
            "updates": int(steps[k]), "epochs": int(ended.epochs[k]),
            "status": "finished" if good else "diverged", "loss_start": float(first[k]),
            "loss_end": float(train.losses[k].mean()) if good else cells.NOTHING,
            "train_error": errors["train"] if good else cells.NOTHING,
            "reason": "" if good else f"the loss was not finite in epoch {int(ended.bad_epoch[k])} after the "
                                      f"{'start' if scope == SCRATCH else 'removal'}, step "
                                      f"{int(ended.bad_step[k]) + 1}"})
    return done


def _moved(begun: Course, ended: Course, k: int) -> float:
    now, then = (jax.tree.map(lambda leaf: leaf[k], course.states.params) for course in (ended, begun))
    return parameter_distance(now, then)
