"""Training one network: config in, run folder out.

The loop of a run is an epoch, its record, a removal, a checkpoint, until the schedule says stop.
"""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from margin_jax import signals
from margin_jax.data.dataset import Dataset
from margin_jax.errors import DivergedError
from margin_jax.experiments import recording, schedule
from margin_jax.experiments.job import Job, Snapshot, checked_data, describe, fresh_snapshot, make_job, placed
from margin_jax.experiments.recording import Reporter, summarise_run
from margin_jax.experiments.removal import removed
from margin_jax.models.network import BatchStats, Network, Params, classifier
from margin_jax.parallel import compile_on, size_of
from margin_jax.run_folder.checkpoint import Checkpoints
from margin_jax.run_folder.write import RunFolder, opened
from margin_jax.theory.neural_collapse import Centres, Classifier, Collapse, Sample, neural_collapse
from margin_jax.theory.scores import present
from margin_jax.training.epoch import make_plan
from margin_jax.training.evaluate import Evaluation
from margin_jax.training.state import EpochStats, Examples, parameter_distance, standardised
from margin_jax.validation import validate_training

THIS = "."  # the run folder as a checkpoint names it
_present = jax.jit(present, donate_argnums=0)


def one_epoch(batch_size: int, job: Job, snapshot: Snapshot) -> tuple[Snapshot, EpochStats]:
    """Trains one epoch on the kept rows.

    Args:
      batch_size: rows per step, 0 for all kept.
      job: compiled functions and data.
      snapshot: its state and dynamics are donated.

    Returns:
      The new snapshot, and on the host what the steps saw, without margins, which are in the snapshot's dynamics.
    """
    state, progress, dynamics = snapshot
    plan, batch = make_plan(batch_size, int(progress.mask.sum()), job.micro_batch, job.network.batched,
                            size_of(job.mesh), progress.mask.size)
    mask = jnp.asarray(progress.mask)
    state, stats = job.run_epoch(state, job.train, mask, jnp.int32(batch), plan)
    dynamics = _present(dynamics, stats.margins, mask)
    return Snapshot(state, progress, dynamics), jax.device_get(stats._replace(margins=None))


@functools.lru_cache(maxsize=16)
def _compiled_collapse(network: Network, piece: int, mesh: Mesh | None) -> Callable[..., tuple[Collapse, Collapse]]:
    """Compiled once for all runs of a network, such as the branches of a compression."""

    def measured(params: Params, batch_stats: BatchStats, train: Examples, test: Examples,
                 mask: jax.Array) -> tuple[Collapse, Collapse]:
        def of(examples: Examples, mask: jax.Array | None, centres: Centres | None) -> Collapse:
            return neural_collapse(
                lambda params, images: network.features(params, batch_stats, standardised(images, examples)),
                params, Sample(examples.images, examples.labels, mask), Classifier(*classifier(params)), centres,
                piece, mesh)

        trained = of(train, mask, None)
        return trained, of(test, None, trained.centres)

    return compile_on(measured, mesh)


def make_collapse_row(job: Job) -> Callable[[Snapshot], dict[str, float]]:
    """Makes the function that gives the row of collapse.csv of a snapshot, compiled where it is first called.

    Args:
      job: network and data, whose rows the devices share out.

    Returns:
      snapshot -> keys as `tables.COLLAPSE`. Training examples that were removed do not count.
    """
    compiled = _compiled_collapse(job.network, job.piece, job.mesh)

    def row(snapshot: Snapshot) -> dict[str, float]:
        state, progress, _ = snapshot
        with jax.debug_nans(False):  # NaN says that a number is not defined, as where one class is left
            both = compiled(state.params, state.batch_stats, job.train, job.test, jnp.asarray(progress.mask))
        train, test = jax.device_get([collapse._replace(centres=None) for collapse in both])
        numbers = {name: float(value) for name, value in train._asdict().items() if value is not None}
        return {"epoch": int(state.epoch), **numbers, "nc1_test": float(test.nc1), "nc4_test": float(test.nc4)}

    return row


class TrainRun:
    """One run in an open folder."""

    def __init__(self, config: Any, dataset: Dataset, job: Job, folder: RunFolder, checkpoints: Checkpoints,
                 start: Snapshot | None = None, scores: np.ndarray | None = None) -> None:
        """Everything is opened and checked by the caller.

        Args:
          config: of the run.
          dataset: its data.
          job: network, compiled functions, data on the device.
          folder: open run folder.
          checkpoints: of that folder.
          start: in host memory, what the run starts from, with its own first record; absent for a fresh network.
            Examples are removed at once if the stop rule is met.
          scores: (N,) what the rule ranks by, of other networks; absent where it is the run's own network.
        """
        self.scores = scores
        self.config, self.dataset, self.job, self.folder, self.checkpoints = config, dataset, job, folder, checkpoints
        self.start = None if start is None else start._replace(progress=start.progress._replace(seconds=np.float64(0)))
        self.snapshot = placed(self.start, job) if start else fresh_snapshot(job, dataset.train.labels.size,
                                                                             config.stop.smallest)
        self._collapse = make_collapse_row(job)

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return int(self.snapshot.state.epoch)

    def resume(self) -> None:
        """Goes on from the newest checkpoint that is whole, if there is one, and cuts off what was recorded after it.

        Raises:
          DamagedError: no checkpoint is whole, and beginning anew would lose records.
        """
        first = 0 if self.start is None else 1  # a record before the first checkpoint
        restored = self.checkpoints.newest(self.snapshot, self.folder.recorded() > first)
        count = self.dataset.train.labels.size
        if restored is not None:
            self.snapshot = jax.tree.map(
                lambda new, like: jax.device_put(new, like.sharding) if isinstance(like, jax.Array) else new,
                restored.tree, self.snapshot)
            self.folder.rewind(self.epoch, count, restored.records.get(THIS))
        else:
            self.folder.rewind(-1, count)
            if self.start is not None:
                self._begin()
            self._save()
        self._write_mask()

    def _save(self) -> None:
        self.checkpoints.save(self.epoch, self.snapshot, records={THIS: self.folder.marks()})

    def _begin(self) -> None:
        """The first record, and the first removal if it is due.

        One removal comes before the record, so that its loss is that of the kept examples; a schedule's comes after it,
        since its table tells of the network before any removal.
        """
        if schedule.phase_over(self.config, self.epoch, self.snapshot.progress):
            if self.config.compress.mode == "immediate":
                train, test = self.measure()
                self.remove(train.margins)
                self.write_row(train, test, 0.0)
            else:
                row, evaluation = self.record(0.0)
                self._end_phase(row, evaluation)
        else:
            self.record(0.0)

    def _write_mask(self) -> None:
        split, progress = self.dataset.train, self.snapshot.progress
        self.folder.write_mask(ids=split.ids, labels=split.labels, true_labels=split.true_labels,
                               mask=progress.mask, removed_epoch=progress.removed_epoch)

    def train_epoch(self) -> EpochStats:
        """Trains one epoch on the kept rows; raises DivergedError, after closing the run, if it stops being finite."""
        self.snapshot, stats = one_epoch(self.config.batch_size, self.job, self.snapshot)
        if stats.bad_step >= 0:
            self._end_diverged(int(stats.bad_step) + 1, int(stats.steps))
        return stats

    def _end_diverged(self, step: int, steps: int) -> None:
        good = self.checkpoints.latest_epoch()
        self.folder.finish(self._summary("diverged", {"epoch": self.epoch, "step": step, "checkpoint_epoch": good}))
        raise DivergedError(f"the loss or a parameter was not finite in epoch {self.epoch}, step {step} of {steps}; "
                            f"the last good checkpoint, of epoch {good}, and the records before are in "
                            f"{self.folder.path}; try a smaller optimizer.learning_rate, in another --workdir")

    def _summary(self, status: str, diverged: dict[str, Any] | None = None) -> dict[str, Any]:
        summary = summarise_run(self.config, self.folder.path, self.snapshot.progress, status, diverged)
        if self.start is not None:
            now, then = self.snapshot.state, self.start.state
            summary["since_start"] = {"epochs": self.epoch - int(then.epoch),
                                      "updates": int(now.opt_state.count) - int(then.opt_state.count),
                                      "moved": parameter_distance(now.params, then.params)}
        return summary

    def measure(self) -> tuple[Evaluation, Evaluation]:
        """Margins and losses of all training and all test examples; notes separation and margin convergence."""
        state, progress, _ = self.snapshot
        train, test = jax.device_get([self.job.evaluate(state.params, state.batch_stats, examples)
                                      for examples in (self.job.train, self.job.test)])
        self.snapshot = self.snapshot._replace(
            progress=schedule.measured(self.config.stop, self.epoch, progress, train.margins))
        return train, test

    def write_row(self, train: Evaluation, test: Evaluation, seconds: float) -> dict[str, float]:
        """Appends what was measured to the records; the row of metrics.csv."""
        rho = recording.host_rho(self.snapshot.state.params, self.config.rho, self.snapshot.state.batch_stats)
        row = recording.metrics_row(self.epoch, train, test, self.snapshot.progress.mask, rho, seconds)
        kept = schedule.margins_due(self.config, self.epoch, self.snapshot.progress)
        self.folder.record(row, train.margins if kept else None)
        if schedule.collapse_due(self.config, self.epoch, self.snapshot.progress):
            self.folder.append("collapse.csv", self._collapse(self.snapshot))
        return row

    def record(self, seconds: float) -> tuple[dict[str, float], Evaluation]:
        """Takes margins and errors on all data and appends them."""
        train, test = self.measure()
        return self.write_row(train, test, seconds), train

    def _end_phase(self, row: dict[str, float], evaluation: Evaluation) -> None:
        """Where training on the present mask ends: its row of removals.csv, and the removal that follows."""
        progress = self.snapshot.progress
        if self.start is not None and self.config.compress.mode == "continuous":
            self.folder.append("removals.csv", recording.removal_row(
                self.config, row, progress, parameter_distance(self.snapshot.state.params, self.start.state.params)))
        if schedule.removal_due(self.config, self.epoch, progress):
            self.remove(evaluation.margins)

    def remove(self, margins: np.ndarray) -> None:
        """Updates the mask by the config's rule; nothing else changes."""
        self.snapshot = removed(self.config, self.job, self.dataset.train, self.snapshot, margins, self.scores)
        self._write_mask()

    def save(self, force: bool) -> None:
        """Writes a checkpoint if one is due."""
        if force or self.checkpoints.due(self.config.checkpoint_seconds):
            self._save()

    def advance(self, reporter: Reporter, started: float) -> None:
        """One epoch: train, record, remove, checkpoint."""
        before = self.snapshot.progress
        stats = self.train_epoch()
        seconds = time.monotonic() - started
        self.snapshot = self.snapshot._replace(progress=before._replace(seconds=np.float64(seconds)))
        row = None
        if schedule.record_due(self.config, self.epoch, before, int(stats.errors)):
            row, evaluation = self.record(seconds)
            if schedule.phase_over(self.config, self.epoch, self.snapshot.progress):
                self._end_phase(row, evaluation)
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
        self.save(force=separated or (removed and self.config.compress.mode == "immediate"))

    def run(self) -> dict[str, Any]:
        """Trains to the end and closes the run; returns what summary.json holds.

        Raises:
          Interrupted: a signal asked to stop, and the state is saved.
        """
        total = schedule.most_epochs(self.config, self.snapshot.progress)
        started = time.monotonic() - float(self.snapshot.progress.seconds)
        with signals.deferred():
            with Reporter(total, self.epoch, self.config.log_every_seconds) as reporter:
                while not (signals.requested() or schedule.phase_over(self.config, self.epoch, self.snapshot.progress)):
                    self.advance(reporter, started)
            self.save(force=True)
        summary = self._summary("finished")
        self.folder.finish(summary)
        return summary


def train(config: Any, path: str | pathlib.Path) -> dict[str, Any]:
    """Trains one network, or continues where an interrupted run of the same command stopped.

    Args:
      config: a ConfigDict as in `margin_jax.config.default_config`; not changed.
      path: the run folder.

    Returns:
      What summary.json holds.

    Raises:
      InputError: bad config, data or work folder; nothing on disk has been touched.
      DivergedError: a loss or parameter stopped being finite; the run folder says where.
    """
    dataset = checked_data(config, path, validate_training)
    job = make_job(config, dataset)
    return run_in(path, config, dataset, job, describe(config, dataset, job))


def run_in(path: str | pathlib.Path, config: Any, dataset: Dataset, job: Job, description: dict[str, Any],
           start: Snapshot | None = None, scores: np.ndarray | None = None) -> dict[str, Any]:
    """Runs in a folder, new or of an interrupted run of the same config; arguments as of `TrainRun`.

    Args:
      path: the run folder.
      config, dataset, job, start, scores: as of `TrainRun`.
      description: what config.json is to hold.

    Returns:
      What summary.json holds.
    """
    with opened(path, config, description) as folder, Checkpoints(folder.path / "checkpoints") as checkpoints:
        run = TrainRun(config, dataset, job, folder, checkpoints, start, scores)
        run.resume()
        return run.run()
