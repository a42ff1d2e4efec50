"""Running one branch of a compression in its own run folder."""

import pathlib
from typing import Any

from absl import logging

from margin_jax import records, workdir
from margin_jax.errors import DivergedError
from margin_jax.runs.base import Base, Jobs, fresh_on, state_after
from margin_jax.runs.branches import AFTER, FULL, Branch, branch_config
from margin_jax.runs.curves import mask_at
from margin_jax.runs.job import describe
from margin_jax.runs.snapshot import Snapshot
from margin_jax.runs.train import run_in


def _start(config: Any, own: Any, jobs: Jobs, base: Base, branch: Branch, home: pathlib.Path) -> Snapshot:
    """What a branch starts from: the network at the removal, or a fresh one on the examples of another branch."""
    job = jobs.get(own)
    if branch.scope == AFTER:
        return base.snapshot._replace(state=state_after(base, job, own))
    return fresh_on(job, own, mask_at(branch_path(base, branch_source(config, branch), home, epochs=0), branch.kept))


def branch_source(config: Any, branch: Branch) -> Branch:
    """The branch of scope "after" whose examples a fresh network takes."""
    return branch._replace(scope=AFTER, kept=0 if config.compress.mode == "continuous" else branch.kept)


def branch_path(base: Base, branch: Branch, home: pathlib.Path, epochs: int) -> pathlib.Path:
    """The run folder of a branch in `home`; that of "full" lies beside its base.

    What full data give depends on the base and the number of epochs alone, so that experiments which share a base share
    this too.
    """
    return base.path.with_name(f"{base.path.name}_full_{epochs}") if branch.rule == FULL else home / branch.name


def run_branch(config: Any, jobs: Jobs, base: Base, branch: Branch, home: pathlib.Path,
               epochs: int) -> tuple[Any, pathlib.Path, dict[str, Any]]:
    """Runs a branch, goes on with it, or reads it if it is over.

    Args:
      config: of the compression.
      jobs: of the data.
      base: the network at the removal.
      branch: which one; a fresh network needs the branch of scope "after" whose examples it takes.
      home: holds the run folders of the branches of this base.
      epochs: compress.epochs of the branch.

    Returns:
      The config of its run, its run folder and its summary; a branch that diverged says so there.
    """
    own, path = branch_config(config, base.start, branch, epochs), branch_path(base, branch, home, epochs)
    if workdir.state_of(path, own) != workdir.OVER:
        job = jobs.get(own)
        description = describe(own, jobs.dataset, job) | {"base": base.start.name, "scope": branch.scope}
        try:
            run_in(path, own, jobs.dataset, job, description, _start(config, own, jobs, base, branch, home))
        except DivergedError as error:
            logging.warning("%s: %s", branch.name, error)
    return own, path, records.read_json(path, "summary.json")
