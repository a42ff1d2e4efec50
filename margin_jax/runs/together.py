"""Networks of one group on their way to the stop rule: what is measured of them, which ones stop, and checkpoints.

A network that has met the stop rule rests while the others go on.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from margin_jax.checkpoint import Checkpoints
from margin_jax.dynamics import Dynamics, fresh_dynamics, present
from margin_jax.ensemble import join
from margin_jax.evaluate import Evaluation
from margin_jax.network import BatchStats, Params
from margin_jax.runs import schedule
from margin_jax.runs.group import Course, Group
from margin_jax.runs.schedule import Progress
from margin_jax.state import EpochStats


class Measured(NamedTuple):
    """One network at one recorded epoch, in host memory.

    Attributes:
      place: which of the K networks.
      epoch: epochs finished.
      params, batch_stats: of the network.
      train, test: (N,) arrays over all training examples and over the test set.
      progress: with this record.
    """

    place: int
    epoch: int
    params: Params
    batch_stats: BatchStats
    train: Evaluation
    test: Evaluation
    progress: Progress


class Training:
    """The networks of one group on their way to the stop rule, each recorded as a run of its own would be."""

    def __init__(self, config: Any, group: Group, checkpoints: Checkpoints, begun: Course, total: int,
                 labels: np.ndarray | None = None, observe: Callable[[Measured], None] | None = None,
                 follow: bool = False, report: Callable[[Course, list[Progress]], None] | None = None) -> None:
        """Starts from `begun`, or from the newest checkpoint of an interrupted job.

        Args:
          config: of the networks, which differ in nothing that it decides.
          group: compiled functions.
          checkpoints: of the group.
          begun: K networks.
          total: N.
          labels: (K, N) int32, what each network is trained on; the data set's if absent.
          observe: is given every record; without it nothing is measured on the test set.
          follow: whether the dynamics of every example are kept, for the rules that need them.
          report: is told after every epoch how far the networks are.
        """
        count = len(begun.epochs)
        self.config, self._group, self._checkpoints, self._labels = config, group, checkpoints, labels
        self._observe, self._follow, self._report, self._total = observe, follow, report, total
        self.course = begun
        self.progress = [schedule.fresh(total, config.stop.smallest) for _ in range(count)]
        self.dynamics: Dynamics = jax.tree.map(lambda leaf: np.stack([leaf] * (count if follow else 1)),
                                               fresh_dynamics(total if follow else 1))
        if checkpoints.latest_epoch() is not None:
            self.course, self.progress, self.dynamics = checkpoints.restore(
                (self.course, self.progress, self.dynamics))
            self.course = Course(*self.course)
            self.progress = [Progress(*one) for one in self.progress]
        self._saved_at = time.monotonic()

    def run(self) -> Course:
        """Trains each network until the stop rule is met or `epochs` are over; the group in host memory."""
        most = np.where(self.over(), self.course.epochs, self.config.epochs)
        masks = np.ones((len(most), self._total), bool)
        ended = self._group.epochs(self.course, masks, self.config.batch_size, most, self._after_epoch, self._labels,
                                   margins=self._follow)
        self.save(ended)
        return ended

    def over(self) -> np.ndarray:
        """(K,) boolean, the networks whose training has ended."""
        return np.array([schedule.phase_over(self.config, int(epochs), progress)
                         for epochs, progress in zip(self.course.epochs, self.progress, strict=True)])

    def _after_epoch(self, now: Course, seen: EpochStats) -> np.ndarray:
        """Records what is due; (K,) boolean, the networks that stop."""
        self.course = now
        trained, count = seen.steps > 0, len(now.epochs)
        if self._follow:
            shown = np.broadcast_to(trained[:, None], seen.margins.shape)
            self.dynamics = present(self.dynamics, seen.margins, shown)
        due = np.array([k for k in np.flatnonzero(trained & now.healthy) if schedule.record_due(
            self.config, int(now.epochs[k]), self.progress[k], int(seen.errors[k]))], int)
        if due.size:
            self._record(now, join((now.states.params, now.states.batch_stats), count), due)
        if time.monotonic() - self._saved_at >= self.config.checkpoint_seconds:
            self.save(now._replace(states=join(now.states, count)))
        if self._report:
            self._report(now, self.progress)
        return self.over()

    def _record(self, now: Course, networks: tuple[Params, BatchStats], due: np.ndarray) -> None:
        train = self._group.measure_some(networks, due, labels=self._labels)
        test = self._group.measure_some(networks, due, test=True) if self._observe else None
        for row, k in enumerate(due):
            self.progress[k] = schedule.measured(self.config, int(now.epochs[k]), self.progress[k], train.margins[row])
            if self._observe:
                own = jax.tree.map(lambda leaf, k=k: leaf[k], networks)
                self._observe(Measured(int(k), int(now.epochs[k]), *own,
                                       *(Evaluation(*(values[row] for values in found)) for found in (train, test)),
                                       self.progress[k]))

    def save(self, now: Course) -> None:
        """Writes a checkpoint; `now` is in host memory."""
        self.course = now
        self._checkpoints.save(int(now.epochs.sum()), (now, self.progress, self.dynamics))
        self._saved_at = time.monotonic()
