"""The tables of a compression, gathered from the run folders of its branches and written anew after each."""

import json
import pathlib
from typing import Any

import numpy as np

from margin_jax import records, tables
from margin_jax.results import RunFolder
from margin_jax.runs import cells
from margin_jax.runs.base import Base
from margin_jax.runs.branches import AFTER, BASE, FULL, Branch
from margin_jax.runs.recorder import init_std

Row = dict[str, Any]


def mask_at(path: pathlib.Path, kept: int) -> np.ndarray:
    """The mask (N,) of a branch when `kept` examples were left, however many it removed later.

    Raises:
      ValueError: there never were so many.
    """
    stored = records.read_mask(path)
    removed = np.where(stored["mask"], np.iinfo(np.int32).max, stored["removed_epoch"])
    if kept == removed.size:
        return np.ones(kept, bool)
    for epoch in np.unique(removed):
        mask = removed > epoch
        if mask.sum() == kept:
            return mask
    raise ValueError(f"expected a count of examples that {path} had at some time, got {kept}")


def has_count(path: pathlib.Path, kept: int) -> bool:
    """Whether a branch had `kept` examples left at some time."""
    return kept in records.read_metrics(path)["kept"]


def curve_rows(config: Any, path: pathlib.Path, seed: int, rule: str, scope: str) -> list[Row]:
    """The rows of curves.csv of one run folder: a row per recorded epoch."""
    metrics = records.read_metrics(path)
    fixed = {"optimizer": config.optimizer.name, "init_std": init_std(config), "seed": seed, "rule": rule,
             "scope": scope}
    columns = ("kept", "epoch", "train_loss", "train_error", "test_loss", "test_error")
    return [fixed | {name: metrics[name][row].item() for name in columns} for row in range(metrics["epoch"].size)]


def kept_ids(path: pathlib.Path, kept: int) -> list[int]:
    """Ids of the examples kept when `kept` were left, by ascending margin at that time."""
    mask, stored = mask_at(path, kept), records.read_margins(path)
    removed = records.read_mask(path)["removed_epoch"]
    left_at = removed[~mask].max(initial=-1)  # the removal that left these
    row = max(int(np.searchsorted(stored.epochs, left_at, side="right")) - 1, 0)
    rows = np.flatnonzero(mask)
    order = np.argsort(stored.margins[row][rows], kind="stable")
    return stored.ids[rows[order]].tolist()


class IdsTable:
    """kept_ids.json: which examples each compression kept."""

    def __init__(self, folder: RunFolder) -> None:
        """Takes over what an interrupted job wrote."""
        self._folder = folder
        path = folder.path / tables.KEPT_IDS
        self._rows: list[Row] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []

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
        self._ids = IdsTable(folder)
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
        seed, metrics = base.start.seed, records.read_metrics(path)
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
        self._cells.append(cells.branch_row(config, base, summary, start, branch.rule_name, branch.scope))
        counts = sorted({200, 100, 20, *self._counts}, reverse=True) if continuous else (branch.kept,)
        if branch.scope == AFTER and branch.rule != FULL:
            self._ids.add([fixed | {"kept": kept, "ids": kept_ids(path, kept)} for kept in counts
                           if kept in metrics["kept"]])
        self._write()

    def _write(self) -> None:
        self._folder.write_table("cells.csv", cells.with_drops(self._cells, full_at=self._full))
        self._folder.write_table("curves.csv", self._curves)
        if self._removals:
            self._folder.write_table("removals.csv", self._removals)

    def summary(self) -> Row:
        """What summary.json holds of a compression."""
        failed = [row for row in self._cells if row["status"] != "finished"]
        return {"status": "finished", "bases": self._bases, "cells": len(self._cells), "failed": len(failed),
                "unseparated_steps": sum(not row["separated"] for row in self._removals)}
