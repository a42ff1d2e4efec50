"""The networks that a compression starts from: trained by the ordinary run, or found where another compression did."""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from margin_jax import records, workdir
from margin_jax.checkpoint import Checkpoints
from margin_jax.data.split import Dataset
from margin_jax.devices import replicate
from margin_jax.errors import DivergedError
from margin_jax.runs import schedule
from margin_jax.runs.branches import Start, base_config
from margin_jax.runs.group import Group
from margin_jax.runs.job import Job, describe, make_job
from margin_jax.runs.opening import check_origin
from margin_jax.runs.snapshot import Snapshot, fresh_snapshot, on_host
from margin_jax.runs.train import run_in
from margin_jax.state import TrainState, make_state, with_optimizer


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


class Jobs:
    """Compiled functions and data, made once for each kind of run and shared by all that differ in seeds and rates."""

    def __init__(self, dataset: Dataset) -> None:
        """All jobs have the data of `dataset`."""
        self.dataset = dataset
        self._made: dict[str, Job] = {}
        self._groups: dict[str, Group] = {}

    def get(self, config: Any) -> Job:
        """The job of a config of this data set; its state is the fresh network of config.seed."""
        model, optimizer, section = config.model, config.optimizer, config.compress
        key = repr((model.to_dict(), optimizer.name, optimizer.momentum, config.shuffle, config.batch_size,
                    section.batch_norm))
        if key not in self._made:
            self._made[key] = make_job(config, self.dataset, section.batch_norm)
        job = self._made[key]
        # The job may have been made for another seed and rate.
        state = make_state(job.network, job.optimizer, self.dataset.train.images.shape[1:], config.seed)
        return job._replace(state=replicate(with_optimizer(state, job.optimizer, optimizer.learning_rate, keep=True),
                                            job.mesh))

    def group(self, config: Any, batch_norm: str) -> Group:
        """Many networks of a config of this data set at once, whatever their batch sizes."""
        key = repr((config.model.to_dict(), config.optimizer.name, config.optimizer.momentum, batch_norm))
        if key not in self._groups:
            self._groups[key] = Group(config, self.get(config), len(self.dataset.class_names), batch_norm)
        return self._groups[key]


def bases_folder(config: Any, path: pathlib.Path) -> pathlib.Path:
    """Where the networks before the removal lie: compress.base, or `base` in the work folder `path`."""
    return pathlib.Path(config.compress.base).absolute() if config.compress.base else path / "base"


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
    own, path, dataset = base_config(config, start), folder / start.name, jobs.dataset
    job = jobs.get(own)
    description = describe(own, dataset, job)
    if workdir.state_of(path, own) == workdir.OVER:
        check_origin(path, description)
        status = records.read_json(path, "summary.json")["status"]
    else:
        try:
            status = run_in(path, own, dataset, job, description)["status"]
        except DivergedError:
            status = "diverged"
    like = fresh_snapshot(own, jobs.get(own), dataset.train.labels.size)  # training has donated the state of `job`
    with Checkpoints(path / "checkpoints") as checkpoints:
        snapshot = on_host(Snapshot(*checkpoints.restore(like)))
    metrics = records.read_metrics(path)
    row = {name: column[-1].item() for name, column in metrics.items()} if metrics["epoch"].size else {}
    failed = schedule.moment_missed(own, snapshot.progress) if status == "finished" else _divergence(path)
    return Base(start, own, path, snapshot, row, failed,
                schedule.missed_status(own) if failed and status == "finished" else status)


def _divergence(path: pathlib.Path) -> str:
    found = records.read_json(path, "summary.json")["diverged"]
    return f"before the removal, the loss was not finite in epoch {found['epoch']}, step {found['step']}"


def state_after(base: Base, job: Job, config: Any) -> TrainState:
    """The state of a base with the optimiser of `config`, whose own state goes on if it is the one from before."""
    same = (config.optimizer.name, config.optimizer.momentum) == (base.config.optimizer.name,
                                                                   base.config.optimizer.momentum)
    return with_optimizer(base.snapshot.state, job.optimizer, config.optimizer.learning_rate, keep=same)


def fresh_on(job: Job, config: Any, mask: np.ndarray) -> Snapshot:
    """A fresh network of `job` whose training set is `mask` (N,) from the first epoch on, in host memory."""
    fresh = fresh_snapshot(config, job, mask.size)
    progress = fresh.progress._replace(mask=mask, removed_epoch=np.where(mask, -1, 0).astype(np.int32),
                                       removal_epoch=np.int32(0), removals=np.int32(1))
    return on_host(Snapshot(job.state, progress, fresh.dynamics))
