"""Compression with its controls: train to the removal, then one branch per rule and count, and what they came to."""

import pathlib
from typing import Any

from absl import logging

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
    epochs_after,
    has_count,
    kept_counts_of,
    run_branch,
    scratch_branches,
    starts,
)
from margin_jax.experiments.compress_tables import Gathered, failed_row, frozen_row
from margin_jax.experiments.grid import run_grid
from margin_jax.experiments.job import checked_data, describe
from margin_jax.experiments.many_networks import Jobs
from margin_jax.experiments.scoring import Scores, mean_scores
from margin_jax.run_folder import write
from margin_jax.run_folder.tables import AFTER, FROZEN, FULL, WHOLE_RUN
from margin_jax.run_folder.write import opened
from margin_jax.validation import validate_compression


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
    dataset, section = checked_data(config, path, validate_compression), config.compress
    if section.grid_scope != WHOLE_RUN or section.mode != "grid":
        for start in starts(section, config.seed):  # another network there is noticed before any compute
            write.state_of(bases_folder(section, pathlib.Path(path)) / start.name, base_config(config, start))
    jobs = Jobs(dataset)
    description = describe(config, dataset, jobs.get(config)) | {"job": "compress"}
    with opened(path, config, description) as folder:
        run = run_grid if section.mode == "grid" else run_branches
        scores = mean_scores(config, jobs, folder.path)
        summary = run(config, jobs, folder, scores)
        folder.finish(summary)
        return summary


def run_branches(config: Any, jobs: Jobs, folder: write.RunFolder, scores: Scores) -> dict[str, Any]:
    """The modes "immediate" and "continuous": every branch is a run folder; tables are made anew after each."""
    section = config.compress
    gathered = Gathered(folder, kept_counts_of(section))
    for start in starts(section, config.seed):
        base = ensure_base(config, start, bases_folder(section, folder.path), jobs)
        gathered.base(base)
        if base.failed:
            logging.warning("%s: %s", base.path, base.failed)
            for branch in (*after_branches(section), *scratch_branches(section)):
                gathered.cell(_failed(config, base, branch))
            continue
        if FROZEN in section.controls:
            gathered.cell(frozen_row(base))
        _branches_of(config, jobs, base, folder.path / start.name, gathered, scores)
    return gathered.summary()


def _branches_of(config: Any, jobs: Jobs, base: Base, home: pathlib.Path, gathered: Gathered, scores: Scores) -> None:
    """The rules, and then the controls that need to know how long those took or what they kept."""
    section = config.compress

    def run(branch: Branch, epochs: int) -> int:
        of_run, path, summary = run_branch(config, jobs, base, branch, home, epochs, scores)
        gathered.branch(base, branch, of_run, path, summary)
        return summary["epochs"] - base.row["epoch"]

    batch_size = config.batch_size if section.batch_size < 0 else section.batch_size
    taken = {branch: run(branch, epochs_after(section, branch.kept, batch_size))
             for branch in after_branches(section)}
    if FULL in section.controls:  # a schedule takes as long as it takes, each rule's its own
        run(Branch(FULL, False, jobs.dataset.train.labels.size, AFTER), max(taken.values()))
    for branch in scratch_branches(section):
        source = branch_path(base, branch_source(section, branch), home, 0)
        if has_count(source, branch.kept):
            run(branch, base.row["epoch"] + taken[branch_source(section, branch)])
        else:  # the schedule diverged before
            gathered.cell(_failed(config, base, branch) | {
                "status": "diverged", "reason": f"{source.name} diverged before {branch.kept} were left"})


def _failed(config: Any, base: Base, branch: Branch) -> dict[str, Any]:
    return failed_row(branch_config(config, base.start, branch, 0), base, branch.rule_name, branch.kept, branch.scope)
