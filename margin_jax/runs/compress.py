"""Compression with its controls: train to the removal, then one branch per rule and count, and what they came to."""

import pathlib
from typing import Any

from absl import logging

from margin_jax import results, validation, workdir
from margin_jax.runs.base import Base, Jobs, bases_folder, ensure_base
from margin_jax.runs.branch_run import run_branch
from margin_jax.runs.branches import (
    AFTER,
    FROZEN,
    FULL,
    Branch,
    after_branches,
    branch_config,
    scratch_branches,
    starts,
)
from margin_jax.runs.cells import failed_row, frozen_row
from margin_jax.runs.curves import Gathered
from margin_jax.runs.grid import run_grid
from margin_jax.runs.job import describe, load_dataset
from margin_jax.runs.train import check_origin


def compress(config: Any, path: str | pathlib.Path) -> dict[str, Any]:
    """Runs a compression in one of its three modes, or continues an interrupted one.

    Args:
      config: a ConfigDict as in `margin_jax.config.default_config`; not changed.
      path: the work folder.

    Returns:
      What summary.json holds.

    Raises:
      InputError: bad config, data or work folder; nothing on disk has been touched.
    """
    validation.validate(config)
    validation.validate_compression(config)
    workdir.inspect(path, config)
    dataset = load_dataset(config)
    jobs = Jobs(dataset)
    description = describe(config, dataset, jobs.get(config)) | {"job": "compress"}
    with results.RunFolder(path) as folder:
        if workdir.inspect(path, config):
            check_origin(path, description)
        else:
            folder.start(description)
        run = run_grid if config.compress.mode == "grid" else run_branches
        summary = run(config, jobs, folder)
        folder.finish(summary)
        return summary


def run_branches(config: Any, jobs: Jobs, folder: results.RunFolder) -> dict[str, Any]:
    """The modes "immediate" and "continuous": every branch is a run folder; tables are made anew after each."""
    gathered = Gathered(folder)
    for start in starts(config):
        base = ensure_base(config, start, bases_folder(config, folder.path), jobs)
        gathered.base(base)
        if base.failed:
            logging.warning("%s: %s", base.path, base.failed)
            for branch in after_branches(config):
                gathered.cell(failed_row(branch_config(config, start, branch, 0), base, branch.rule_name, branch.kept,
                                         AFTER))
            continue
        if FROZEN in config.compress.controls:
            gathered.cell(frozen_row(base))
        _branches_of(config, jobs, base, folder.path / start.name, gathered)
    return gathered.summary()


def _branches_of(config: Any, jobs: Jobs, base: Base, home: pathlib.Path, gathered: Gathered) -> None:
    """The rules, and then the controls that need to know how long those took or what they kept."""

    def run(branch: Branch, epochs: int) -> int:
        own, path, summary = run_branch(config, jobs, base, branch, home, epochs)
        gathered.branch(base, branch, own, path, summary)
        return summary["epochs"] - base.row["epoch"]

    taken = [run(branch, config.compress.epochs) for branch in after_branches(config)]
    # A schedule takes as long as it takes: full data and fresh networks get the epochs of the rule in question.
    total = taken[0] if config.compress.mode == "continuous" else config.compress.epochs
    if FULL in config.compress.controls:
        run(Branch(FULL, False, jobs.dataset.train.labels.size, AFTER), total)
    for branch in scratch_branches(config):
        run(branch, base.row["epoch"] + total)
