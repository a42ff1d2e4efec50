"""Scope "whole_run" of a grid: every cell's settings hold from the first epoch on, so every cell has its own network.

The learning rates and seeds of one optimiser and batch size are trained together. A network that has met the stop rule
rests while the others go on.
"""

import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from margin_jax.checkpoint import Checkpoints
from margin_jax.devices import replicate
from margin_jax.dynamics import Dynamics, fresh_dynamics, present
from margin_jax.ensemble import join
from margin_jax.results import RunFolder
from margin_jax.runs import cells, schedule
from margin_jax.runs.base import Base, Jobs
from margin_jax.runs.branches import FROZEN, FULL, WHOLE_RUN, Start
from margin_jax.runs.grid_rows import Network, Rows, failed_rows, group_rows, setting
from margin_jax.runs.group import Course, Group, course
from margin_jax.runs.job import Job
from margin_jax.runs.schedule import Progress
from margin_jax.runs.snapshot import Snapshot
from margin_jax.state import EpochStats


class Training:
    """The networks of one group on their way to the removal; `after_epoch` decides which of them stop."""

    def __init__(self, config: Any, job: Job, checkpoints: Checkpoints, begun: Course) -> None:
        """Starts from `begun`, or from the newest checkpoint of an interrupted job."""
        count, total = len(begun.epochs), job.train.labels.shape[0]
        self.config, self._job, self._checkpoints = config, job, checkpoints
        self.course = begun
        self.progress = [schedule.fresh(total, config.stop.smallest) for _ in range(count)]
        self.dynamics: Dynamics = jax.tree.map(lambda leaf: np.stack([leaf] * count), fresh_dynamics(total))
        if checkpoints.latest_epoch() is not None:
            self.course, self.progress, self.dynamics = checkpoints.restore(
                (self.course, self.progress, self.dynamics))
            self.course = Course(*self.course)
            self.progress = [Progress(*one) for one in self.progress]
        self._saved_at = time.monotonic()

    def over(self) -> np.ndarray:
        """(K,) boolean, the networks whose training before the removal has ended."""
        return np.array([schedule.phase_over(self.config, int(epochs), progress)
                         for epochs, progress in zip(self.course.epochs, self.progress, strict=True)])

    def after_epoch(self, now: Course, seen: EpochStats) -> np.ndarray:
        """Records what is due, as a run of its own would; (K,) boolean, the networks that stop."""
        self.course = now
        trained, count = seen.steps > 0, len(now.epochs)
        shown = np.broadcast_to(trained[:, None], seen.margins.shape)
        self.dynamics = present(self.dynamics, seen.margins, shown)
        due = [k for k in np.flatnonzero(trained & now.healthy) if schedule.record_due(
            self.config, int(now.epochs[k]), self.progress[k], int(seen.errors[k]))]
        networks = join((now.states.params, now.states.batch_stats), count) if due else None
        for k in due:
            params, batch_stats = replicate(jax.tree.map(lambda leaf, k=k: leaf[k], networks), self._job.mesh)
            found = self._job.evaluate(params, batch_stats, self._job.train)
            self.progress[k] = schedule.measured(self.config, int(now.epochs[k]), self.progress[k],
                                                 np.asarray(found.margins))
        if time.monotonic() - self._saved_at >= self.config.checkpoint_seconds:
            self.save(now._replace(states=join(now.states, count)))
        return self.over()

    def save(self, now: Course) -> None:
        """Writes a checkpoint; `now` is in host memory."""
        self.course = now
        self._checkpoints.save(int(now.epochs.sum()), (now, self.progress, self.dynamics))
        self._saved_at = time.monotonic()


def train_group(config: Any, job: Job, group: Group, checkpoints: Checkpoints, begun: Course, total: int) -> Training:
    """Trains a group to the removal, each network until the stop rule is met or `epochs` are over."""
    training = Training(config, job, checkpoints, begun)
    most = np.where(training.over(), training.course.epochs, config.epochs)
    masks = np.ones((len(most), total), bool)
    ended = group.epochs(training.course, masks, config.batch_size, most, training.after_epoch)
    training.save(ended)
    return training


def trained_groups(config: Any, jobs: Jobs, folder: RunFolder,
                   rows: Rows) -> Iterator[tuple[str, int, list[Network]]]:
    """Trains the groups one by one; yields optimiser, batch size and the networks that got to the removal."""
    section, split = config.compress, jobs.dataset.train
    pairs = [(seed, rate) for seed in tuple(section.seeds) or (config.seed,) for rate in section.grid_learning_rates]
    for optimizer in section.grid_optimizers:
        for batch_size in section.grid_batch_sizes:
            own = setting(config, optimizer, batch_size, config.optimizer.learning_rate)
            job, group = jobs.get(own), jobs.group(own, "tracked")
            fresh = course([group.fresh(split.images.shape[1:], seed, rate) for seed, rate in pairs])
            with Checkpoints(folder.path / "groups" / f"{optimizer}_{batch_size}") as checkpoints:
                training = train_group(own, job, group, checkpoints, fresh, split.labels.size)
            networks = _networks(config, own, group, training, pairs)
            _control_rows(config, group, networks, rows)
            good = [network for network in networks if not network.base.failed]
            if good:
                yield optimizer, batch_size, good


def _networks(config: Any, own: Any, group: Group, training: Training,
              pairs: list[tuple[int, float]]) -> list[Network]:
    """The networks of a group at their removal, failed ones too."""
    ended, count = training.course, len(pairs)
    train, test = group.measure(ended.states, count), group.measure(ended.states, count, test=True)
    found = []
    for k, (seed, rate) in enumerate(pairs):
        alone = setting(config, own.optimizer.name, own.batch_size, rate)
        alone.seed = seed
        state = jax.tree.map(lambda leaf, k=k: leaf[k], ended.states)._replace(epoch=ended.epochs[k])
        snapshot = Snapshot(state, training.progress[k], jax.tree.map(lambda leaf, k=k: np.asarray(leaf[k]),
                                                                      training.dynamics))
        row = {"epoch": int(ended.epochs[k]), "kept": train.margins.shape[1],
               "train_loss": float(train.losses[k].mean()),
               "train_error": 100 * float(np.mean(~(train.margins[k] > 0))),
               "test_error": 100 * float(np.mean(~(test.margins[k] > 0)))}
        failed = schedule.moment_missed(alone, training.progress[k])
        status = schedule.missed_status(alone) if failed else "finished"
        if not ended.healthy[k]:
            failed, status = (f"before the removal, the loss was not finite in epoch {int(ended.bad_epoch[k])}, "
                              f"step {int(ended.bad_step[k]) + 1}"), "diverged"
        base = Base(Start(seed, 0.0, ""), alone, None, snapshot, row, failed, status)
        found.append(Network(base, rate, train.margins[k]))
    return found


def _control_rows(config: Any, group: Group, networks: list[Network], rows: Rows) -> None:
    """Failed cells, the network at the removal, and full data for as many epochs as the compressed runs go on."""
    section = config.compress

    def known(network: Network, **more: str) -> bool:
        return rows.has(scope=WHOLE_RUN, seed=network.base.start.seed, **cells.settings(network.base.config), **more)

    missing = [n for n in networks if not (known(n) if n.base.failed else known(n, rule=FROZEN))]
    rows.add([row for n in missing if n.base.failed for row in failed_rows(config, n.base.config, n.base, WHOLE_RUN)])
    if FROZEN in section.controls:
        rows.add([cells.frozen_row(n.base, WHOLE_RUN) for n in missing if not n.base.failed])
    good = [n for n in networks if not n.base.failed]
    if FULL not in section.controls or not good or all(known(network, rule=FULL) for network in good):
        return
    begun = course([n.base.snapshot.state for n in good])
    masks = np.ones((len(good), good[0].margins.size), bool)
    ended = group.epochs(begun, masks, good[0].base.config.batch_size, np.full(len(good), section.epochs))
    kept = np.tile(np.arange(good[0].margins.size), (len(good), 1))
    first = np.array([n.base.row["train_loss"] for n in good])
    rows.add(group_rows(good[0].base.config, group, FULL, WHOLE_RUN, good, kept, first, begun, ended))
