"""Replace-one trials, many at once: one network trained on with S and with each S^i in one program."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from margin_jax import ensemble as many
from margin_jax import replace_one, tuning
from margin_jax.batching import make_plan
from margin_jax.data.split import Dataset
from margin_jax.models.build import make_network
from margin_jax.optimizers import make_optimizer
from margin_jax.replace_one import Outcome, Trial
from margin_jax.runs.job import Job
from margin_jax.runs.memory import fitting
from margin_jax.runs.recorder import host_rho
from margin_jax.state import Examples, TrainState, parameter_distance

Row = dict[str, Any]


class TrainedOn:
    """Compiled functions and data, on all devices of this process.

    The pictures of the training and the test set lie once on every device; a trial is an index into them.
    """

    def __init__(self, config: Any, dataset: Dataset, job: Job, state: TrainState, size: int) -> None:
        """Compiles nothing yet.

        Args:
          config: of the experiment.
          dataset: its data.
          job: of the network that is trained on; gives the standardisation, which no replacement changes.
          state: of that network, in host memory.
          size: trials at once; all calls have one program, in which fewer leave places that rest.
        """
        backend, section = jax.default_backend(), config.optimizer
        mapping = tuning.ensemble_mapping(backend)
        network = make_network(config.model, len(dataset.class_names), backend, mapped=mapping == "vmap")
        optimizer = make_optimizer(section.name, section.learning_rate, section.momentum, section.weight_decay)
        self.config, self.count, self._size, self._state = config, dataset.train.labels.size, size, state
        self._ensemble = many.make_ensemble(network, optimizer, config.shuffle, job.piece, jax.local_devices(), mapping)
        both = (dataset.train, dataset.test)
        self._examples = self._ensemble.copy(Examples(
            *(np.concatenate([getattr(split, name) for split in both]) for name in ("images", "labels")),
            np.asarray(job.train.mean), np.asarray(job.train.std)))
        self._plan, self._batch = make_plan(config.batch_size, self.count, job.micro_batch, network.batched,
                                            total=self.count)

    def run(self, trials: list[Trial], after_epoch: Callable[[int], None]) -> tuple[Row, list[Row]]:
        """Trains on with S and with the S^i of at most `size` trials.

        Args:
          trials: each its own S^i.
          after_epoch: is told how many epochs are over.

        Returns:
          Of the network trained on with S, `replace_one.quantities` on the whole test set, `status` and `reason`; and
          of every trial `replace_one.differences`, `moved`, `status` and `reason`, as columns of trials.csv. Without
          trials if S itself diverged, since there is nothing to compare them with.
        """
        own = np.arange(self.count, dtype=np.int32)
        index = np.stack([own, *(replace_one.index_map(trial, self.count) for trial in trials)])
        states, bad = self._train(index, after_epoch)
        if bad[0]:
            return _status(bad[0]), []
        found = self._ensemble.outputs(states.params, states.batch_stats, self._examples)
        params, outputs = many.join((states.params, found), len(index))
        nets = [jax.tree.map(lambda leaf, k=k: leaf[k], params) for k in range(len(index))]
        with_all, *replaced = [Outcome(*(leaf[k] for leaf in outputs), host_rho(net, self.config.rho))
                               for k, net in enumerate(nets)]
        rows = [_status(when) | ({} if when else replace_one.differences(
            with_all, outcome, trial, self.count) | {"moved": parameter_distance(net, nets[0])})
            for trial, outcome, net, when in zip(trials, replaced, nets[1:], bad[1:], strict=True)]
        test = np.arange(self.count, len(with_all.margins))
        return _status("") | replace_one.quantities(with_all, own, test), rows

    def _train(self, index: np.ndarray, after_epoch: Callable[[int], None]) -> tuple[TrainState, list[str]]:
        """The networks (D, S, ...) after all epochs, and where each of (k, N) `index` diverged, "" if it did not."""
        ensemble, places = self._ensemble, self._size + 1
        active = np.arange(places) < len(index)
        index = index[np.minimum(np.arange(places), len(index) - 1)]
        states = ensemble.place(jax.tree.map(lambda leaf: np.broadcast_to(leaf, (places, *np.shape(leaf))),
                                             self._state))
        examples = self._examples._replace(index=ensemble.place(index))
        masks = ensemble.place(np.repeat(active[:, None], self.count, axis=1))
        batch, bad = ensemble.copy(np.int32(self._batch)), [""] * places
        for epoch in range(self.config.stability.epochs):
            states, seen = ensemble.run_epoch(states, examples, masks, batch, self._plan)
            steps = many.join(seen.bad_step, places)
            bad = [old or (f"epoch {epoch + 1}, step {step + 1}" if step >= 0 else "")
                   for old, step in zip(bad, steps.tolist(), strict=True)]
            after_epoch(epoch + 1)
        return states, bad[:active.sum()]


def _status(diverged: str) -> Row:
    reason = f"the loss was not finite in {diverged} after the separated network"
    return {"status": "diverged", "reason": reason} if diverged else {"status": "finished", "reason": ""}


def chunk_size(config: Any, dataset: Dataset, job: Job, total: int) -> int:
    """Trials at once: stability.chunk, or what fits, no more than `tuning.trials_at_once` and than there are.

    Args:
      config: of the experiment.
      dataset: its data.
      job: of its network.
      total: trials in all, >= 1.
    """
    if config.stability.chunk:
        return min(config.stability.chunk, total)
    train, rows = dataset.train, dataset.train.labels.size + dataset.test.labels.size
    mapping = tuning.ensemble_mapping(jax.default_backend())
    # Beside its state: its index, its mask, the margins that its steps see, and its outputs on all rows.
    own = 20 * train.labels.size + 4 * rows * (2 + len(dataset.class_names))
    fits = fitting(config.batch_size, job.network, job.state, train.images.shape[1:], train.labels.size,
                   job.micro_batch, job.piece, train.images[:1].nbytes * rows, own)
    most = tuning.trials_at_once(mapping) * len(jax.local_devices())
    return min(max(min(fits, most) - 1, 1), total)  # one place is for S
