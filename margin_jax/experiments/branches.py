"""What a compression compares: networks at the moment of removal, and the branches that go on from each.

A `Base` is such a network, trained by the ordinary run, or read where another compression trained it. A `Branch` is one
rule and count, or a control; it is a run of its own in its own run folder.
"""

import pathlib
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from margin_jax.config import default_config
from margin_jax.errors import DivergedError
from margin_jax.experiments import schedule
from margin_jax.experiments.job import Job, Snapshot, describe, fresh_snapshot, on_host
from margin_jax.experiments.many_networks import Jobs
from margin_jax.experiments.train import run_in
from margin_jax.run_folder import read, write
from margin_jax.run_folder.checkpoint import Checkpoints
from margin_jax.run_folder.checksums import damaged
from margin_jax.run_folder.tables import AFTER, FULL, SCRATCH, rule_name
from margin_jax.run_folder.write import check_origin
from margin_jax.training.state import TrainState, with_optimizer
from margin_jax.validation import CONTROLS


class Branch(NamedTuple):
    """One compression, or its control.

    Attributes:
      rule: of `selection.RULES`, with or without the epoch of its score, or "full".
      balanced: class by class.
      kept: examples kept in the end; 0 for a continuous schedule.
      scope: "after", from the network at the removal on; "scratch", a fresh network on the same examples.
    """

    rule: str
    balanced: bool
    kept: int
    scope: str

    @property
    def rule_name(self) -> str:
        """The rule as tables write it."""
        return rule_name(self.rule, self.balanced)

    @property
    def name(self) -> str:
        """Of its folder."""
        count = f"_{self.kept}" if self.kept and self.rule != FULL else ""
        return f"{self.rule_name}{count}" + "_scratch" * (self.scope == SCRATCH)


class Start(NamedTuple):
    """A network trained before the removal: what distinguishes it from the others of a compression."""

    seed: int
    init_std: float  # 0: the config's own initial weights
    optimizer: str  # "": the config's own

    @property
    def name(self) -> str:
        """Of its folder."""
        std = f"std_{self.init_std:g}_" if self.init_std else ""
        optimizer = f"{self.optimizer}_" if self.optimizer else ""
        return f"{optimizer}{std}seed_{self.seed}"


# `section` is the config's section `compress` below.


def rules(section: Any) -> list[tuple[str, bool]]:
    """The rule and the controls that are rules, each with whether it is balanced, without repeats."""
    controls = [(rule.removesuffix("+balanced"), rule.endswith("+balanced")) for rule in section.controls
                if rule not in CONTROLS]
    return list(dict.fromkeys([(section.rule, section.balanced), *controls]))


def kept_counts_of(section: Any) -> tuple[int, ...]:
    """compress.keeps, or else compress.keep alone; () without either."""
    return tuple(section.keeps) or ((section.keep,) if section.keep else ())


def epochs_after(section: Any, kept: int, batch_size: int) -> int:
    """Epochs on `kept` examples after a removal: `epochs`, or as many as make up `updates` at least."""
    return -(-section.updates // updates_of(kept, batch_size)) if section.updates else section.epochs


def updates_of(examples: int, batch_size: int) -> int:
    """Updates in an epoch on so many examples; a batch size of 0 is full gradient descent."""
    return -(-examples // min(batch_size or examples, examples))


def starts(section: Any, seed: int) -> list[Start]:
    """The networks trained before the removal: seeds, and in mode "continuous" initial stds and optimisers.

    `seed` is that of the config, where the section has none.
    """
    continuous = section.mode == "continuous"
    stds = tuple(section.init_stds) if continuous and section.init_stds else (0.0,)
    optimizers = tuple(section.optimizers) if continuous and section.optimizers else ("",)
    seeds = tuple(section.seeds) or (seed,)
    return [Start(seed, std, optimizer) for optimizer in optimizers for std in stds for seed in seeds]


def base_config(config: Any, start: Start) -> Any:
    """The config of the run before the removal; equal for all experiments that may share it."""
    base = config.copy_and_resolve_references()
    default = default_config()
    base.compress, base.stability, base.score = default.compress, default.stability, default.score
    base.seed = start.seed
    if start.init_std:
        base.model.init, base.model.init_std = "normal", start.init_std
    if start.optimizer:
        base.optimizer.name = start.optimizer
    return base


def after_branches(section: Any) -> list[Branch]:
    """One branch per rule and count that goes on from the network at the removal; without "full"."""
    if section.mode == "continuous":
        return [Branch(*rule, 0, AFTER) for rule in rules(section)]
    return [Branch(*rule, kept, AFTER) for kept in kept_counts_of(section) for rule in rules(section)]


def scratch_branches(section: Any) -> list[Branch]:
    """A fresh network for each rule's examples, at every count of `kept_counts_of`."""
    if SCRATCH not in section.controls:
        return []
    return [Branch(*rule, kept, SCRATCH) for kept in kept_counts_of(section) for rule in rules(section)]


def branch_config(config: Any, start: Start, branch: Branch, epochs: int) -> Any:
    """The config of a branch's own run.

    Args:
      config: of the compression.
      start: the network that it goes on from.
      branch: "full" keeps the settings from before the removal.
      epochs: compress.epochs of the branch.
    """
    run, section = base_config(config, start), config.compress
    run.compress.update({"rule": branch.rule, "balanced": branch.balanced, "keep": branch.kept, "epochs": epochs,
                         "ids": tuple(section.ids) if branch.rule == "ids" else (),
                         "difficulty": section.difficulty, "hardest": section.hardest})
    if branch.rule not in (FULL, "ids"):
        run.score.update(config.score)
    if branch.rule == FULL:
        # Schedules of different lengths are compared with full data at their own last epochs.
        run.record.every = 1 if section.mode == "continuous" else run.record.every
    else:
        run.record.every = section.record_every or run.record.every
        run.batch_size = run.batch_size if section.batch_size < 0 else section.batch_size
        run.optimizer.name = section.optimizer or run.optimizer.name
        run.optimizer.learning_rate = section.learning_rate or run.optimizer.learning_rate
        if branch.scope == AFTER:  # a fresh network has no running statistics worth keeping
            run.compress.batch_norm = section.batch_norm
            if section.mode == "continuous":
                run.compress.update({"mode": "continuous", "schedule": section.schedule})
    return run


class Base(NamedTuple):
    """A network at the moment of removal.

    Attributes:
      start: which one.
      config: of its run.
      path: its run folder; None for a network of a grid's whole run, which has none.
      snapshot: in host memory.
      row: of metrics.csv at that moment: the control "frozen".
      failed: why nothing can be removed from it, "" if it can.
      status: "finished", "diverged", "not separated" or "not converged".
    """

    start: Start
    config: Any
    path: pathlib.Path | None
    snapshot: Snapshot
    row: dict[str, float]
    failed: str
    status: str


def bases_folder(section: Any, path: pathlib.Path) -> pathlib.Path:
    """Where the networks before the removal lie: the section's `base`, or `base` in the work folder `path`.

    `section` may be `stability` too.
    """
    return pathlib.Path(section.base).absolute() if section.base else path / "base"


def ensure_base(config: Any, start: Start, folder: pathlib.Path, jobs: Jobs) -> Base:
    """Trains the network that `start` names in `folder`, goes on with it, or reads it if it is there.

    Args:
      config: of the compression.
      start: which network.
      folder: holds one run folder per network.
      jobs: of the data.

    Raises:
      InputError: a run of other settings or other data lies there.
    """
    run, path, dataset = base_config(config, start), folder / start.name, jobs.dataset
    job = jobs.get(run)
    description = describe(run, dataset, job)
    if write.state_of(path, run) == write.OVER:
        check_origin(path, description)
        status = read.read_json(path, "summary.json")["status"]
    else:
        try:
            status = run_in(path, run, dataset, job, description)["status"]
        except DivergedError:
            status = "diverged"
    # Training has donated the state of `job`.
    like = fresh_snapshot(jobs.get(run), dataset.train.labels.size, run.stop.smallest)
    with Checkpoints(path / "checkpoints") as checkpoints:
        snapshot = on_host(checkpoints.restore(like))
    _check_end(path, int(snapshot.state.epoch))
    metrics = read.read_metrics(path)
    row = {name: column[-1].item() for name, column in metrics.items()} if metrics["epoch"].size else {}
    failed = schedule.moment_missed(run, snapshot.progress) if status == "finished" else _divergence(path)
    return Base(start, run, path, snapshot, row, failed,
                schedule.missed_status(run.stop) if failed and status == "finished" else status)


def _check_end(path: pathlib.Path, epoch: int) -> None:
    """Raises DamagedError where the newest checkpoint of a run that is over is not that of its end."""
    summary = read.read_json(path, "summary.json")
    diverged = summary["diverged"]
    end = summary["epochs"] if diverged is None else diverged["checkpoint_epoch"]
    if end != epoch:
        raise damaged(path / "checkpoints", f"it has no checkpoint of epoch {end}, where the run ended",
                      f"restore it from a copy, or delete {path}, so that this network is trained again")


def _divergence(path: pathlib.Path) -> str:
    diverged = read.read_json(path, "summary.json")["diverged"]
    return f"before the removal, {schedule.divergence(diverged['epoch'], diverged['step'])}"


def state_after(base: Base, job: Job, section: Any) -> TrainState:
    """The state of a base with the optimiser of the section `optimizer`, which goes on if it is the one from before."""
    before = base.config.optimizer
    same = (section.name, section.momentum) == (before.name, before.momentum)
    return with_optimizer(base.snapshot.state, job.optimizer, section.learning_rate, keep=same)


def fresh_on(job: Job, mask: np.ndarray, support: int) -> Snapshot:
    """A fresh network of `job` whose training set is `mask` (N,) from the first epoch on, in host memory.

    `support` is the number of smallest margins that are followed.
    """
    fresh = fresh_snapshot(job, mask.size, support)
    progress = fresh.progress._replace(mask=mask, removed_epoch=np.where(mask, -1, 0).astype(np.int32),
                                       removal_epoch=np.int32(0), removals=np.int32(1))
    return on_host(Snapshot(job.state, progress, fresh.dynamics))


def _start(section: Any, run: Any, job: Job, base: Base, branch: Branch, home: pathlib.Path) -> Snapshot:
    """What a branch of config `run` starts from: the network at the removal, or a fresh one on another's examples."""
    if branch.scope == AFTER:
        return base.snapshot._replace(state=state_after(base, job, run.optimizer))
    source = branch_path(base, branch_source(section, branch), home, epochs=0)
    return fresh_on(job, mask_at(source, branch.kept), run.stop.smallest)


def branch_source(section: Any, branch: Branch) -> Branch:
    """The branch of scope "after" whose examples a fresh network takes."""
    return branch._replace(scope=AFTER, kept=0 if section.mode == "continuous" else branch.kept)


def branch_path(base: Base, branch: Branch, home: pathlib.Path, epochs: int) -> pathlib.Path:
    """The run folder of a branch in `home`; that of "full" lies beside its base.

    What full data give depends on the base and the number of epochs alone, so that experiments which share a base share
    this too.
    """
    return base.path.with_name(f"{base.path.name}_full_{epochs}") if branch.rule == FULL else home / branch.name


def run_branch(config: Any, jobs: Jobs, base: Base, branch: Branch, home: pathlib.Path, epochs: int,
               scores: dict[tuple[str, bool], np.ndarray] | None = None) -> tuple[Any, pathlib.Path, dict[str, Any]]:
    """Runs a branch, goes on with it, or reads it if it is over.

    Args:
      config: of the compression.
      jobs: of the data.
      base: the network at the removal.
      branch: which one; a fresh network needs the branch of scope "after" whose examples it takes.
      home: holds the run folders of the branches of this base.
      epochs: compress.epochs of the branch.
      scores: of `scoring.mean_scores`.

    Returns:
      The config of its run, its run folder and its summary; a branch that diverged says so there.
    """
    run, path = branch_config(config, base.start, branch, epochs), branch_path(base, branch, home, epochs)
    if write.state_of(path, run) != write.OVER:
        job = jobs.get(run)
        description = describe(run, jobs.dataset, job) | {"base": base.start.name, "scope": branch.scope}
        try:
            run_in(path, run, jobs.dataset, job, description, _start(config.compress, run, job, base, branch, home),
                   (scores or {}).get((branch.rule, branch.balanced)))
        except DivergedError as error:
            logging.warning("%s: %s", branch.name, error)
    return run, path, read.read_json(path, "summary.json")


def mask_at(path: pathlib.Path, kept: int) -> np.ndarray:
    """The mask (N,) of a branch when `kept` examples were left, however many it removed later.

    Raises:
      ValueError: there never were so many.
    """
    stored = read.read_mask(path)
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
    return kept in read.read_metrics(path)["kept"]


def kept_ids(path: pathlib.Path, kept: int) -> list[int]:
    """Ids of the examples kept when `kept` were left, by ascending margin at that time, or by id without margins."""
    mask = mask_at(path, kept)
    if not (path / "margins.npz").is_file() and read.read_json(path, "summary.json")["distribution"] is None:
        return read.read_mask(path)["ids"][mask].tolist()  # it diverged before its first kept margins
    stored = read.read_margins(path)
    removed = read.read_mask(path)["removed_epoch"]
    left_at = removed[~mask].max(initial=-1)  # the removal that left these
    row = max(int(np.searchsorted(stored.epochs, left_at, side="right")) - 1, 0)
    rows = np.flatnonzero(mask)
    order = np.argsort(stored.margins[row][rows], kind="stable")
    return stored.ids[rows[order]].tolist()
