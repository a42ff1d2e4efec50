"""Many networks, those of one architecture trained together chunk by chunk, and the audit of what ranks them.

A chunk is trained by one process, which holds the compiled functions and the data of one architecture at a time; every
network has records of its own. The process that ends last puts the results together.
"""

import dataclasses
import itertools
import os
import pathlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from absl import logging

from margin_jax.backend import Share
from margin_jax.data.dataset import Dataset, Split, digest
from margin_jax.data.transforms import randomise_labels
from margin_jax.experiments.job import Job, checked_data, describe
from margin_jax.experiments.many_networks import (
    Group,
    GroupState,
    Jobs,
    ManyRun,
    Measured,
    Observers,
    TrainingSets,
    chunk_size,
    course,
)
from margin_jax.experiments.recording import Reporter
from margin_jax.experiments.schedule import Progress
from margin_jax.experiments.sweep_members import Member, MemberRecords, member_config, member_path, members
from margin_jax.experiments.sweep_results import make_measure, merge
from margin_jax.models.network import Network, Params, make_network
from margin_jax.run_folder import lock, read, write
from margin_jax.run_folder.checkpoint import Checkpoints
from margin_jax.run_folder.write import opened
from margin_jax.training.state import TrainState, make_state
from margin_jax.validation import validate_sweep


class Architecture(NamedTuple):
    """What the networks of one architecture share.

    Attributes:
      job: functions and data of one network alone.
      group: the same for many.
      measure: as of `margin_jax.experiments.sweep_members.MemberRecords`.
    """

    job: Job
    group: Group
    measure: Callable[[Measured, Params, Split], dict[str, Any]]


def split_by_kind(members: list[Member]) -> list[list[Member]]:
    """The networks of a sweep, in their order, cut where the architecture changes."""
    return [list(part) for _, part in itertools.groupby(members, key=lambda member: member.batch_norm)]


class Architectures:
    """Gives the compiled functions of a network's architecture; those of the one before are dropped for them.

    Each holds a copy of the data on every device, which need not have room for two.
    """

    def __init__(self, config: Any, dataset: Dataset) -> None:
        """Takes the config of a sweep and its data; nothing is compiled yet."""
        self._config, self._dataset = config, dataset
        self._held: tuple[bool, Architecture] | None = None

    def of(self, member: Member) -> Architecture:
        """The functions for one network of the sweep."""
        if self._held is None or self._held[0] != member.batch_norm:
            self._held = None  # before the data are placed again
            config, jobs = member_config(self._config, member), Jobs(self._dataset)
            job, group = jobs.get(config), jobs.group(config, "tracked")
            shape = self._dataset.train.images.shape[1:]
            self._held = member.batch_norm, Architecture(job, group, make_measure(self._config, job, shape))
        return self._held[1]

    def chunk_size(self, members: list[Member], processes: int) -> int:
        """Networks to train at once: as many of every architecture as fit and as one process has to train.

        The first network's architecture is measured last, since it is trained first.

        Args:
          members: all networks of the sweep.
          processes: how many share them.
        """
        sizes = []
        for part in reversed(split_by_kind(members)):
            job, group, _ = self.of(part[0])
            sizes.append(min(chunk_size(self._config, job, group.network), -(-len(part) // processes)))
        return min(sizes)


class Chunk(NamedTuple):
    """Networks that are trained together.

    Attributes:
      path: its folder, with its checkpoints; summary.json says that it is over.
      members: the networks.
    """

    path: pathlib.Path
    members: list[Member]

    @property
    def over(self) -> bool:
        """Whether all its networks are trained."""
        return (self.path / "summary.json").is_file()


def chunks_of(workdir: pathlib.Path, members: list[Member], size: int) -> list[Chunk]:
    """The networks in chunks of at most `size`, in order; none holds networks of two architectures."""
    parts = [part[first:first + size] for part in split_by_kind(members) for first in range(0, len(part), size)]
    return [Chunk(workdir / "chunks" / f"{number:03d}", part) for number, part in enumerate(parts)]


def label_draw(section: Any) -> tuple[float, int]:
    """Share and seed of the random labels of the section `data`; natural labels are one draw, whatever the seed."""
    return (section.random_fraction, section.random_seed) if section.random_fraction else (0.0, 0)


class InitialStates:
    """What each network starts from: initial weights, settings, labels."""

    def __init__(self, dataset: Dataset, optimizer: optax.GradientTransformation) -> None:
        """Takes the data, whatever their labels, and the optimiser of all networks."""
        self._dataset, self._optimizer = dataset, optimizer
        self._networks: dict[str, Network] = {}
        self._splits: dict[tuple[float, int], Split] = {}

    def state(self, config: Any) -> TrainState:
        """The untrained network of a member's config, in host memory."""
        key = repr(config.model.to_dict())
        if key not in self._networks:
            self._networks[key] = make_network(config.model, len(self._dataset.class_names), jax.default_backend())
        state = make_state(self._networks[key], self._optimizer, self._dataset.train.images.shape[1:], config.seed)
        rates = {name: np.float32(config.optimizer[name]) for name in ("learning_rate", "weight_decay")}
        return jax.device_get(state._replace(opt_state=state.opt_state._replace(
            hyperparams=state.opt_state.hyperparams | rates)))

    def split(self, config: Any) -> Split:
        """The training set with the labels of a member's config."""
        draw, train = label_draw(config.data), self._dataset.train
        if draw not in self._splits:
            clean = dataclasses.replace(train, labels=train.true_labels)
            self._splits[draw] = randomise_labels(clean, *draw, len(self._dataset.class_names)) if draw[0] else clean
        return self._splits[draw]


def train_chunk(config: Any, chunk: Chunk, architecture: Architecture, starts: InitialStates, workdir: pathlib.Path,
                describe: Callable[[Any], dict[str, Any]],
                report: Callable[[GroupState, list[Progress]], None]) -> None:
    """Trains the networks of a chunk, or goes on with them; one that is over stays as it is.

    Args:
      config: of the sweep.
      chunk: which networks.
      architecture: of all of them.
      starts: what each network starts from.
      workdir: of the sweep.
      describe: gives what the config.json of a network's config is to hold.
      report: is told after every epoch how far the networks are.

    Raises:
      InputError: another process is training the chunk.
      DamagedError: no checkpoint is whole, and beginning anew would lose records.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(write.RunFolder(chunk.path))
        if chunk.over:  # another process has ended it meanwhile
            return
        configs = [member_config(config, member) for member in chunk.members]
        states = [starts.state(alone) for alone in configs]
        splits = [starts.split(alone) for alone in configs]
        writers = []
        for member, alone, state, split in zip(chunk.members, configs, states, splits, strict=True):
            writer = MemberRecords(member_path(workdir, member), config, split, state.params, describe(alone),
                                   architecture.measure)
            stack.callback(writer.close)
            writers.append(writer)
        labels = np.stack([split.labels for split in splits])
        training = ManyRun(config, architecture.group, stack.enter_context(Checkpoints(chunk.path / "checkpoints")),
                           course(states), TrainingSets(np.ones(labels.shape, bool), labels),
                           Observers(lambda measured: writers[measured.place].observe(measured), report,
                                     marks=lambda: {_from_chunk(writer.folder.path, chunk): writer.marks()
                                                    for writer in writers if not writer.over},
                                     recorded=any(writer.loses for writer in writers)))
        for writer, epoch in zip(writers, training.course.epochs, strict=True):
            writer.rewind(int(epoch), (training.marks or {}).get(_from_chunk(writer.folder.path, chunk)))
        if training.marks is None:  # from now on, records without a checkpoint have lost it
            training.save(training.course)
        ended = training.run()
        for k, writer in enumerate(writers):
            bad = {"epoch": int(ended.bad_epoch[k]), "step": int(ended.bad_step[k]) + 1, "checkpoint_epoch": None}
            writer.finish(training.progress[k], None if ended.healthy[k] else bad)
        folder.finish({"status": "finished", "networks": [member.number for member in chunk.members]})


def _from_chunk(path: pathlib.Path, chunk: Chunk) -> str:
    """The run folder of a network as seen from its chunk, wherever the sweep may be moved."""
    return pathlib.PurePath(os.path.relpath(path, chunk.path)).as_posix()


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
    if share.count > 1 and write.state_of(path, config) == write.OVER:  # this process was started again too late
        return read.read_json(path, "summary.json")
    dataset, chosen = checked_data(config, path, _check), members(config)
    kinds = Architectures(config, dataset)
    size, first = kinds.chunk_size(chosen, share.count), kinds.of(chosen[0])
    description = describe(config, dataset, first.job) | {
        "job": "sweep", "chunk": size, "device": f"{jax.default_backend()}: {jax.local_devices()[0].device_kind} x "
                                                 f"{len(jax.local_devices())}"}
    stored = _begin(config, path, description)
    workdir_path, starts = pathlib.Path(path).absolute(), InitialStates(dataset, first.group.optimizer)
    del first  # its data leave the devices where another architecture follows
    chunks = chunks_of(workdir_path, chosen, stored["chunk"])
    with lock.held_in_place(workdir_path) as place:
        for number in range(share.index, len(chunks), share.count):
            if not chunks[number].over:
                with Reporter(config.epochs, 0, config.log_every_seconds) as reporter:
                    kind = kinds.of(chunks[number].members[0])
                    train_chunk(config, chunks[number], kind, starts, workdir_path, _describe_member(
                        description, dataset, starts), _report(reporter, number, chunks))
                    del kind
        if share.waits:
            _wait_for(chunks, place)
        place.check()
    if not all(chunk.over for chunk in chunks):
        return None
    with write.RunFolder(path, WAIT) as folder:
        if not (folder.path / "summary.json").is_file():
            folder.finish(merge(config, chosen, folder))
        return read.read_json(folder.path, "summary.json")


def _check(config: Any) -> None:
    validate_sweep(config)
    members(config)


def _begin(config: Any, path: str | pathlib.Path, description: dict[str, Any]) -> dict[str, Any]:
    """Writes config.json, or reads the one that another process or an interrupted sweep has written."""
    with opened(path, config, description, WAIT):
        return read.read_json(path, "config.json")


def _wait_for(chunks: list[Chunk], place: lock.Place) -> None:
    warned: list[str] = []
    while left := [chunk.path.name for chunk in chunks if not chunk.over]:
        place.check()
        if left != warned:
            logging.warning("waiting for the chunks %s of other processes; start one that has ended again with the "
                            "same command", ", ".join(left))
            warned = left
        time.sleep(1.0)


def _describe_member(description: dict[str, Any], dataset: Dataset,
                     starts: InitialStates) -> Callable[[Any], dict[str, Any]]:
    """Gives what the config.json of a network's config is to hold: that of a run which trains it alone."""
    digests: dict[tuple[float, int], str] = {}

    def described(config: Any) -> dict[str, Any]:
        draw = label_draw(config.data)
        if draw not in digests:
            digests[draw] = digest(dataclasses.replace(dataset, train=starts.split(config)))
        return description | {"job": "train", "config": config.to_dict(),
                              "data": description["data"] | {"digest": digests[draw]}}

    return described


def _report(reporter: Reporter, number: int, chunks: list[Chunk]) -> Callable[[GroupState, list[Progress]], None]:
    count = len(chunks[number].members)

    def report(now: GroupState, progress: list[Progress]) -> None:
        separated = sum(network.separation_epoch >= 0 for network in progress)
        fields = {"chunk": f"{number + 1}/{len(chunks)}", "separated": f"{separated}/{count}"}
        diverged = int((~now.healthy).sum())
        reporter.show(int(now.epochs.max()), fields | ({"diverged": diverged} if diverged else {}))

    return report
