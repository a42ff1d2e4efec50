"""The grid of table 1: learning rate, batch size, optimiser and seed, restartable group by group.

A group has one optimiser and batch size, so that its learning rates and seeds are data of one program.

What the two scopes of a grid share: networks at their removal, and the rows of cells.csv so far.

Scope "whole_run" of a grid: every cell's settings hold from the first epoch on, so every cell has its own network.

The learning rates and seeds of one optimiser and batch size are trained together.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from margin_jax.experiments import compress_tables, schedule
from margin_jax.experiments.branches import (
    Base,
    Branch,
    Start,
    bases_folder,
    ensure_base,
    rules,
    run_branch,
    starts,
    state_after,
)
from margin_jax.experiments.compress_tables import IdsTable
from margin_jax.experiments.job import Snapshot
from margin_jax.experiments.many_networks import Group, GroupState, Jobs, ManyRun, course
from margin_jax.experiments.recording import init_std
from margin_jax.experiments.removal import kept_after, rule_scores
from margin_jax.run_folder import read, tables
from margin_jax.run_folder.checkpoint import Checkpoints
from margin_jax.run_folder.tables import AFTER, FROZEN, FULL, SCRATCH, WHOLE_RUN, Row
from margin_jax.run_folder.write import RunFolder
from margin_jax.training.state import parameter_distance


class GridNetwork(NamedTuple):
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
        self.rows = compress_tables.with_drops(self.rows + rows, self._whole_run)
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
    return [compress_tables.failed_row(own, base, name, section.keep, where) for name in names for where in scopes]


def group_rows(own: Any, group: Group, rule: str, scope: str, networks: list[GridNetwork], kept: np.ndarray,
               first: np.ndarray, begun: GroupState, ended: GroupState) -> list[Row]:
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
        done.append(compress_tables.settings(own) | {"learning_rate": network.learning_rate} | {
            "base": network.base.start.name,
            "rule": rule, "seed": network.base.start.seed, "kept": kept.shape[1], "scope": scope,
            "test_error": errors["test"] if good else compress_tables.NOTHING,
            "moved": compress_tables.NOTHING if not good or scope == SCRATCH else _moved(begun, ended, k),
            "updates": int(steps[k]), "epochs": int(ended.epochs[k]),
            "status": "finished" if good else "diverged", "loss_start": float(first[k]),
            "loss_end": float(train.losses[k].mean()) if good else compress_tables.NOTHING,
            "train_error": errors["train"] if good else compress_tables.NOTHING,
            "reason": "" if good else f"the loss was not finite in epoch {int(ended.bad_epoch[k])} after the "
                                      f"{'start' if scope == SCRATCH else 'removal'}, step "
                                      f"{int(ended.bad_step[k]) + 1}"})
    return done


def _moved(begun: GroupState, ended: GroupState, k: int) -> float:
    now, then = (jax.tree.map(lambda leaf: leaf[k], course.states.params) for course in (ended, begun))
    return parameter_distance(now, then)


def trained_groups(config: Any, jobs: Jobs, folder: RunFolder,
                   rows: Rows) -> Iterator[tuple[str, int, list[GridNetwork]]]:
    """Trains the groups one by one; yields optimiser, batch size and the networks that got to the removal."""
    section, split = config.compress, jobs.dataset.train
    pairs = [(seed, rate) for seed in tuple(section.seeds) or (config.seed,) for rate in section.grid_learning_rates]
    for optimizer in section.grid_optimizers:
        for batch_size in section.grid_batch_sizes:
            own = setting(config, optimizer, batch_size, config.optimizer.learning_rate)
            group = jobs.group(own, "tracked")
            fresh = course([group.fresh(split.images.shape[1:], seed, rate) for seed, rate in pairs])
            with Checkpoints(folder.path / "groups" / f"{optimizer}_{batch_size}") as checkpoints:
                training = ManyRun(own, group, checkpoints, fresh, split.labels.size, follow=True)
                training.run()
            networks = _networks(config, own, group, training, pairs)
            _control_rows(config, group, networks, rows)
            good = [network for network in networks if not network.base.failed]
            if good:
                yield optimizer, batch_size, good


def _networks(config: Any, own: Any, group: Group, training: ManyRun,
              pairs: list[tuple[int, float]]) -> list[GridNetwork]:
    """The networks of a group at their removal, failed ones too."""
    ended, count = training.course, len(pairs)
    train, test = group.measure(ended.states, count), group.measure(ended.states, count, test=True)
    found = []
    for k, (seed, rate) in enumerate(pairs):
        alone = setting(config, own.optimizer.name, own.batch_size, rate)
        alone.seed = seed
        state = jax.tree.map(lambda leaf, k=k: leaf[k], ended.states)._replace(epoch=ended.epochs[k])
        snapshot = Snapshot(state, training.progress[k], jax.tree.map(lambda leaf, k=k: np.asarray(leaf[k]),
                                                                      training.dynamics))
        row = {"epoch": int(ended.epochs[k]), "kept": train.margins.shape[1],
               "train_loss": float(train.losses[k].mean()),
               "train_error": 100 * float(np.mean(~(train.margins[k] > 0))),
               "test_error": 100 * float(np.mean(~(test.margins[k] > 0)))}
        failed = schedule.moment_missed(alone, training.progress[k])
        status = schedule.missed_status(alone) if failed else "finished"
        if not ended.healthy[k]:
            failed, status = (f"before the removal, the loss was not finite in epoch {int(ended.bad_epoch[k])}, "
                              f"step {int(ended.bad_step[k]) + 1}"), "diverged"
        base = Base(Start(seed, 0.0, ""), alone, None, snapshot, row, failed, status)
        found.append(GridNetwork(base, rate, train.margins[k]))
    return found


def _control_rows(config: Any, group: Group, networks: list[GridNetwork], rows: Rows) -> None:
    """Failed cells, the network at the removal, and full data for as many epochs as the compressed runs go on."""
    section = config.compress

    def known(network: GridNetwork, **more: str) -> bool:
        base = network.base
        return rows.has(scope=WHOLE_RUN, seed=base.start.seed, **compress_tables.settings(base.config), **more)

    missing = [n for n in networks if not (known(n) if n.base.failed else known(n, rule=FROZEN))]
    rows.add([row for n in missing if n.base.failed for row in failed_rows(config, n.base.config, n.base, WHOLE_RUN)])
    if FROZEN in section.controls:
        rows.add([compress_tables.frozen_row(n.base, WHOLE_RUN) for n in missing if not n.base.failed])
    good = [n for n in networks if not n.base.failed]
    if FULL not in section.controls or not good or all(known(network, rule=FULL) for network in good):
        return
    begun = course([n.base.snapshot.state for n in good])
    masks = np.ones((len(good), good[0].margins.size), bool)
    ended = group.epochs(begun, masks, good[0].base.config.batch_size, np.full(len(good), section.epochs))
    kept = np.tile(np.arange(good[0].margins.size), (len(good), 1))
    first = np.array([n.base.row["train_loss"] for n in good])
    rows.add(group_rows(good[0].base.config, group, FULL, WHOLE_RUN, good, kept, first, begun, ended))


def run_grid(config: Any, jobs: Jobs, folder: RunFolder) -> Row:
    """Every cell of the grid with its controls; returns what summary.json holds."""
    whole = config.compress.grid_scope == WHOLE_RUN
    rows, ids = Rows(folder, whole), IdsTable(folder)
    groups = trained_groups(config, jobs, folder, rows) if whole else _after_groups(config, jobs, folder, rows)
    for optimizer, batch_size, networks in groups:
        own = setting(config, optimizer, batch_size, config.optimizer.learning_rate)
        for rule, balanced in rules(config):
            branch = Branch(rule, balanced, config.compress.keep, WHOLE_RUN if whole else AFTER)
            _run_rule(config, own, jobs, branch, networks, rows, ids)
    failed = [row for row in rows.rows if row["status"] != "finished"]
    return {"status": "finished", "cells": len(rows.rows), "failed": len(failed)}


def _after_groups(config: Any, jobs: Jobs, folder: RunFolder,
                  rows: Rows) -> Iterator[tuple[str, int, list[GridNetwork]]]:
    """Scope "after": every group starts from the same networks, one per seed, with every learning rate."""
    section, bases = config.compress, []
    for start in starts(config):
        base = ensure_base(config, start, bases_folder(config, folder.path), jobs)
        if base.failed:
            rows.add([] if rows.has(base=start.name) else [
                row for optimizer in section.grid_optimizers for batch_size in section.grid_batch_sizes
                for rate in section.grid_learning_rates
                for row in failed_rows(config, setting(config, optimizer, batch_size, rate), base, AFTER)])
            continue
        bases.append(base)
        if not rows.has(rule=FROZEN, seed=start.seed) and FROZEN in section.controls:
            rows.add([compress_tables.frozen_row(base)])
        if not rows.has(rule=FULL, seed=start.seed) and FULL in section.controls:
            everything = Branch(FULL, False, jobs.dataset.train.labels.size, AFTER)
            own, path, summary = run_branch(config, jobs, base, everything, folder.path / start.name, section.epochs)
            first = {name: column[0].item() for name, column in read.read_metrics(path).items()}
            rows.add([compress_tables.branch_row(own, base, summary, first, FULL, AFTER)])
    networks = [GridNetwork(base, rate, np.asarray(read.read_margins(base.path).margins[-1]))
                for base in bases for rate in section.grid_learning_rates]
    for optimizer in section.grid_optimizers if networks else ():
        for batch_size in section.grid_batch_sizes:
            yield optimizer, batch_size, networks


def _run_rule(config: Any, own: Any, jobs: Jobs, branch: Branch, networks: list[GridNetwork], rows: Rows,
              ids: IdsTable) -> None:
    """One rule in one group: from the networks at the removal on, and with fresh ones on the same examples."""
    scopes = [branch.scope] + [SCRATCH] * (SCRATCH in config.compress.controls)
    fixed = {"optimizer": own.optimizer.name, "batch_size": own.batch_size, "rule": branch.rule_name}
    todo = [scope for scope in scopes if not all(
        rows.has(**fixed, scope=scope, seed=n.base.start.seed, learning_rate=n.learning_rate) for n in networks)]
    if not todo:
        return
    masks = _masks(config, own, jobs, branch, networks)
    for network, mask in zip(networks, masks, strict=True):
        ids.add([_ids_row(config, own, branch, network, jobs.dataset.train.ids, mask)])
    for scope in todo:
        # A fresh network has no running statistics worth keeping.
        group = jobs.group(own, "tracked" if scope == SCRATCH else config.compress.batch_norm)
        job = jobs.get(own)
        states, epochs = [], []
        for network in networks:
            rate, seed = network.learning_rate, network.base.start.seed
            states.append(group.fresh(jobs.dataset.train.images.shape[1:], seed, rate) if scope == SCRATCH else
                          state_after(network.base, job, setting(config, own.optimizer.name, own.batch_size, rate)))
            epochs.append(config.compress.epochs + (network.base.row["epoch"] if scope == SCRATCH else 0))
        kept = np.stack([np.flatnonzero(mask) for mask in masks])
        begun = course(states)
        first = group.measure(begun.states, len(networks), kept).losses.mean(axis=1)
        ended = group.epochs(begun, masks, own.batch_size, np.array(epochs))
        rows.add(group_rows(own, group, branch.rule_name, scope, networks, kept, first, begun, ended))


def _ids_row(config: Any, own: Any, branch: Branch, network: GridNetwork, ids: np.ndarray, mask: np.ndarray) -> Row:
    """What a network kept, by ascending margin; within scope "after" the same for all settings, which are left out."""
    order = np.argsort(network.margins[mask], kind="stable")
    whole = {"learning_rate": network.learning_rate, "batch_size": own.batch_size} if branch.scope == WHOLE_RUN else {}
    return {"optimizer": network.base.config.optimizer.name, "init_std": init_std(config),
            "seed": network.base.start.seed, "rule": branch.rule_name, "scope": branch.scope, "kept": branch.kept,
            "ids": ids[mask][order].tolist()} | whole


def _masks(config: Any, own: Any, jobs: Jobs, branch: Branch, networks: list[GridNetwork]) -> np.ndarray:
    """(K, N) boolean: what the rule keeps of every network."""
    section = config.copy_and_resolve_references()
    section.compress.rule, section.compress.balanced = branch.rule, branch.balanced
    split, job, found = jobs.dataset.train, jobs.get(own), []
    for network in networks:
        snapshot = network.base.snapshot
        scores = None if branch.rule == "ids" else rule_scores(
            branch.rule, network.base.start.seed, job, snapshot.state, network.margins, snapshot.dynamics)
        found.append(kept_after(section, branch.kept, scores, split.labels, split.ids, snapshot.progress.mask))
    return np.stack(found)
