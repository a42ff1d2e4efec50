"""The tables of a compression: what each branch came to, and how it compares with its controls.

Rows are made of the run folders of the branches; tables are written anew after each.
"""

import json
import math
import pathlib
from typing import Any

from margin_jax.experiments.branches import Base, Branch, kept_ids
from margin_jax.experiments.recording import init_std
from margin_jax.experiments.schedule import divergence
from margin_jax.run_folder import checksums, read, tables
from margin_jax.run_folder.tables import AFTER, BASE, FROZEN, FULL, SCRATCH, Row
from margin_jax.run_folder.write import RunFolder

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
        "reason": "" if good else divergence(diverged["epoch"], diverged["step"])}


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

    controls = {rule: {network(row): row.get("test_error", NOTHING) for row in rows if row["rule"] == rule}
                for rule in (FULL, FROZEN)}

    def full(row: Row) -> float:
        return (full_at or {}).get((row["base"], row.get("since", -1)), controls[FULL].get(network(row), NOTHING))

    return [row | {"drop": row.get("test_error", NOTHING) - full(row),
                   "drop_frozen": row.get("test_error", NOTHING) - controls[FROZEN].get(network(row), NOTHING)}
            for row in rows]


def curve_rows(config: Any, path: pathlib.Path, seed: int, rule: str, scope: str) -> list[Row]:
    """The rows of curves.csv of one run folder: a row per recorded epoch."""
    metrics = read.read_metrics(path)
    fixed = {"optimizer": config.optimizer.name, "init_std": init_std(config), "seed": seed, "rule": rule,
             "scope": scope}
    columns = ("kept", "epoch", "train_loss", "train_error", "test_loss", "test_error")
    return [fixed | {name: metrics[name][row].item() for name in columns} for row in range(metrics["epoch"].size)]


class IdsTable:
    """kept_ids.json: which examples each compression kept."""

    def __init__(self, folder: RunFolder, anew: bool = False) -> None:
        """Takes over what an interrupted job wrote, unless all of it is made `anew`."""
        self._folder = folder
        self._rows: list[Row] = []
        path = folder.path / tables.KEPT_IDS
        if not anew:
            checksums.check_absent(path)
            self._rows = tables.read_kept_ids(folder.path) if path.is_file() else []

    def add(self, rows: list[Row]) -> None:
        """Adds rows that are not there yet and writes the file anew."""
        self._rows += [row for row in rows if row not in self._rows]
        self._folder.write_text(tables.KEPT_IDS, json.dumps(self._rows) + "\n")


class Gathered:
    """The tables of a work folder so far."""

    def __init__(self, folder: RunFolder, counts: tuple[int, ...]) -> None:
        """Nothing is gathered yet; tables of an interrupted job are made anew from the same run folders.

        Args:
          folder: the work folder.
          counts: of examples kept, whose ids a schedule tells beside 200, 100 and 20.
        """
        self._folder, self._counts = folder, counts
        self._full: dict[tuple[str, int], float] = {}  # test error on full data by base and epochs since the removal
        self._cells: list[Row] = []
        self._curves: list[Row] = []
        self._removals: list[Row] = []
        self._ids = IdsTable(folder, anew=True)
        self._bases: list[Row] = []

    def base(self, base: Base) -> None:
        """Adds the network before the removal."""
        self._curves += curve_rows(base.config, base.path, base.start.seed, BASE, BASE)
        self._bases.append({"name": base.start.name, "seed": base.start.seed, "status": base.status,
                            "reason": base.failed, "at_removal": base.row,
                            "separation_epoch": int(base.snapshot.progress.separation_epoch)})
        self._write()

    def cell(self, row: Row) -> None:
        """Adds a row of cells.csv."""
        self._cells.append(row)
        self._write()

    def branch(self, base: Base, branch: Branch, config: Any, path: pathlib.Path, summary: Row) -> None:
        """Adds a branch that is over: its cell, its curve, its removals and the ids it kept."""
        seed, metrics = base.start.seed, read.read_metrics(path)
        start = {name: column[0].item() for name, column in metrics.items()}
        fixed = {"optimizer": config.optimizer.name, "init_std": init_std(config), "seed": seed,
                 "rule": branch.rule_name, "scope": branch.scope}
        self._curves += curve_rows(config, path, seed, branch.rule_name, branch.scope)
        continuous = (path / "removals.csv").is_file()
        if continuous:
            self._removals += tables.rows_of(tables.read_table(path, "removals.csv"))
        if branch.rule == FULL:
            self._full |= {(base.start.name, int(epoch) - base.row["epoch"]): error.item() for epoch, error in
                           zip(metrics["epoch"], metrics["test_error"], strict=True)}
        self._cells.append(branch_row(config, base, summary, start, branch.rule_name, branch.scope))
        counts = sorted({200, 100, 20, *self._counts}, reverse=True) if continuous else (branch.kept,)
        if branch.scope == AFTER and branch.rule != FULL:
            self._ids.add([fixed | {"kept": kept, "ids": kept_ids(path, kept)} for kept in counts
                           if kept in metrics["kept"]])
        self._write()

    def _write(self) -> None:
        self._folder.write_table("cells.csv", with_drops(self._cells, full_at=self._full))
        self._folder.write_table("curves.csv", self._curves)
        if self._removals:
            self._folder.write_table("removals.csv", self._removals)

    def summary(self) -> Row:
        """What summary.json holds of a compression."""
        failed = [row for row in self._cells if row["status"] != "finished"]
        return {"status": "finished", "bases": self._bases, "cells": len(self._cells), "failed": len(failed),
                "unseparated_steps": sum(not row["separated"] for row in self._removals)}
