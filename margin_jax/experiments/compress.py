"""Compression with its controls: train to the removal, then one branch per rule and count, and what they came to."""

import pathlib
from typing import Any

from absl import logging

from margin_jax.config import validate, validate_compression
from margin_jax.experiments.branches import (
    Base,
    Branch,
    after_branches,
    base_config,
    bases_folder,
    branch_config,
    branch_path,
    branch_source,
    ensure_base,
    has_count,
    kept_counts_of,
    run_branch,
    scratch_branches,
    starts,
)
from margin_jax.experiments.compress_tables import Gathered, failed_row, frozen_row
from margin_jax.experiments.grid import run_grid
from margin_jax.experiments.job import describe, load_dataset
from margin_jax.experiments.many_networks import Jobs
from margin_jax.run_folder import write
from margin_jax.run_folder.tables import AFTER, FROZEN, FULL, WHOLE_RUN
from margin_jax.run_folder.write import opened


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
    validate(config)
    validate_compression(config)
    write.inspect(path, config)
    dataset = load_dataset(config)
    if config.compress.grid_scope != WHOLE_RUN or config.compress.mode != "grid":
        for start in starts(config):  # another network there is noticed before any compute
            write.state_of(bases_folder(config, pathlib.Path(path)) / start.name, base_config(config, start))
    jobs = Jobs(dataset)
    description = describe(config, dataset, jobs.get(config)) | {"job": "compress"}
    with opened(path, config, description) as folder:
        run = run_grid if config.compress.mode == "grid" else run_branches
        summary = run(config, jobs, folder)
        folder.finish(summary)
        return summary


def run_branches(config: Any, jobs: Jobs, folder: write.RunFolder) -> dict[str, Any]:
    """The modes "immediate" and "continuous": every branch is a run folder; tables are made anew after each."""
    gathered = Gathered(folder, kept_counts_of(config))
    for start in starts(config):
        base = ensure_base(config, start, bases_folder(config, folder.path), jobs)
        gathered.base(base)
        if base.failed:
            logging.warning("%s: %s", base.path, base.failed)
            for branch in (*after_branches(config), *scratch_branches(config)):
                gathered.cell(_failed(config, base, branch))
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

    after = after_branches(config)
    taken = {branch.rule_name: run(branch, config.compress.epochs) for branch in after}
    if FULL in config.compress.controls:  # a schedule takes as long as it takes, each rule's its own
        run(Branch(FULL, False, jobs.dataset.train.labels.size, AFTER), max(taken.values()))
    for branch in scratch_branches(config):
        source = branch_path(base, branch_source(config, branch), home, 0)
        if has_count(source, branch.kept):
            run(branch, base.row["epoch"] + taken[branch.rule_name])
        else:  # the schedule diverged before
            gathered.cell(_failed(config, base, branch) | {
                "status": "diverged", "reason": f"{source.name} diverged before {branch.kept} were left"})


def _failed(config: Any, base: Base, branch: Branch) -> dict[str, Any]:
    return failed_row(branch_config(config, base.start, branch, 0), base, branch.rule_name, branch.kept, branch.scope)
