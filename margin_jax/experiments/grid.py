"""The grid of table 1: learning rate, batch size, optimiser and seed, restartable group by group.

A group has one optimiser and batch size, so that its learning rates and seeds are data of one program. In scope "after"
a cell's settings hold after the removal, and all cells of a seed start from one network; in scope "whole_run" they hold
from the first epoch on, and every cell has a network of its own, trained with those of its group; from the removal on
`compress` may have others. A group has checkpoints before the removal, and after it until its rows stand in cells.csv.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from margin_jax.data.dataset import Split
from margin_jax.experiments import compress_tables, schedule
from margin_jax.experiments.branches import (
    Base,
    Branch,
    Start,
    bases_folder,
    ensure_base,
    epochs_after,
    rules,
    run_branch,
    starts,
    state_after,
    updates_of,
)
from margin_jax.experiments.compress_tables import IdsTable
from margin_jax.experiments.job import Job, Snapshot
from margin_jax.experiments.many_networks import (
    Group,
    GroupState,
    Jobs,
    ManyRun,
    Observers,
    TrainingSets,
    course,
    train_on,
)
from margin_jax.experiments.recording import Reporter, init_std
from margin_jax.experiments.removal import ScoredNetwork, kept_after, rule_scores
from margin_jax.experiments.scoring import Scores
from margin_jax.run_folder import read, tables
from margin_jax.run_folder.checkpoint import Checkpoints
from margin_jax.run_folder.tables import AFTER, FROZEN, FULL, FULL_UPDATES, SCRATCH, WHOLE_RUN, Row
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


class Continuation(NamedTuple):
    """K networks of a group trained on from their removal, or from the start on what was kept.

    Attributes:
      kept: (K, n) int, the rows that each kept.
      first: (K,) float, loss on these before.
      begun, ended: the group before and after.
    """

    kept: np.ndarray
    first: np.ndarray
    begun: GroupState
    ended: GroupState


class Rows:
    """The rows of cells.csv so far, written anew after each group."""

    def __init__(self, folder: RunFolder, whole_run: bool) -> None:
        """Takes over the rows of an interrupted job."""
        self.folder, self._whole_run = folder, whole_run
        self.rows = tables.rows_of(tables.read_table(folder.path, "cells.csv", required=False))

    def has(self, **wanted: Any) -> bool:
        """Whether a row with these values is there."""
        return any(all(row[name] == value for name, value in wanted.items()) for row in self.rows)

    def add(self, rows: list[Row]) -> None:
        """Adds rows, with their drops against the controls that are there."""
        self.rows = compress_tables.with_drops(self.rows + rows, self._whole_run)
        self.folder.write_table("cells.csv", self.rows)


def setting(config: Any, optimizer: str, batch_size: int, learning_rate: float) -> Any:
    """The config of one cell."""
    cell = config.copy_and_resolve_references()
    cell.optimizer.name, cell.optimizer.learning_rate, cell.batch_size = optimizer, learning_rate, batch_size
    return cell


def setting_after(cell: Any, learning_rate: float) -> Any:
    """The config of one cell from its removal on; `learning_rate` is the cell's own."""
    section = cell.compress
    return setting(cell, section.optimizer or cell.optimizer.name,
                   cell.batch_size if section.batch_size < 0 else section.batch_size,
                   section.learning_rate or learning_rate)


def failed_rows(section: Any, cell: Any, base: Base, scope: str) -> list[Row]:
    """Every rule of a cell whose network did not get to the removal, in both scopes.

    Args:
      section: `compress` of the compression's config.
      cell: the config of the cell.
      base: the network.
      scope: "after" or "whole_run".
    """
    names = [Branch(*rule, section.keep, scope).rule_name for rule in rules(section)]
    scopes = [scope] + [SCRATCH] * (SCRATCH in section.controls)
    return [compress_tables.failed_row(cell, base, name, section.keep, place) for name in names for place in scopes]


def group_rows(cell: Any, group: Group, branch: Branch, networks: list[GridNetwork],
               trained: Continuation) -> list[Row]:
    """The rows of a group that has ended.

    Args:
      cell: the config of its cells; the learning rate is each network's own.
      group: its compiled functions.
      branch: its rule and scope.
      networks: K of them.
      trained: what became of them.
    """
    (kept, first, begun, ended), scope, count = trained, branch.scope, len(networks)
    train, test = (group.measure(ended.states, count, rows=kept), group.measure(ended.states, count, test=True))
    steps = ended.states.opt_state.count - begun.states.opt_state.count
    done = []
    for k, network in enumerate(networks):
        good = bool(ended.healthy[k])
        errors = {name: 100 * float(np.mean(~(values.margins[k] > 0))) for name, values in
                  (("train", train), ("test", test))}
        done.append(compress_tables.settings(cell) | {"learning_rate": network.learning_rate} | {
            "base": network.base.start.name,
            "rule": branch.rule_name, "seed": network.base.start.seed, "kept": kept.shape[1], "scope": scope,
            "test_error": errors["test"] if good else compress_tables.NOTHING,
            "moved": compress_tables.NOTHING if not good or scope == SCRATCH else _moved(begun, ended, k),
            "updates": int(steps[k]), "epochs": int(ended.epochs[k]),
            "status": "finished" if good else "diverged", "loss_start": float(first[k]),
            "loss_end": float(train.losses[k].mean()) if good else compress_tables.NOTHING,
            "train_error": errors["train"] if good else compress_tables.NOTHING,
            "reason": "" if good else schedule.divergence(
                int(ended.bad_epoch[k]), int(ended.bad_step[k]) + 1,
                "after the start" if scope == SCRATCH else "after the removal")})
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
            cell = setting(config, optimizer, batch_size, config.optimizer.learning_rate)
            group = jobs.group(cell, "tracked")
            everything = TrainingSets(np.ones((len(pairs), split.labels.size), bool))
            fresh = course([group.fresh(split.images.shape[1:], seed, rate) for seed, rate in pairs])
            with Checkpoints(folder.path / "groups" / f"{optimizer}_{batch_size}") as checkpoints:
                training = ManyRun(cell, group, checkpoints, fresh, everything, Observers(dynamics=True))
                training.run()
            networks = _networks(cell, group, training, pairs)
            _control_rows(section, group, networks, rows)
            good = [network for network in networks if not network.base.failed]
            if good:
                yield optimizer, batch_size, good


def _networks(cell: Any, group: Group, training: ManyRun, pairs: list[tuple[int, float]]) -> list[GridNetwork]:
    """The networks of a group at their removal, failed ones too."""
    ended, count = training.course, len(pairs)
    train, test = group.measure(ended.states, count), group.measure(ended.states, count, test=True)
    networks = []
    for k, (seed, rate) in enumerate(pairs):
        alone = setting(cell, cell.optimizer.name, cell.batch_size, rate)
        alone.seed = seed
        state = jax.tree.map(lambda leaf, k=k: leaf[k], ended.states)._replace(epoch=ended.epochs[k])
        snapshot = Snapshot(state, training.progress[k], jax.tree.map(lambda leaf, k=k: np.asarray(leaf[k]),
                                                                      training.dynamics))
        row = {"epoch": int(ended.epochs[k]), "kept": train.margins.shape[1],
               "train_loss": float(train.losses[k].mean()),
               "train_error": 100 * float(np.mean(~(train.margins[k] > 0))),
               "test_error": 100 * float(np.mean(~(test.margins[k] > 0)))}
        failed = schedule.moment_missed(alone, training.progress[k])
        status = schedule.missed_status(alone.stop) if failed else "finished"
        if not ended.healthy[k]:
            reason = schedule.divergence(int(ended.bad_epoch[k]), int(ended.bad_step[k]) + 1)
            failed, status = f"before the removal, {reason}", "diverged"
        base = Base(Start(seed, 0.0, ""), alone, None, snapshot, row, failed, status)
        networks.append(GridNetwork(base, rate, train.margins[k]))
    return networks


GoOn = Callable[[Group, GroupState, TrainingSets, np.ndarray], GroupState]  # of `train_on`: group, begun, sets, most


@contextlib.contextmanager
def _continuing(folder: RunFolder, later: Any, name: dict[str, Any]) -> Iterator[GoOn]:
    """Gives what trains one rule of a group, in a context whose end, after the rows are written, drops its checkpoints.

    Args:
      folder: of the grid.
      later: the config of the group's cells while they are trained here.
      name: what tells it from others: the cells' optimiser and batch size, the rule and the scope.
    """
    path = folder.path / "groups" / "_".join(map(str, name.values()))

    def go_on(group: Group, begun: GroupState, sets: TrainingSets, most: np.ndarray) -> GroupState:
        with Checkpoints(path) as checkpoints, Reporter(int(most.max()), 0, later.log_every_seconds) as reporter:
            return train_on(later, group, checkpoints, begun, sets, most,
                            lambda now: reporter.show(int(now.epochs.max()), name))

    yield go_on
    shutil.rmtree(path)


def _drop_leftovers(folder: RunFolder) -> None:
    """Drops what `_continuing` would have, had its process not died between writing rows and dropping checkpoints."""
    for scope in (AFTER, WHOLE_RUN, SCRATCH):
        for path in (folder.path / "groups").glob(f"*_{scope}"):
            shutil.rmtree(path)


def _control_rows(section: Any, group: Group, networks: list[GridNetwork], rows: Rows) -> None:
    """Failed cells, the network at the removal, and full data for as many epochs as the compressed runs go on."""

    def known(network: GridNetwork, **more: str) -> bool:
        base = network.base
        return rows.has(scope=WHOLE_RUN, seed=base.start.seed, **compress_tables.settings(base.config), **more)

    missing = [n for n in networks if not (known(n) if n.base.failed else known(n, rule=FROZEN))]
    rows.add([row for n in missing if n.base.failed for row in failed_rows(section, n.base.config, n.base, WHOLE_RUN)])
    if FROZEN in section.controls:
        rows.add([compress_tables.frozen_row(n.base, WHOLE_RUN) for n in missing if not n.base.failed])
    good = [n for n in networks if not n.base.failed]
    if FULL not in section.controls or not good or all(known(network, rule=FULL) for network in good):
        return
    begun, cell, size = course([n.base.snapshot.state for n in good]), good[0].base.config, good[0].margins.size
    everything = TrainingSets(np.ones((len(good), size), bool))
    first, branch = np.array([n.base.row["train_loss"] for n in good]), Branch(FULL, False, size, WHOLE_RUN)
    fixed = {"optimizer": cell.optimizer.name, "batch_size": cell.batch_size, "rule": FULL, "scope": WHOLE_RUN}
    with _continuing(rows.folder, cell, fixed) as go_on:
        ended = go_on(group, begun, everything, np.full(len(good), section.epochs))
        trained = Continuation(np.tile(np.arange(size), (len(good), 1)), first, begun, ended)
        rows.add(group_rows(cell, group, branch, good, trained))


def run_grid(config: Any, jobs: Jobs, folder: RunFolder, scores: Scores) -> Row:
    """Every cell of the grid with its controls; returns what summary.json holds."""
    whole = config.compress.grid_scope == WHOLE_RUN
    rows, ids = Rows(folder, whole), IdsTable(folder)
    groups = trained_groups(config, jobs, folder, rows) if whole else _after_groups(config, jobs, folder, rows)
    for optimizer, batch_size, networks in groups:
        cell = setting(config, optimizer, batch_size, config.optimizer.learning_rate)
        for rule, balanced in rules(config.compress):
            branch = Branch(rule, balanced, config.compress.keep, WHOLE_RUN if whole else AFTER)
            _run_rule(cell, jobs, branch, networks, rows, ids, scores)
        if FULL_UPDATES in config.compress.controls:
            _full_for_updates(cell, jobs, WHOLE_RUN if whole else AFTER, networks, rows)
    _drop_leftovers(folder)
    failed = [row for row in rows.rows if row["status"] != "finished"]
    return {"status": "finished", "cells": len(rows.rows), "failed": len(failed)}


def _after_groups(config: Any, jobs: Jobs, folder: RunFolder,
                  rows: Rows) -> Iterator[tuple[str, int, list[GridNetwork]]]:
    """Scope "after": every group starts from the same networks, one per seed, with every learning rate."""
    section, bases = config.compress, []
    for start in starts(section, config.seed):
        base = ensure_base(config, start, bases_folder(section, folder.path), jobs)
        if base.failed:
            rows.add([] if rows.has(base=start.name) else [
                row for optimizer in section.grid_optimizers for batch_size in section.grid_batch_sizes
                for rate in section.grid_learning_rates
                for row in failed_rows(section, setting(config, optimizer, batch_size, rate), base, AFTER)])
            continue
        bases.append(base)
        if not rows.has(rule=FROZEN, seed=start.seed) and FROZEN in section.controls:
            rows.add([compress_tables.frozen_row(base)])
        if not rows.has(rule=FULL, seed=start.seed) and FULL in section.controls:
            everything = Branch(FULL, False, jobs.dataset.train.labels.size, AFTER)
            run, path, summary = run_branch(config, jobs, base, everything, folder.path / start.name, section.epochs)
            first = {name: column[0].item() for name, column in read.read_metrics(path).items()}
            rows.add([compress_tables.branch_row(run, base, summary, first, FULL, AFTER)])
    networks = [GridNetwork(base, rate, np.asarray(read.read_margins(base.path).margins[-1]))
                for base in bases for rate in section.grid_learning_rates]
    for optimizer in section.grid_optimizers if networks else ():
        for batch_size in section.grid_batch_sizes:
            yield optimizer, batch_size, networks


def _run_rule(cell: Any, jobs: Jobs, branch: Branch, networks: list[GridNetwork], rows: Rows, ids: IdsTable,
              scores: Scores) -> None:
    """One rule in one group: from the networks at the removal on, and with fresh ones on the same examples."""
    section = cell.compress
    scopes = [branch.scope] + [SCRATCH] * (SCRATCH in section.controls)
    fixed = {"optimizer": cell.optimizer.name, "batch_size": cell.batch_size, "rule": branch.rule_name}
    todo = [scope for scope in scopes if not all(
        rows.has(**fixed, scope=scope, seed=n.base.start.seed, learning_rate=n.learning_rate) for n in networks)]
    if not todo:
        return
    masks = _masks(section, jobs.get(cell), jobs.dataset.train, branch, networks, scores)
    kept = np.stack([np.flatnonzero(mask) for mask in masks])
    for network, mask in zip(networks, masks, strict=True):
        ids.add([_ids_row(cell, branch, network, jobs.dataset.train.ids, mask)])
    for scope in todo:
        later = cell if scope == SCRATCH else setting_after(cell, cell.optimizer.learning_rate)
        # A fresh network has no running statistics worth keeping.
        group = jobs.group(later, "tracked" if scope == SCRATCH else section.batch_norm)
        epochs = np.full(len(networks), epochs_after(section, branch.kept, later.batch_size))
        if scope == SCRATCH:
            epochs += [network.base.row["epoch"] for network in networks]
            begun = course([group.fresh(jobs.dataset.train.images.shape[1:], n.base.start.seed, n.learning_rate)
                            for n in networks])
        else:
            begun = _from_removal(cell, jobs, networks)
        scoped = branch._replace(scope=scope)
        first = group.measure(begun.states, len(networks), kept).losses.mean(axis=1)
        with _continuing(rows.folder, later, fixed | {"scope": scope}) as go_on:
            ended = go_on(group, begun, TrainingSets(masks), epochs)
            rows.add(group_rows(cell, group, scoped, networks, Continuation(kept, first, begun, ended)))


def _from_removal(cell: Any, jobs: Jobs, networks: list[GridNetwork]) -> GroupState:
    """The networks of a group of cells at their removal, with the optimiser that they have from there on."""
    job = jobs.get(setting_after(cell, cell.optimizer.learning_rate))
    return course([state_after(n.base, job, setting_after(cell, n.learning_rate).optimizer) for n in networks])


def _full_for_updates(cell: Any, jobs: Jobs, scope: str, networks: list[GridNetwork], rows: Rows) -> None:
    """Full data at the settings of a group's cells, for as many updates as a rule's examples have there.

    So many updates are whole passes over all examples, and a last one over some drawn at random, none twice.
    """
    section, size = cell.compress, jobs.dataset.train.labels.size
    fixed = {"optimizer": cell.optimizer.name, "batch_size": cell.batch_size, "rule": FULL_UPDATES, "scope": scope}
    if all(rows.has(**fixed, seed=n.base.start.seed, learning_rate=n.learning_rate) for n in networks):
        return
    later = setting_after(cell, cell.optimizer.learning_rate)
    updates = epochs_after(section, section.keep, later.batch_size) * updates_of(section.keep, later.batch_size)
    passes, rest = divmod(updates, updates_of(size, later.batch_size))
    group, begun = jobs.group(later, section.batch_norm), _from_removal(cell, jobs, networks)
    sets = [(np.ones((len(networks), size), bool), passes)]
    if rest:
        drawn = Branch("random", False, rest * later.batch_size, scope)
        sets.append((_masks(section, jobs.get(cell), jobs.dataset.train, drawn, networks), passes + 1))
    everything = np.tile(np.arange(size), (len(networks), 1))
    first = group.measure(begun.states, len(networks)).losses.mean(axis=1)
    with _continuing(rows.folder, later, fixed) as go_on:
        ended = begun
        for masks, epochs in sets:
            ended = go_on(group, ended, TrainingSets(masks), np.full(len(networks), epochs))
        rows.add(group_rows(cell, group, Branch(FULL_UPDATES, False, size, scope), networks,
                            Continuation(everything, first, begun, ended)))


def _ids_row(cell: Any, branch: Branch, network: GridNetwork, ids: np.ndarray, mask: np.ndarray) -> Row:
    """What a network kept, by ascending margin; within scope "after" the same for all settings, which are left out."""
    order = np.argsort(network.margins[mask], kind="stable")
    whole = {"learning_rate": network.learning_rate, "batch_size": cell.batch_size} if branch.scope == WHOLE_RUN else {}
    return {"optimizer": network.base.config.optimizer.name, "init_std": init_std(cell),
            "seed": network.base.start.seed, "rule": branch.rule_name, "scope": branch.scope, "kept": branch.kept,
            "ids": ids[mask][order].tolist()} | whole


def _masks(section: Any, job: Job, split: Split, branch: Branch, networks: list[GridNetwork],
           given: Scores | None = None) -> np.ndarray:
    """(K, N) boolean: what the rule keeps of every network; `given` are scores of other networks."""
    section = section.copy_and_resolve_references()
    section.rule, section.balanced = branch.rule, branch.balanced
    masks = []
    for network in networks:
        seed, (state, progress, seen) = network.base.start.seed, network.base.snapshot
        scores = (given or {}).get((branch.rule, branch.balanced))
        if scores is None and branch.rule != "ids":
            scores = rule_scores(section, seed, branch.kept, progress.mask,
                                 ScoredNetwork(job, state.params, state.batch_stats, network.margins, seen))
        masks.append(kept_after(section, seed, branch.kept, scores, split, progress.mask))
    return np.stack(masks)
