"""Replace-one stability (section C.2): one separated network, trained on with and without a point, many times."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging

from margin_jax import records, replace_one, tables, validation, workdir
from margin_jax.devices import replicate
from margin_jax.replace_one import Trial
from margin_jax.results import RunFolder
from margin_jax.runs.base import Base, Jobs, ensure_base
from margin_jax.runs.branches import Start, base_config
from margin_jax.runs.deletion import deletion_rows
from margin_jax.runs.job import describe, load_dataset
from margin_jax.runs.opening import opened
from margin_jax.runs.progress import Reporter
from margin_jax.runs.trials import Row, TrainedOn, chunk_size

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
    validation.validate(config)
    validation.validate_stability(config)
    workdir.inspect(path, config)
    dataset = load_dataset(config)
    validation.validate_stability(config, dataset.train.labels.size, dataset.test.labels.size)
    start, home = Start(config.seed, 0.0, ""), pathlib.Path(path).absolute() / "base"
    home = pathlib.Path(config.stability.base).absolute() if config.stability.base else home
    workdir.state_of(home / start.name, base_config(config, start))  # another network is noticed before any compute
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
    return records.read_json(folder.path, "config.json")["chunk"]


def _describe(dataset: Any, margins: np.ndarray) -> Callable[[Trial], Row]:
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

            continued, found = trained_on.run(chunk, after_epoch)
            folder.write_text(CONTINUED, json.dumps(continued) + "\n")
            if not found:
                return rows, continued
            rows += [described(trial) | row for trial, row in zip(chunk, found, strict=True)]
            folder.write_table(TRIALS, rows)
    return rows, records.read_json(folder.path, CONTINUED)


def _write_deletions(config: Any, jobs: Jobs, base: Base, margins: np.ndarray, folder: RunFolder) -> str:
    """Writes the table of appendix B; why there is none, "" if there is."""
    model, state = config.model, base.snapshot.state
    if not config.stability.deletions:
        return "stability.deletions is ()"
    if model.batch_norm or model.biases or model.name != "convnet":
        return "appendix B holds for networks without BatchNorm and biases, which this one is not"
    if not (folder.path / DELETION).is_file():
        job = jobs.get(base.config)
        folder.write_table(DELETION, deletion_rows(config, jobs.dataset, job.network, jax.device_get(state.params),
                                                   jax.device_get(state.batch_stats), job.train, margins))
    return ""
