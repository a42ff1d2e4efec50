"""The loop of one run: an epoch, its record, a removal, a checkpoint, until the schedule says stop."""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax.batching import make_plan
from margin_jax.checkpoint import Checkpoints
from margin_jax.data.split import Dataset
from margin_jax.devices import size_of
from margin_jax.errors import DivergedError
from margin_jax.evaluate import Evaluation
from margin_jax.results import RunFolder
from margin_jax.runs import recorder, schedule
from margin_jax.runs.job import Job
from margin_jax.runs.progress import Reporter
from margin_jax.runs.removal import kept_after
from margin_jax.runs.schedule import Progress
from margin_jax.runs.summary import summarise_run
from margin_jax.state import EpochStats, TrainState


class Snapshot(NamedTuple):
    """All that changes in a run; what a checkpoint holds."""

    state: TrainState
    progress: Progress


class TrainRun:
    """One run in an open folder."""

    def __init__(self, config: Any, dataset: Dataset, job: Job, folder: RunFolder,
                 checkpoints: Checkpoints) -> None:
        """Everything is opened and checked by `train`."""
        self.config, self.dataset, self.job, self.folder, self.checkpoints = config, dataset, job, folder, checkpoints
        self.snapshot = Snapshot(job.state, schedule.fresh(dataset.train.labels.size))
        self._saved_at = time.monotonic()

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return int(self.snapshot.state.epoch)

    def resume(self) -> None:
        """Goes on from the newest checkpoint, if there is one, and cuts off what was recorded after it."""
        if self.checkpoints.latest_epoch() is None:
            self.checkpoints.save(0, self.snapshot)
        else:
            self.snapshot = jax.tree.map(
                lambda new, like: jax.device_put(new, like.sharding) if isinstance(like, jax.Array) else new,
                self.checkpoints.restore(self.snapshot), self.snapshot)
        self.folder.rewind(self.epoch, self.dataset.train.labels.size)
        self._write_mask()

    def _write_mask(self) -> None:
        split, progress = self.dataset.train, self.snapshot.progress
        self.folder.write_mask(ids=split.ids, labels=split.labels, true_labels=split.true_labels,
                               mask=progress.mask, removed_epoch=progress.removed_epoch)

    def train_epoch(self) -> EpochStats:
        """Trains one epoch on the kept rows; raises DivergedError, after closing the run, if it stops being finite."""
        state, progress = self.snapshot
        plan, batch = make_plan(self.config.batch_size, int(progress.mask.sum()), self.job.micro_batch,
                                self.job.network.batched, size_of(self.job.mesh), progress.mask.size)
        state, stats = self.job.run_epoch(state, self.job.train, jnp.asarray(progress.mask), jnp.int32(batch), plan)
        stats = jax.device_get(stats)
        self.snapshot = Snapshot(state, progress)
        if stats.bad_step >= 0:
            self._end_diverged(int(stats.bad_step) + 1, int(stats.steps))
        return stats

    def _end_diverged(self, step: int, steps: int) -> None:
        good = self.checkpoints.latest_epoch()
        self.folder.finish(summarise_run(self.config, self.folder.path, self.snapshot.progress, "diverged", {
            "epoch": self.epoch, "step": step, "checkpoint_epoch": good}))
        raise DivergedError(f"the loss or a parameter was not finite in epoch {self.epoch}, step {step} of {steps}; "
                            f"the last good checkpoint, of epoch {good}, and the records before are in "
                            f"{self.folder.path}; try a smaller optimizer.learning_rate, in another --workdir")

    def record(self, seconds: float) -> tuple[dict[str, float], Evaluation]:
        """Takes margins and errors on all data and appends them; notes the separation epoch."""
        state, progress = self.snapshot
        train, test = jax.device_get([self.job.evaluate(state.params, state.batch_stats, examples)
                                      for examples in (self.job.train, self.job.test)])
        rho = recorder.host_rho(state.params, self.config.rho)
        row = recorder.metrics_row(self.epoch, train, test, progress.mask, rho, seconds)
        self.folder.record(row, train.margins)
        if progress.separation_epoch < 0 and row["train_error"] == 0:
            self.snapshot = Snapshot(state, progress._replace(separation_epoch=np.int32(self.epoch)))
        return row, train

    def remove(self, margins: np.ndarray) -> None:
        """Updates the mask by the config's rule; nothing else changes."""
        state, progress = self.snapshot
        mask = kept_after(self.config, margins, self.dataset.train.labels, self.dataset.train.ids, progress.mask)
        removed = np.where(progress.mask & ~mask, np.int32(self.epoch), progress.removed_epoch)
        self.snapshot = Snapshot(state, progress._replace(mask=mask, removed_epoch=removed,
                                                          removal_epoch=np.int32(self.epoch)))
        self._write_mask()

    def save(self, force: bool) -> None:
        """Writes a checkpoint if one is due."""
        if force or time.monotonic() - self._saved_at >= self.config.checkpoint_seconds:
            self.checkpoints.save(self.epoch, self.snapshot)
            self._saved_at = time.monotonic()

    def advance(self, reporter: Reporter, started: float) -> None:
        """One epoch: train, record, remove, checkpoint."""
        before = self.snapshot.progress
        stats = self.train_epoch()
        seconds = time.monotonic() - started
        self.snapshot = self.snapshot._replace(progress=before._replace(seconds=np.float64(seconds)))
        row = None
        if schedule.record_due(self.config, self.epoch, before, int(stats.errors)):
            row, evaluation = self.record(seconds)
            if schedule.removal_due(self.config, self.epoch, self.snapshot.progress):
                self.remove(evaluation.margins)
        reporter.epoch(self.epoch, int(before.mask.sum()), float(stats.loss), row)
        after = self.snapshot.progress
        separated, removed = (a != b for a, b in ((after.separation_epoch, before.separation_epoch),
                                                  (after.removal_epoch, before.removal_epoch)))
        if separated:
            reporter.say(f"data separated at the end of epoch {self.epoch}")
            self.checkpoints.save(self.epoch, self.snapshot, "separation")
        if removed:
            reporter.say(f"kept {after.mask.sum()} of {after.mask.size} by the rule {self.config.compress.rule!r} "
                         f"at the end of epoch {self.epoch}")
        self.save(force=separated or removed)

    def run(self) -> dict[str, Any]:
        """Trains to the end and closes the run; returns what summary.json holds."""
        total = self.config.epochs + (self.config.compress.epochs if self.config.compress.keep else 0)
        started = time.monotonic() - float(self.snapshot.progress.seconds)
        with Reporter(total, self.epoch, self.config.log_every_seconds) as reporter:
            while not schedule.phase_over(self.config, self.epoch, self.snapshot.progress):
                self.advance(reporter, started)
        self.save(force=True)
        summary = summarise_run(self.config, self.folder.path, self.snapshot.progress, "finished")
        self.folder.finish(summary)
        return summary
