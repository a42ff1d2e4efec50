"""One chunk of a sweep: networks that are trained together by one process, and their records."""

import dataclasses
import pathlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from margin_jax import results
from margin_jax.checkpoint import Checkpoints
from margin_jax.data.split import Dataset, Split
from margin_jax.data.subsets import randomise_labels
from margin_jax.models.build import make_network
from margin_jax.network import Network, Params
from margin_jax.runs.design import Member, member_config
from margin_jax.runs.group import Course, Group, course
from margin_jax.runs.kinds import split_by_kind
from margin_jax.runs.members import MemberRecords, member_path
from margin_jax.runs.schedule import Progress
from margin_jax.runs.together import Measured, Training
from margin_jax.state import TrainState, make_state


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


class Starts:
    """What each network starts from: initial weights, settings, labels."""

    def __init__(self, dataset: Dataset, optimizer: optax.GradientTransformation) -> None:
        """Takes the data, whatever their labels, and the optimiser of all networks."""
        self._dataset, self._optimizer = dataset, optimizer
        self._networks: dict[str, Network] = {}
        self._splits: dict[float, Split] = {}

    def state(self, config: Any) -> TrainState:
        """The untrained network of a member's config, in host memory."""
        key = repr(config.model.to_dict())
        if key not in self._networks:
            self._networks[key] = make_network(config.model, len(self._dataset.class_names), jax.default_backend())
        state = make_state(self._networks[key], self._optimizer, self._dataset.train.images.shape[1:], config.seed)
        own = {name: np.float32(config.optimizer[name]) for name in ("learning_rate", "weight_decay")}
        return jax.device_get(state._replace(opt_state=state.opt_state._replace(
            hyperparams=state.opt_state.hyperparams | own)))

    def split(self, config: Any) -> Split:
        """The training set with the labels of a member's config."""
        fraction, train = config.data.random_fraction, self._dataset.train
        if fraction not in self._splits:
            clean = dataclasses.replace(train, labels=train.true_labels)
            self._splits[fraction] = clean if not fraction else randomise_labels(
                clean, fraction, config.data.random_seed, len(self._dataset.class_names))
        return self._splits[fraction]


def train_chunk(config: Any, chunk: Chunk, group: Group, starts: Starts, workdir: pathlib.Path,
                describe: Callable[[Any], dict[str, Any]], measure: Callable[[Measured, Params, Split], dict[str, Any]],
                report: Callable[[Course, list[Progress]], None]) -> None:
    """Trains the networks of a chunk, or goes on with them; one that is over stays as it is.

    Args:
      config: of the sweep.
      chunk: which networks.
      group: compiled functions.
      starts: what each network starts from.
      workdir: of the sweep.
      describe: gives what the config.json of a network's config is to hold.
      measure: as of `MemberRecords`.
      report: is told after every epoch how far the networks are.

    Raises:
      InputError: another process is training the chunk.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(results.RunFolder(chunk.path))
        if chunk.over:  # another process has ended it meanwhile
            return
        configs = [member_config(config, member) for member in chunk.members]
        states = [starts.state(own) for own in configs]
        splits = [starts.split(own) for own in configs]
        writers = []
        for member, own, state, split in zip(chunk.members, configs, states, splits, strict=True):
            writer = MemberRecords(member_path(workdir, member), config, split, state.params, describe(own),
                                   measure)
            stack.callback(writer.close)
            writers.append(writer)
        training = Training(config, group, stack.enter_context(Checkpoints(chunk.path / "checkpoints", own=True)),
                            course(states), splits[0].labels.size, np.stack([split.labels for split in splits]),
                            lambda found: writers[found.place].observe(found), report=report)
        for writer, epoch in zip(writers, training.course.epochs, strict=True):
            writer.rewind(int(epoch))
        ended = training.run()
        for k, writer in enumerate(writers):
            bad = {"epoch": int(ended.bad_epoch[k]), "step": int(ended.bad_step[k]) + 1, "checkpoint_epoch": None}
            writer.finish(training.progress[k], None if ended.healthy[k] else bad)
        folder.finish({"status": "finished", "networks": [member.number for member in chunk.members]})
