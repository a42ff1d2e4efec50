"""Training one network: config in, run folder out."""

import pathlib
from typing import Any

from margin_jax import validation, workdir
from margin_jax.checkpoint import Checkpoints
from margin_jax.data.split import Dataset
from margin_jax.errors import InputError
from margin_jax.runs.job import Job, describe, load_dataset, make_job
from margin_jax.runs.loop import TrainRun
from margin_jax.runs.opening import opened
from margin_jax.runs.snapshot import Snapshot


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
    validation.validate(config)
    if config.compress.mode != "immediate":
        raise InputError(f"config: compress.mode should be 'immediate' to train one network, got "
                         f"{config.compress.mode!r}; launch/compress.py runs every mode, with its controls")
    workdir.inspect(path, config)
    dataset = load_dataset(config)
    job = make_job(config, dataset)
    return run_in(path, config, dataset, job, describe(config, dataset, job))


def run_in(path: str | pathlib.Path, config: Any, dataset: Dataset, job: Job, description: dict[str, Any],
           start: Snapshot | None = None) -> dict[str, Any]:
    """Runs in a folder, new or of an interrupted run of the same config; arguments as of `TrainRun`.

    Args:
      path: the run folder.
      config, dataset, job, start: as of `TrainRun`.
      description: what config.json is to hold.

    Returns:
      What summary.json holds.
    """
    with opened(path, config, description) as folder, Checkpoints(folder.path / "checkpoints") as checkpoints:
        run = TrainRun(config, dataset, job, folder, checkpoints, start)
        run.resume()
        return run.run()
