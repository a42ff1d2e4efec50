"""A group of networks that differ in seed and learning rate alone, trained together in one program."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from margin_jax import ensemble as many
from margin_jax.batching import make_plan
from margin_jax.evaluate import Evaluation
from margin_jax.models.build import make_network
from margin_jax.network import BatchStats, Network, Params, with_batch_norm
from margin_jax.optimizers import make_optimizer
from margin_jax.runs.job import Job
from margin_jax.state import Examples, TrainState, make_state, with_optimizer
from margin_jax.tuning import ensemble_mapping

NEVER = -1
Networks = tuple[Params, BatchStats]  # of several networks, leaves (K, ...)


class Course(NamedTuple):
    """How far a group has come; leaves (K, ...) in host memory.

    Attributes:
      states: the networks; one that rests has the epoch of the others.
      epochs: (K,) int32, epochs trained, without those of rest.
      bad_epoch, bad_step: (K,) int32, where a loss was first not finite; -1 where none was.
    """

    states: TrainState
    epochs: np.ndarray
    bad_epoch: np.ndarray
    bad_step: np.ndarray

    @property
    def healthy(self) -> np.ndarray:
        """(K,) boolean, the networks whose losses were finite."""
        return self.bad_epoch == NEVER


def course(states: list[TrainState]) -> Course:
    """Networks that have not been trained in their group yet."""
    stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *states)
    zero, never = np.zeros(len(states), np.int32), np.full(len(states), NEVER, np.int32)
    return Course(stacked, zero, never, never)


class Group:
    """Training and measuring groups of one architecture and optimiser, across all devices of this process."""

    def __init__(self, config: Any, job: Job, num_classes: int, batch_norm: str) -> None:
        """Compiles for `config`; data are those of `job`, `batch_norm` is one of `network.BATCH_NORM`."""
        backend, section = jax.default_backend(), config.optimizer
        mapping = self._mapping = ensemble_mapping(backend)
        self.network: Network = with_batch_norm(
            make_network(config.model, num_classes, backend, mapped=mapping == "vmap"), batch_norm)
        self.optimizer = make_optimizer(section.name, section.learning_rate, section.momentum, section.weight_decay)
        self._ensemble = many.make_ensemble(self.network, self.optimizer, config.shuffle, job.piece,
                                            jax.local_devices(), mapping)
        self._micro_batch = job.micro_batch
        self._labels = {False: np.asarray(job.train.labels), True: np.asarray(job.test.labels)}
        self._data = {test: self._ensemble.copy(jax.tree.map(np.asarray, data._replace(labels=np.int32(0))))
                      for test, data in ((False, job.train), (True, job.test))}

    def fresh(self, image_shape: tuple[int, ...], seed: int, learning_rate: float) -> TrainState:
        """An untrained network."""
        return with_optimizer(make_state(self.network, self.optimizer, image_shape, seed), self.optimizer,
                              learning_rate, keep=True)

    def _examples(self, count: int, test: bool = False, labels: np.ndarray | None = None) -> Examples:
        """The data for `count` networks, with the labels (K, N) of each or those of the data set."""
        labels = np.tile(self._labels[test], (count, 1)) if labels is None else labels
        return self._data[test]._replace(labels=self._ensemble.place(labels))

    def epochs(self, begun: Course, masks: np.ndarray, batch_size: int, most: np.ndarray,
               after_epoch: Callable[[Course, many.EpochStats], np.ndarray] | None = None,
               labels: np.ndarray | None = None, margins: bool = True) -> Course:
        """Trains every network for its own number of epochs.

        Args:
          begun: K networks.
          masks: (K, N) boolean, all of one count.
          batch_size: rows per step, 0 for all kept.
          most: (K,) int, epochs for each in all, those of `begun` included.
          after_epoch: (course, what the epoch saw) -> (K,) boolean, the networks that stop here. The course holds its
            states on the devices; `ensemble.join` brings them to the host.
          labels: (K, N) int32, what each is trained on; the data set's if absent.
          margins: whether `after_epoch` looks at the margins (K, N) that the epoch saw; None otherwise.

        Returns:
          The group in host memory. A network that diverges stops there and leaves the others as they are.
        """
        count, ensemble = len(begun.epochs), self._ensemble
        plan, batch = make_plan(batch_size, int(masks[0].sum()), self._micro_batch, self.network.batched,
                                total=masks.shape[1])
        states, rows, train = ensemble.place(begun.states), ensemble.copy(np.int32(batch)), self._examples(
            count, labels=labels)
        now, stopped, placed_for, placed = begun, np.zeros(count, bool), None, None
        while True:
            active = (now.epochs < most) & now.healthy & ~stopped
            if not active.any():
                return now._replace(states=many.join(states, count))
            if placed_for is None or not np.array_equal(active, placed_for):
                placed_for, placed = active, ensemble.place(masks & active[:, None])
            states, stats = ensemble.run_epoch(states, train, placed, rows, plan)
            # Margins (K, N) come to the host only where someone looks at them.
            seen = many.join(stats if after_epoch and margins else stats._replace(margins=None), count)
            new = active & (seen.bad_step >= 0)
            now = Course(states, now.epochs + active.astype(np.int32), np.where(new, now.epochs + 1, now.bad_epoch),
                         np.where(new, seen.bad_step, now.bad_step))
            if after_epoch is not None:
                stopped = stopped | after_epoch(now, seen)

    def measure(self, states: TrainState, count: int, rows: np.ndarray | None = None, test: bool = False,
                labels: np.ndarray | None = None) -> Evaluation:
        """Margins and losses (K, n) of training rows (K, n), of all training examples, or of the test set.

        Training labels are those of the data set where `labels` (K, N) is absent.
        """
        placed, ensemble = self._ensemble.place((states.params, states.batch_stats)), self._ensemble
        data = self._examples(count, test, labels)
        if rows is not None:
            found = ensemble.evaluate_rows(*placed, data, ensemble.place(rows.astype(np.int32)))
        else:
            found = ensemble.evaluate(*placed, data)
        return many.join(found, count)

    def measure_some(self, networks: Networks, which: np.ndarray, test: bool = False,
                     labels: np.ndarray | None = None) -> Evaluation:
        """Margins and losses (k, N) of some networks, compiled for few counts whatever `which` are.

        Args:
          networks: parameters and running statistics (K, ...) in host memory.
          which: (k,) int, places among the K.
          test: of the test set, else of the training set.
          labels: (K, N) int32 training labels; the data set's if absent.
        """
        size = len(jax.local_devices())
        if self._mapping == "vmap":
            size *= 2 ** int(np.ceil(np.log2(-(-len(which) // size))))
        found = []
        for start in range(0, len(which), size):
            own = which[np.minimum(np.arange(start, start + size), len(which) - 1)]
            chosen = jax.tree.map(lambda leaf, own=own: leaf[own], networks)
            data = self._examples(size, test, None if labels is None or test else labels[own])
            found.append(many.join(self._ensemble.evaluate(*self._ensemble.place(chosen), data),
                                   min(size, len(which) - start)))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *found)
