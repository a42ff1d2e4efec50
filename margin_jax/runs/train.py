"""Training one network, with at most one removal: config in, run folder out."""

import pathlib
from typing import Any

from absl import logging

from margin_jax import records, results, validation
from margin_jax.checkpoint import Checkpoints
from margin_jax.errors import InputError
from margin_jax.runs.job import describe, load_dataset, make_job
from margin_jax.runs.loop import TrainRun


def train(config: Any, workdir: str | pathlib.Path) -> dict[str, Any]:
    """Trains one network, or continues where an interrupted run of the same command stopped.

    Args:
      config: a ConfigDict as in `margin_jax.config.default_config`; not changed.
      workdir: the run folder.

    Returns:
      What summary.json holds.

    Raises:
      InputError: bad config, data or work folder; nothing on disk has been touched.
      DivergedError: a loss or parameter stopped being finite; the run folder says where.
    """
    validation.validate(config)
    results.inspect(workdir, config)
    dataset = load_dataset(config)
    job = make_job(config, dataset)
    description = describe(config, dataset, job)
    with results.RunFolder(workdir) as folder:
        if results.inspect(workdir, config):  # again, now that no other process can finish the run meanwhile
            _check_origin(workdir, description)
        else:
            folder.start(description)
        with Checkpoints(folder.path / "checkpoints") as checkpoints:
            run = TrainRun(config, dataset, job, folder, checkpoints)
            run.resume()
            return run.run()


def _check_origin(workdir: str | pathlib.Path, description: dict[str, Any]) -> None:
    """Refuses other data; warns of other versions, with which the run need not end bit-equal."""
    stored = records.read_json(workdir, "config.json")
    for key in ("versions", "device"):
        if stored[key] != description[key]:
            logging.warning("%s was started with %s %s, goes on with %s", workdir, key, stored[key], description[key])
    if stored["data"]["digest"] != description["data"]["digest"]:
        raise InputError(f"{workdir} was started on other data of the name {stored['data']['name']!r}: the digest was "
                         f"{stored['data']['digest'][:12]}, is {description['data']['digest'][:12]}; "
                         "restore the data or choose another --workdir")
