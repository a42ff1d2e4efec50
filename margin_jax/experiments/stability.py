"""Replace-one stability (section C.2): one separated network, trained on with and without a point, many times.

The network is trained on with the training set S and with each S^i, in which one point is replaced, in one program.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging

from margin_jax import backend, signals
from margin_jax.backend import ensemble_mapping
from margin_jax.data.dataset import Dataset
from margin_jax.experiments.appendix_b import Deletions, deletion_rows
from margin_jax.experiments.branches import Base, Start, base_config, bases_folder, ensure_base
from margin_jax.experiments.job import Job, checked_data, describe, kept_ensemble, kept_optimizer
from margin_jax.experiments.many_networks import Jobs, fitting
from margin_jax.experiments.recording import Reporter, host_rho
from margin_jax.experiments.schedule import divergence
from margin_jax.models.network import make_network
from margin_jax.parallel import replicate
from margin_jax.run_folder import read, tables, write
from margin_jax.run_folder.tables import Row
from margin_jax.run_folder.write import RunFolder, opened
from margin_jax.theory import replace_one
from margin_jax.theory.replace_one import Outcome, Trial
from margin_jax.training.ensemble import join
from margin_jax.training.epoch import make_plan
from margin_jax.training.state import Examples, TrainState, parameter_distance
from margin_jax.validation import validate_stability


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
        mapping = ensemble_mapping(backend)
        network = make_network(config.model, len(dataset.class_names), backend, mapped=mapping == "vmap")
        optimizer = kept_optimizer(section.name, section.learning_rate, section.momentum, section.weight_decay)
        self.config, self.count, self._size, self._state = config, dataset.train.labels.size, size, state
        self._ensemble = kept_ensemble(network, optimizer, config.shuffle, job.piece, tuple(jax.local_devices()),
                                       mapping)
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
        train = np.arange(self.count, dtype=np.int32)
        index = np.stack([train, *(replace_one.index_map(trial, self.count) for trial in trials)])
        states, bad = self._train(index, after_epoch)
        if bad[0]:
            return _status(bad[0]), []
        outputs = self._ensemble.outputs(states.params, states.batch_stats, self._examples)
        params, outputs = join((states.params, outputs), len(index))
        nets = [jax.tree.map(lambda leaf, k=k: leaf[k], params) for k in range(len(index))]
        with_all, *replaced = [Outcome(*(leaf[k] for leaf in outputs), host_rho(net, self.config.rho))
                               for k, net in enumerate(nets)]
        rows = [_status(when) | ({} if when else replace_one.differences(
            with_all, outcome, trial, self.count) | {"moved": parameter_distance(net, nets[0])})
            for trial, outcome, net, when in zip(trials, replaced, nets[1:], bad[1:], strict=True)]
        test = np.arange(self.count, len(with_all.margins))
        return _status("") | replace_one.quantities(with_all, train, test), rows

    def _train(self, index: np.ndarray, after_epoch: Callable[[int], None]) -> tuple[TrainState, list[str]]:
        """The networks (D, S, ...) after all epochs, and why each of (k, N) `index` diverged, "" if it did not."""
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
            steps = join(seen.bad_step, places)
            bad = [old or (divergence(epoch + 1, step + 1) if step >= 0 else "")
                   for old, step in zip(bad, steps.tolist(), strict=True)]
            after_epoch(epoch + 1)
        return states, bad[:active.sum()]


def _status(diverged: str) -> Row:
    if not diverged:
        return {"status": "finished", "reason": ""}
    return {"status": "diverged", "reason": f"{diverged} after the separated network"}


def chunk_size(config: Any, dataset: Dataset, job: Job, total: int) -> int:
    """Trials at once: stability.chunk, or what fits, no more than `backend.trials_at_once` and than there are.

    Args:
      config: of the experiment.
      dataset: its data.
      job: of its network.
      total: trials in all, >= 1.
    """
    if config.stability.chunk:
        return min(config.stability.chunk, total)
    train, rows = dataset.train, dataset.train.labels.size + dataset.test.labels.size
    mapping = backend.ensemble_mapping(jax.default_backend())
    # Beside its state: its index, its mask, the margins that its steps see, and its outputs on all rows.
    separate = 20 * train.labels.size + 4 * rows * (2 + len(dataset.class_names))
    fits = fitting(config.batch_size, job, job.network, train.images[:1].nbytes * rows, separate)
    most = backend.trials_at_once(mapping) * len(jax.local_devices())
    return min(max(min(fits, most) - 1, 1), total)  # one place is for S


TRIALS, DELETION, CONTINUED = "trials.csv", "deletion.csv", "continued.json"


def stability(config: Any, path: str | pathlib.Path) -> dict[str, Any]:
    """Runs the experiment, or continues an interrupted one.

    Args:
      config: a ConfigDict as in `margin_jax.config.default_config`; not changed.
      path: the work folder.

    Returns:
      What summary.json holds.

    Raises:
      InputError: bad config, data or work folder; nothing on disk has been touched.
    """
    dataset = checked_data(config, path, validate_stability)
    validate_stability(config, dataset.train.labels.size, dataset.test.labels.size)
    start, home = Start(config.seed, 0.0, ""), bases_folder(config.stability, pathlib.Path(path).absolute())
    write.state_of(home / start.name, base_config(config, start))  # another network is noticed before any compute
    jobs, total = Jobs(dataset), config.stability.trials * len(config.stability.choices)
    job = jobs.get(config)
    description = describe(config, dataset, job) | {"job": "stability",
                                                    "chunk": chunk_size(config, dataset, job, max(total, 1))}
    with opened(path, config, description) as folder:
        base = ensure_base(config, start, home, jobs)
        summary = {"status": base.status, "reason": base.failed, "base": {"name": base.start.name, "row": base.row},
                   "trials": 0, "diverged": 0}
        if base.failed:
            logging.warning("%s: %s", base.path, base.failed)
        else:
            summary |= _from(config, jobs, base, folder)
        folder.finish(summary)
        return summary


def _from(config: Any, jobs: Jobs, base: Base, folder: RunFolder) -> dict[str, Any]:
    """All that follows from the separated network; what summary.json holds of it."""
    dataset, job, state = jobs.dataset, jobs.get(base.config), base.snapshot.state
    placed = replicate((state.params, state.batch_stats), job.mesh)
    train, test = (np.asarray(job.evaluate(*placed, data).margins) for data in (job.train, job.test))
    left_out = _write_deletions(config, jobs, base, train, folder)
    trials = replace_one.design(config.stability.choices, config.stability.trials, config.stability.pool, train,
                                test.size, config.seed)
    normalised = np.concatenate([train, test]).astype(np.float64) / base.row["rho"]
    rows, continued = _run(config, TrainedOn(config, dataset, job, state, _stored_chunk(folder)), trials, folder,
                           _describe(dataset, normalised)) if trials else ([], {})
    return {"status": continued.get("status", "finished"), "reason": continued.get("reason", ""),
            "deletions_left_out": left_out, "continued": continued, "trials": len(rows),
            "diverged": sum(row["status"] != "finished" for row in rows)}


def _stored_chunk(folder: RunFolder) -> int:
    """As when the job began, so that its program is the same whatever memory is free now."""
    return read.read_json(folder.path, "config.json")["chunk"]


def _describe(dataset: Dataset, margins: np.ndarray) -> Callable[[Trial], Row]:
    """Gives what trials.csv says of a replacement before any training.

    Args:
      dataset: the data.
      margins: (M,) normalised, of training and test examples at the separated network.
    """
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])

    def described(trial: Trial) -> Row:
        out, incoming, count = trial.out_row, trial.in_row, dataset.train.labels.size
        return {"trial": trial.number, "choice": trial.choice, "out_id": int(dataset.train.ids[out]),
                "in_id": int(dataset.test.ids[incoming - count]), "out_label": int(labels[out]),
                "in_label": int(labels[incoming]), "out_margin": float(margins[out]),
                "in_margin": float(margins[incoming])}

    return described


def _run(config: Any, trained_on: TrainedOn, trials: list[Trial], folder: RunFolder,
         described: Callable[[Trial], Row]) -> tuple[list[Row], Row]:
    """The trials that an interrupted job has not done yet; all rows, and what the network trained on with S came to.

    Both files are written anew after each chunk, the table last: a chunk in the table is never computed again.
    """
    rows = tables.rows_of(tables.read_table(folder.path, TRIALS, required=False))
    size, total = _stored_chunk(folder), config.stability.epochs
    with Reporter(len(trials), len(rows), config.log_every_seconds, "trial") as reporter:
        for first in range(len(rows), len(trials), size):
            chunk = trials[first:first + size]

            def after_epoch(epoch: int, first: int = first, count: int = len(chunk)) -> None:
                reporter.show(first + count * epoch // total, {"at once": count, "epoch": f"{epoch}/{total}"})

            with signals.deferred():  # a chunk is the least that can be saved
                continued, outcomes = trained_on.run(chunk, after_epoch)
                folder.write_text(CONTINUED, json.dumps(continued) + "\n")
                if not outcomes:
                    return rows, continued
                rows += [described(trial) | row for trial, row in zip(chunk, outcomes, strict=True)]
                folder.write_table(TRIALS, rows)
    return rows, read.read_json(folder.path, CONTINUED)


def _write_deletions(config: Any, jobs: Jobs, base: Base, margins: np.ndarray, folder: RunFolder) -> str:
    """Writes the table of appendix B; why there is none, "" if there is."""
    model, state = config.model, base.snapshot.state
    if not config.stability.deletions:
        return "stability.deletions is ()"
    if model.batch_norm or model.biases or model.name != "convnet":
        return "appendix B holds for networks without BatchNorm and biases, which this one is not"
    if not (folder.path / DELETION).is_file():
        job, wanted = jobs.get(base.config), Deletions(tuple(config.stability.deletions), config.seed)
        folder.write_table(DELETION, deletion_rows(wanted, job.network, jax.device_get(state.params),
                                                   jax.device_get(state.batch_stats), job.train, margins,
                                                   len(jobs.dataset.class_names)))
    return ""
