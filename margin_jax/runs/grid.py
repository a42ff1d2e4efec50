"""The grid of table 1: learning rate, batch size, optimiser and seed, restartable group by group.

A group has one optimiser and batch size, so that its learning rates and seeds are data of one program.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from margin_jax import records
from margin_jax.results import RunFolder
from margin_jax.runs import cells
from margin_jax.runs.base import Jobs, bases_folder, ensure_base, state_after
from margin_jax.runs.branch_run import run_branch
from margin_jax.runs.branches import AFTER, FROZEN, FULL, SCRATCH, WHOLE_RUN, Branch, rules, starts
from margin_jax.runs.curves import IdsTable
from margin_jax.runs.grid_rows import Network, Row, Rows, failed_rows, group_rows, setting
from margin_jax.runs.group import course
from margin_jax.runs.recorder import init_std
from margin_jax.runs.removal import kept_after, rule_scores
from margin_jax.runs.whole_run import trained_groups


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
                  rows: Rows) -> Iterator[tuple[str, int, list[Network]]]:
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
            rows.add([cells.frozen_row(base)])
        if not rows.has(rule=FULL, seed=start.seed) and FULL in section.controls:
            everything = Branch(FULL, False, jobs.dataset.train.labels.size, AFTER)
            own, path, summary = run_branch(config, jobs, base, everything, folder.path / start.name, section.epochs)
            first = {name: column[0].item() for name, column in records.read_metrics(path).items()}
            rows.add([cells.branch_row(own, base, summary, first, FULL, AFTER)])
    networks = [Network(base, rate, np.asarray(records.read_margins(base.path).margins[-1]))
                for base in bases for rate in section.grid_learning_rates]
    for optimizer in section.grid_optimizers if networks else ():
        for batch_size in section.grid_batch_sizes:
            yield optimizer, batch_size, networks


def _run_rule(config: Any, own: Any, jobs: Jobs, branch: Branch, networks: list[Network], rows: Rows,
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


def _ids_row(config: Any, own: Any, branch: Branch, network: Network, ids: np.ndarray, mask: np.ndarray) -> Row:
    """What a network kept, by ascending margin; within scope "after" the same for all settings, which are left out."""
    order = np.argsort(network.margins[mask], kind="stable")
    whole = {"learning_rate": network.learning_rate, "batch_size": own.batch_size} if branch.scope == WHOLE_RUN else {}
    return {"optimizer": network.base.config.optimizer.name, "init_std": init_std(config),
            "seed": network.base.start.seed, "rule": branch.rule_name, "scope": branch.scope, "kept": branch.kept,
            "ids": ids[mask][order].tolist()} | whole


def _masks(config: Any, own: Any, jobs: Jobs, branch: Branch, networks: list[Network]) -> np.ndarray:
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
