"""Networks of one architecture and optimiser that are trained together in one program.

A `Group` trains K networks, each for its own number of epochs, and measures them. A `ManyRun` takes them to the stop
rule, with the records of a run of its own for each: a network that has met the rule rests while the others go on. How
many are trained at once follows from what one of them needs and what a device has. `Jobs` keeps what is compiled.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax import backend, signals
from margin_jax.backend import ensemble_mapping
from margin_jax.data.dataset import Dataset
from margin_jax.experiments import schedule
from margin_jax.experiments.job import Job, kept_ensemble, kept_optimizer, make_job
from margin_jax.experiments.schedule import Progress
from margin_jax.models.network import BatchStats, Network, Params, make_network, with_batch_norm
from margin_jax.parallel import replicate
from margin_jax.run_folder.checkpoint import Checkpoints
from margin_jax.theory.scores import Dynamics, fresh_dynamics, present
from margin_jax.training.ensemble import join
from margin_jax.training.epoch import make_plan
from margin_jax.training.evaluate import Evaluation
from margin_jax.training.state import EpochStats, Examples, TrainState, make_state, with_optimizer

NEVER = -1
Networks = tuple[Params, BatchStats]  # of several networks, leaves (K, ...)


class GroupState(NamedTuple):
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


class TrainingSets(NamedTuple):
    """What each of K networks is trained on.

    Attributes:
      masks: (K, N) boolean, the rows, all of one count.
      labels: (K, N) int32; None where each has the labels of the data set.
    """

    masks: np.ndarray
    labels: np.ndarray | None = None


def course(states: list[TrainState]) -> GroupState:
    """Networks that have not been trained in their group yet."""
    stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *states)
    zero, never = np.zeros(len(states), np.int32), np.full(len(states), NEVER, np.int32)
    return GroupState(stacked, zero, never, never)


class Group:
    """Training and measuring groups of one architecture and optimiser, across all devices of this process."""

    def __init__(self, config: Any, job: Job, num_classes: int, batch_norm: str) -> None:
        """Compiles for `config`; data are those of `job`, `batch_norm` is one of `network.BATCH_NORM`."""
        backend, section = jax.default_backend(), config.optimizer
        mapping = self._mapping = ensemble_mapping(backend)
        self.network: Network = with_batch_norm(
            make_network(config.model, num_classes, backend, mapped=mapping == "vmap"), batch_norm)
        self.optimizer = kept_optimizer(section.name, section.learning_rate, section.momentum, section.weight_decay)
        self._ensemble = kept_ensemble(self.network, self.optimizer, config.shuffle, job.piece,
                                       tuple(jax.local_devices()), mapping)
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

    def epochs(self, begun: GroupState, sets: TrainingSets, batch_size: int, most: np.ndarray,
               after_epoch: Callable[[GroupState, EpochStats], np.ndarray] | None = None,
               margins: bool = True) -> GroupState:
        """Trains every network for its own number of epochs.

        Args:
          begun: K networks.
          sets: what they are trained on.
          batch_size: rows per step, 0 for all kept.
          most: (K,) int, epochs for each in all, those of `begun` included.
          after_epoch: (course, what the epoch saw) -> (K,) boolean, the networks that stop here. The course holds its
            states on the devices; `ensemble.join` brings them to the host.
          margins: whether `after_epoch` looks at the margins (K, N) that the epoch saw; None otherwise.

        Returns:
          The group in host memory. A network that diverges stops there and leaves the others as they are.
        """
        count, ensemble, masks = len(begun.epochs), self._ensemble, sets.masks
        plan, batch = make_plan(batch_size, int(masks[0].sum()), self._micro_batch, self.network.batched,
                                total=masks.shape[1])
        states, rows, train = ensemble.place(begun.states), ensemble.copy(np.int32(batch)), self._examples(
            count, labels=sets.labels)
        now, stopped, placed_for, placed = begun, np.zeros(count, bool), None, None
        while True:
            active = (now.epochs < most) & now.healthy & ~stopped
            if not active.any():
                return now._replace(states=join(states, count))
            if placed_for is None or not np.array_equal(active, placed_for):
                placed_for, placed = active, ensemble.place(masks & active[:, None])
            states, stats = ensemble.run_epoch(states, train, placed, rows, plan)
            # Margins (K, N) come to the host only where someone looks at them.
            seen = join(stats if after_epoch and margins else stats._replace(margins=None), count)
            new = active & (seen.bad_step >= 0)
            now = GroupState(states, now.epochs + active.astype(np.int32), np.where(new, now.epochs + 1, now.bad_epoch),
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
            return join(ensemble.evaluate_rows(*placed, data, ensemble.place(rows.astype(np.int32))), count)
        return join(ensemble.evaluate(*placed, data), count)

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
        parts = []
        for start in range(0, len(which), size):
            places = which[np.minimum(np.arange(start, start + size), len(which) - 1)]
            chosen = jax.tree.map(lambda leaf, places=places: leaf[places], networks)
            data = self._examples(size, test, None if labels is None or test else labels[places])
            parts.append(join(self._ensemble.evaluate(*self._ensemble.place(chosen), data),
                              min(size, len(which) - start)))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


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


class Observers(NamedTuple):
    """Who looks at networks on their way to the stop rule.

    Attributes:
      record: is given every record; without it nothing is measured on the test set.
      report: is told after every epoch how far the networks are.
      dynamics: whether what each epoch saw of every example is kept, for the rules that need it.
      marks: gives what a checkpoint is to say of the records, as of `Checkpoints.save`.
      recorded: whether there are records, which beginning anew would lose.
    """

    record: Callable[[Measured], None] | None = None
    report: Callable[[GroupState, list[Progress]], None] | None = None
    dynamics: bool = False
    marks: Callable[[], dict[str, Any]] = dict
    recorded: bool = False


class ManyRun:
    """The networks of one group on their way to the stop rule, each recorded as a run of its own would be."""

    def __init__(self, config: Any, group: Group, checkpoints: Checkpoints, begun: GroupState, sets: TrainingSets,
                 observers: Observers) -> None:
        """Starts from `begun`, or from the newest checkpoint of an interrupted job that is whole.

        Args:
          config: of the networks, which differ in nothing that it decides.
          group: compiled functions.
          checkpoints: of the group.
          begun: K networks.
          sets: what they are trained on.
          observers: of their way.
        """
        (count, total), follow = sets.masks.shape, observers.dynamics
        self.config, self._group, self._checkpoints = config, group, checkpoints
        self._sets, self._observers, self.course = sets, observers, begun
        self.progress = [schedule.fresh(total, config.stop.smallest) for _ in range(count)]
        self.dynamics: Dynamics = jax.tree.map(lambda leaf: np.stack([leaf] * (count if follow else 1)),
                                               fresh_dynamics(total if follow else 1))
        # The records of an interrupted job up to its checkpoint; None where it begins anew.
        self.marks: dict[str, Any] | None = None
        restored = checkpoints.newest((self.course, self.progress, self.dynamics), observers.recorded)
        if restored is not None:
            (self.course, self.progress, self.dynamics), self.marks = restored

    def run(self) -> GroupState:
        """Trains each network until the stop rule is met or `epochs` are over; the group in host memory."""
        most = np.where(self.over(), self.course.epochs, self.config.epochs)
        with signals.deferred():
            ended = self._group.epochs(self.course, self._sets, self.config.batch_size, most, self._after_epoch,
                                       margins=self._observers.dynamics)
            self.save(ended)
        return ended

    def over(self) -> np.ndarray:
        """(K,) boolean, the networks whose training has ended."""
        return np.array([schedule.phase_over(self.config, int(epochs), progress)
                         for epochs, progress in zip(self.course.epochs, self.progress, strict=True)])

    def _after_epoch(self, now: GroupState, seen: EpochStats) -> np.ndarray:
        """Records what is due; (K,) boolean, the networks that stop."""
        self.course = now
        trained, count = seen.steps > 0, len(now.epochs)
        if self._observers.dynamics:
            shown = np.broadcast_to(trained[:, None], seen.margins.shape)
            self.dynamics = present(self.dynamics, seen.margins, shown)
        due = np.array([k for k in np.flatnonzero(trained & now.healthy) if schedule.record_due(
            self.config, int(now.epochs[k]), self.progress[k], int(seen.errors[k]))], int)
        if due.size:
            self._record(now, join((now.states.params, now.states.batch_stats), count), due)
        if self._checkpoints.due(self.config.checkpoint_seconds):
            self.save(now._replace(states=join(now.states, count)))
        if self._observers.report:
            self._observers.report(now, self.progress)
        return self.over() | signals.requested()

    def _record(self, now: GroupState, networks: Networks, due: np.ndarray) -> None:
        observe = self._observers.record
        train = self._group.measure_some(networks, due, labels=self._sets.labels)
        test = self._group.measure_some(networks, due, test=True) if observe else None
        for row, k in enumerate(due):
            epoch = int(now.epochs[k])
            self.progress[k] = schedule.measured(self.config.stop, epoch, self.progress[k], train.margins[row])
            if observe:
                network = jax.tree.map(lambda leaf, k=k: leaf[k], networks)
                evaluations = (Evaluation(*(values[row] for values in split)) for split in (train, test))
                observe(Measured(int(k), epoch, *network, *evaluations, self.progress[k]))

    def save(self, now: GroupState) -> None:
        """Writes a checkpoint; `now` is in host memory."""
        self.course = now
        self._checkpoints.save(int(now.epochs.sum()), (now, self.progress, self.dynamics),
                               records=self._observers.marks())


def train_on(config: Any, group: Group, checkpoints: Checkpoints, begun: GroupState, sets: TrainingSets,
             most: np.ndarray, report: Callable[[GroupState], None]) -> GroupState:
    """`Group.epochs` with checkpoints: an interrupted job goes on with the newest, and none of its epochs is repeated.

    Args:
      config: of the networks; batch_size and checkpoint_seconds are used.
      group: compiled functions.
      checkpoints: of these networks alone.
      begun: K networks.
      sets: what they are trained on.
      most: (K,) int, epochs for each in all.
      report: is told after every epoch how far they are.

    Returns:
      The group in host memory, which is saved too.

    Raises:
      Interrupted: a signal asked to stop, and the state is saved.
    """
    restored = checkpoints.newest(begun, False)

    def save(now: GroupState) -> None:
        checkpoints.save(int(now.epochs.sum()), now)

    def after_epoch(now: GroupState, _: EpochStats) -> np.ndarray:
        if checkpoints.due(config.checkpoint_seconds):
            save(now._replace(states=join(now.states, len(now.epochs))))
        report(now)
        return np.full(len(now.epochs), signals.requested())

    with signals.deferred():
        ended = group.epochs(begun if restored is None else restored.tree, sets, config.batch_size, most, after_epoch,
                             margins=False)
        save(ended)
    return ended


SHARE = 0.7  # of the free memory: XLA needs room for copies, and its allocator leaves gaps


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def intermediate_bytes(fn: Callable[..., Any], *args: Any) -> int:
    """Bytes of every value that a function computes, as if none were freed before the end: an upper bound.

    Args:
      fn: a traceable function.
      *args: pytrees of arrays or of `jax.ShapeDtypeStruct`; nothing is computed.
    """

    def of(jaxpr: Any) -> int:
        size = 0
        for equation in jaxpr.eqns:
            inner = [sub for value in equation.params.values() for sub in jax.tree.leaves(
                value, is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr"))
                if hasattr(sub, "eqns") or hasattr(sub, "jaxpr")]
            size += sum(of(getattr(sub, "jaxpr", sub)) for sub in inner) if inner else _bytes(
                [var.aval for var in equation.outvars])
        return size

    return of(jax.make_jaxpr(fn)(*args).jaxpr)


def work_bytes(network: Network, state: TrainState, image_shape: tuple[int, ...], rows: int, piece: int) -> int:
    """Bytes that one network needs while it is trained or measured, an upper bound.

    Args:
      network: its pure functions.
      state: of one network.
      image_shape: (H, W, C).
      rows: that go through the network at once in training.
      piece: rows at once in the pass over all data.
    """

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.sum(network.forward(params, state.batch_stats, x, jnp.ones(x.shape[0], jnp.float32))[0])

    def batch(count: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, *image_shape), jnp.float32)

    trained = intermediate_bytes(jax.grad(loss), state.params, batch(rows))
    measured = intermediate_bytes(lambda params, x: network.logits(params, state.batch_stats, x), state.params,
                                  batch(piece))
    return max(trained + 2 * _bytes(state), measured)


def chunk_size(config: Any, job: Job, network: Network) -> int:
    """Networks that this process trains at once: `sweep.chunk`, or what its devices' memory holds.

    Args:
      config: of the sweep; `batch_size` and `sweep.chunk` are used.
      job: of one network alone.
      network: its pure functions, as of a group.
    """
    if config.sweep.chunk:
        return config.sweep.chunk
    total = job.train.labels.size
    # Beside its state: its labels, its mask, the margins that its steps see.
    return fitting(config.batch_size, job, network, total * math.prod(job.train.images.shape[1:]), 16 * total)


def fitting(batch_size: int, job: Job, network: Network, shared: int, separate: int) -> int:
    """Networks that the memory of this process's devices holds at once.

    Args:
      batch_size: rows per step, 0 for all.
      job: of one network alone, for its data, its state and the rows that go through it at once.
      network: its pure functions, as of a group.
      shared: bytes on every device that its networks share.
      separate: bytes that each network has beside its state.
    """
    total = job.train.labels.size
    plan, _ = make_plan(batch_size, total, job.micro_batch, network.batched, total=total)
    work = work_bytes(network, job.state, job.train.images.shape[1:], plan.piece, job.piece)
    fits = backend.networks_at_once(int(SHARE * backend.free_memory()) - shared, _bytes(job.state) + separate, work,
                                    backend.ensemble_mapping(jax.default_backend()))
    return fits * len(jax.local_devices())


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
