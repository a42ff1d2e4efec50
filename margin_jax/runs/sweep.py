"""Many networks, those of one architecture trained together chunk by chunk, and the audit of what ranks them."""

import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
from absl import logging

from margin_jax import records, results, validation, workdir
from margin_jax.data.split import Dataset, digest
from margin_jax.runs.chunk import Chunk, Starts, chunks_of, train_chunk
from margin_jax.runs.design import members
from margin_jax.runs.group import Course
from margin_jax.runs.job import describe, load_dataset
from margin_jax.runs.kinds import Kinds
from margin_jax.runs.merge import merge
from margin_jax.runs.opening import opened
from margin_jax.runs.progress import Reporter
from margin_jax.runs.schedule import Progress
from margin_jax.runtime import Share

WAIT = 600.0  # seconds for another process to begin the sweep, or to put its results together


def sweep(config: Any, path: str | pathlib.Path, share: Share = Share()) -> dict[str, Any] | None:
    """Trains the networks of a sweep, or goes on with them; the process that ends last puts the results together.

    Args:
      config: a ConfigDict as in `margin_jax.config.default_config`; not changed.
      path: the work folder, the same for all processes.
      share: which part this process trains; the number of processes may change between interruption and continuation.

    Returns:
      What summary.json holds; None where other processes have networks left to train.

    Raises:
      InputError: bad config, data or work folder; nothing on disk has been touched.
    """
    validation.validate(config)
    validation.validate_sweep(config)
    chosen = members(config)
    if share.count > 1 and workdir.state_of(path, config) == workdir.OVER:  # this process was started again too late
        return records.read_json(path, "summary.json")
    workdir.inspect(path, config)
    dataset = load_dataset(config)
    kinds = Kinds(config, dataset)
    size, first = kinds.chunk_size(chosen, share.count), kinds.of(chosen[0])
    description = describe(config, dataset, first.job) | {
        "job": "sweep", "chunk": size, "device": f"{jax.default_backend()}: {jax.local_devices()[0].device_kind} x "
                                                 f"{len(jax.local_devices())}"}
    stored = _begin(config, path, description)
    workdir_path, starts = pathlib.Path(path).absolute(), Starts(dataset, first.group.optimizer)
    del first  # its data leave the devices where another architecture follows
    chunks = chunks_of(workdir_path, chosen, stored["chunk"])
    for number in range(share.index, len(chunks), share.count):
        if not chunks[number].over:
            with Reporter(config.epochs, 0, config.log_every_seconds) as reporter:
                kind = kinds.of(chunks[number].members[0])
                train_chunk(config, chunks[number], kind.group, starts, workdir_path, _describe_member(
                    description, dataset, starts), kind.measure, _report(reporter, number, chunks))
                del kind
    if share.waits:
        _wait_for(chunks)
    if not all(chunk.over for chunk in chunks):
        return None
    with results.RunFolder(path, WAIT) as folder:
        if not (folder.path / "summary.json").is_file():
            folder.finish(merge(config, chosen, folder))
        return records.read_json(folder.path, "summary.json")


def _begin(config: Any, path: str | pathlib.Path, description: dict[str, Any]) -> dict[str, Any]:
    """Writes config.json, or reads the one that another process or an interrupted sweep has written."""
    with opened(path, config, description, WAIT):
        return records.read_json(path, "config.json")


def _wait_for(chunks: list[Chunk]) -> None:
    told: list[str] = []
    while left := [chunk.path.name for chunk in chunks if not chunk.over]:
        if left != told:
            logging.warning("waiting for the chunks %s of other processes; start one that has ended again with the "
                            "same command", ", ".join(left))
            told = left
        time.sleep(1.0)


def _describe_member(description: dict[str, Any], dataset: Dataset, starts: Starts) -> Callable[[Any], dict[str, Any]]:
    """Gives what the config.json of a network's config is to hold: that of a run which trains it alone."""
    digests: dict[float, str] = {}

    def described(own: Any) -> dict[str, Any]:
        fraction = own.data.random_fraction
        if fraction not in digests:
            digests[fraction] = digest(dataclasses.replace(dataset, train=starts.split(own)))
        return description | {"job": "train", "config": own.to_dict(),
                              "data": description["data"] | {"digest": digests[fraction]}}

    return described


def _report(reporter: Reporter, number: int, chunks: list[Chunk]) -> Callable[[Course, list[Progress]], None]:
    count = len(chunks[number].members)

    def report(now: Course, progress: list[Progress]) -> None:
        separated = sum(one.separation_epoch >= 0 for one in progress)
        fields = {"chunk": f"{number + 1}/{len(chunks)}", "separated": f"{separated}/{count}"}
        diverged = int((~now.healthy).sum())
        reporter.show(int(now.epochs.max()), fields | ({"diverged": diverged} if diverged else {}))

    return report
