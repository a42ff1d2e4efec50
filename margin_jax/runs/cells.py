"""Rows of cells.csv: what one compression came to, and how it compares with its controls."""

import math
from typing import Any

from margin_jax.runs.base import Base
from margin_jax.runs.branches import AFTER, FROZEN, FULL, SCRATCH

Row = dict[str, Any]
NOTHING = math.nan


def settings(config: Any) -> Row:
    """The columns that say how a network is trained, of a run's own config."""
    return {"optimizer": config.optimizer.name, "learning_rate": config.optimizer.learning_rate,
            "batch_size": config.batch_size}


def branch_row(config: Any, base: Base, summary: dict[str, Any], start: Row, rule: str, scope: str) -> Row:
    """The row of a branch that is over.

    Args:
      config: of the branch.
      base: the network at the removal.
      summary: its summary.json.
      start: its first row of metrics.csv.
      rule: as tables write it.
      scope: "after" or "scratch".

    Returns:
      Columns of cells.csv; and `since`, which is none, the epochs that the branch is to be compared with.
    """
    final, since, diverged = summary["final"] or start, summary["since_start"], summary["diverged"]
    good = diverged is None
    return settings(config) | {
        "base": base.start.name, "rule": rule, "seed": base.start.seed, "kept": final["kept"], "scope": scope,
        "test_error": final["test_error"] if good else NOTHING, "drop": NOTHING, "drop_frozen": NOTHING,
        "moved": since["moved"] if good and scope != SCRATCH else NOTHING, "updates": since["updates"],
        "status": summary["status"], "epochs": since["epochs"],
        "since": since["epochs"] - (base.row["epoch"] if scope == SCRATCH else 0),
        "loss_start": start["train_loss"], "loss_end": final["train_loss"] if good else NOTHING,
        "train_error": final["train_error"] if good else NOTHING,
        "reason": "" if good else f"the loss was not finite in epoch {diverged['epoch']}, step {diverged['step']}"}


def frozen_row(base: Base, scope: str = AFTER) -> Row:
    """The control that is not trained on: the network at the removal."""
    row = base.row
    return settings(base.config) | {
        "base": base.start.name,
        "rule": FROZEN, "seed": base.start.seed, "kept": row["kept"], "scope": scope, "test_error": row["test_error"],
        "drop": NOTHING, "moved": 0.0, "updates": 0, "status": "finished", "epochs": 0, "drop_frozen": 0.0,
        "loss_start": row["train_loss"], "loss_end": row["train_loss"], "train_error": row["train_error"],
        "reason": ""}


def failed_row(config: Any, base: Base, rule: str, kept: int, scope: str) -> Row:
    """A compression that could not start, since its network did not get to the removal."""
    return settings(config) | {
        "base": base.start.name, "rule": rule, "seed": base.start.seed, "kept": kept, "scope": scope, "updates": 0,
        "epochs": 0, "status": base.status, "reason": base.failed}


def with_drops(rows: list[Row], whole_run: bool = False,
               full_at: dict[tuple[str, int], float] | None = None) -> list[Row]:
    """The rows with `drop` against "full" and `drop_frozen` against "frozen" of the same network.

    Args:
      rows: of cells.csv.
      whole_run: whether networks differ by their settings too, since these hold for the whole run.
      full_at: test error on full data by base and epochs since the removal, for rows of different lengths that know
        theirs (`since`); the others are compared with the end of "full".
    """

    def network(row: Row) -> tuple[Any, ...]:
        return (row["base"], *((row["optimizer"], row["learning_rate"], row["batch_size"]) if whole_run else ()))

    found = {rule: {network(row): row.get("test_error", NOTHING) for row in rows if row["rule"] == rule}
             for rule in (FULL, FROZEN)}

    def full(row: Row) -> float:
        return (full_at or {}).get((row["base"], row.get("since", -1)), found[FULL].get(network(row), NOTHING))

    return [row | {"drop": row.get("test_error", NOTHING) - full(row),
                   "drop_frozen": row.get("test_error", NOTHING) - found[FROZEN].get(network(row), NOTHING)}
            for row in rows]
