"""Opens the folder of a job that is new or goes on after an interruption."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

from absl import logging

from margin_jax import records, results, workdir
from margin_jax.errors import InputError


@contextlib.contextmanager
def opened(path: str | pathlib.Path, config: Any, description: dict[str, Any],
           wait: float = 0.0) -> Iterator[results.RunFolder]:
    """The folder, locked while the context lasts; a new one has its config.json written.

    Args:
      path: the work folder; callers have looked at it with `workdir.inspect` before any compute.
      config: of the job.
      description: what config.json is to hold.
      wait: seconds for which another process may hold the folder.

    Raises:
      InputError: another job, other settings or other data lie there, or another process holds it.
    """
    with results.RunFolder(path, wait) as folder:
        if workdir.inspect(path, config):  # again, now that no other process can finish the job meanwhile
            check_origin(path, description)
        else:
            folder.start(description)
        yield folder


def check_origin(path: str | pathlib.Path, description: dict[str, Any]) -> None:
    """Refuses another job and other data; warns of other versions, with which the run need not end bit-equal."""
    stored = records.read_json(path, "config.json")
    job = stored.get("job", "train")
    if job != description["job"]:
        raise InputError(f"{path} was started by launch/{job}.py, which continues it; choose another --workdir for "
                         f"launch/{description['job']}.py")
    for key in ("versions", "device"):
        if stored[key] != description[key]:
            logging.warning("%s was started with %s %s, goes on with %s", path, key, stored[key], description[key])
    if stored["data"]["digest"] != description["data"]["digest"]:
        raise InputError(f"{path} was started on other data of the name {stored['data']['name']!r}: the digest was "
                         f"{stored['data']['digest'][:12]}, is {description['data']['digest'][:12]}; "
                         "restore the data or choose another --workdir")
