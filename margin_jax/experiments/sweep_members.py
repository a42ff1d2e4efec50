"""The networks of a sweep: which they are, and the run folder of each with what is measured of it."""

import itertools
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from margin_jax.config import default_config
from margin_jax.data.dataset import Split
from margin_jax.errors import InputError
from margin_jax.experiments import recording, schedule
from margin_jax.experiments.many_networks import Measured
from margin_jax.experiments.recording import summarise_run
from margin_jax.experiments.schedule import Progress
from margin_jax.models.network import Params
from margin_jax.run_folder import checksums, read, write


class Member(NamedTuple):
    """What one network of a sweep does not share with all others.

    Attributes:
      number: 0, 1, ... within the sweep.
      init_std: standard deviation of its normal initial weights; None where they are those of `model.init`.
      seed, learning_rate, weight_decay, random_fraction, batch_norm: its own values of these keys of the config.
    """

    number: int
    init_std: float | None
    seed: int
    learning_rate: float
    weight_decay: float
    random_fraction: float
    batch_norm: bool


def members(config: Any) -> list[Member]:
    """The networks of a sweep, in order of BatchNorm, std, seed, learning rate, weight decay and label noise.

    Networks that differ in nothing but learning rate, weight decay or label noise share their initial weights; those
    that differ in BatchNorm share their seeds. Networks of one architecture follow one another, so that they can be
    trained together.

    Raises:
      InputError: `sweep.networks` cannot be made up of the other values.
    """
    section = config.sweep
    others = list(itertools.product(tuple(section.learning_rates) or (config.optimizer.learning_rate,),
                                    tuple(section.weight_decays) or (config.optimizer.weight_decay,),
                                    tuple(section.random_fractions) or (config.data.random_fraction,)))
    kinds = tuple(section.batch_norms) or (config.model.batch_norm,)
    settings = len(kinds) * len(others)
    stds: list[float | None] = [None]
    seeds, rest = divmod(section.networks, settings)
    if len(section.init_stds):
        seeds = section.seeds_per_std
        count, rest = divmod(section.networks, seeds * settings)
        stds = np.round(np.linspace(section.init_stds[0], section.init_stds[-1], count), 12).tolist()
    if rest or section.networks < settings:
        raise InputError(f"config: sweep.networks should be a multiple of the {settings} combinations of learning "
                         f"rates, weight decays, random fractions and BatchNorm, times sweep.seeds_per_std where "
                         f"standard deviations differ, got {section.networks}")
    if len(section.init_stds) and (len(stds) > 1) != (len(section.init_stds) > 1):
        raise InputError(f"config: sweep.networks = {section.networks} gives {len(stds)} standard deviations of "
                         f"{seeds} seeds and {settings} settings each, and sweep.init_stds has "
                         f"{len(section.init_stds)} value(s); change one of them")
    if config.seed + len(stds) * seeds > 2**32:
        raise InputError(f"config: seed should leave room for {len(stds) * seeds} seeds below 2^32, got {config.seed}")
    starts = [(std, config.seed + place * seeds + k) for place, std in enumerate(stds) for k in range(seeds)]
    return [Member(number, *start, *other, kind)
            for number, (kind, start, other) in enumerate(itertools.product(kinds, starts, others))]


def member_config(config: Any, member: Member) -> Any:
    """The config with which launch/train.py would train a network of the sweep alone."""
    alone = config.copy_and_resolve_references()
    alone.sweep = default_config().sweep
    alone.seed, alone.optimizer.learning_rate = member.seed, member.learning_rate
    alone.optimizer.weight_decay = member.weight_decay
    alone.data.random_fraction, alone.model.batch_norm = member.random_fraction, member.batch_norm
    if config.sweep.label_draws == "by_seed":
        alone.data.random_seed += member.seed - config.seed
    if member.init_std is not None:
        alone.model.init, alone.model.init_std = "normal", member.init_std
    return alone


MOMENTS_FILE = "moments.json"


def member_path(workdir: pathlib.Path, member: Member) -> pathlib.Path:
    """The run folder of one network."""
    return workdir / "networks" / f"{member.number:03d}"


def moments_of(config: Any, record: Measured, train_loss: float, before: dict[str, Any]) -> list[str]:
    """Which of `tables.MOMENTS` a record is.

    Args:
      config: of the network.
      record: of it.
      train_loss: mean loss of its training examples.
      before: the moments that have come already.
    """
    limit, progress = config.sweep.train_loss, record.progress
    reached = {"separation": progress.separation_epoch == record.epoch, "loss": 0 < train_loss <= limit,
               "convergence": progress.convergence_epoch == record.epoch,
               "end": schedule.phase_over(config, record.epoch, progress)}
    return [name for name, met in reached.items() if met and name not in before]


class MemberRecords:
    """The run folder of one network of a sweep; moments.json holds its measures where networks are compared."""

    def __init__(self, path: pathlib.Path, config: Any, split: Split, origin: Params,
                 description: dict[str, Any], measure: Callable[[Measured, Params, Split], dict[str, Any]]) -> None:
        """Opens the folder of a network, new or of an interrupted sweep.

        Args:
          path: the folder.
          config: of the sweep.
          split: the training set with its labels.
          origin: its initial weights.
          description: what its config.json is to hold.
          measure: (record, initial weights, training set) -> what is to be known of it where networks are compared.
        """
        self.folder = write.RunFolder(path)
        self._config, self._split, self._origin, self._started = config, split, origin, time.monotonic()
        self._moments: dict[str, Any] = {}
        self._measure = measure
        self.over = (self.folder.path / "summary.json").is_file()
        if not (self.folder.path / "config.json").is_file():
            self.folder.start(description)

    def close(self) -> None:
        """Releases the folder."""
        self.folder.__exit__()

    @property
    def loses(self) -> bool:
        """Whether beginning anew would lose records; versions without checksums made them before any checkpoint."""
        schema = read.read_json(self.folder.path, "config.json").get("schema", 1)
        return not self.over and schema > 1 and self.folder.recorded() > 0

    def marks(self) -> dict[str, Any]:
        """What a checkpoint says of the records."""
        return self.folder.marks()

    def rewind(self, epoch: int, marks: dict[str, Any] | None) -> None:
        """Cuts off what was recorded after a checkpoint; a network that is over stays as it is.

        Args:
          epoch: 0 for a fresh network.
          marks: what the checkpoint says of the records, None without any.
        """
        if self.over:
            return
        split, count = self._split, self._split.labels.size
        self.folder.rewind(epoch or -1, count, marks)
        self.folder.write_mask(ids=split.ids, labels=split.labels, true_labels=split.true_labels,
                               mask=np.ones(count, bool), removed_epoch=np.full(count, -1, np.int32))
        path = self.folder.path / MOMENTS_FILE
        checksums.check_absent(path)
        stored = checksums.parsed(path, checksums.checked_bytes(path)) if path.is_file() else {}
        self._moments = {name: row for name, row in stored.items() if row["epoch"] <= epoch}

    def observe(self, record: Measured) -> None:
        """Appends a record, and notes the measures where it is a moment at which networks are compared."""
        if self.over:  # the checkpoint that the group goes on from is older than the end of this network
            return
        rho = recording.host_rho(record.params, self._config.rho, record.batch_stats)
        row = recording.metrics_row(record.epoch, record.train, record.test, record.progress.mask, rho,
                                    time.monotonic() - self._started)
        kept = schedule.margins_due(self._config, record.epoch, record.progress)
        moments = moments_of(self._config, record, row["train_loss"], self._moments)
        self.folder.record(row, record.train.margins if kept or moments else None)
        if moments:
            self._moments |= dict.fromkeys(moments, row | self._measure(record, self._origin, self._split))
            self.folder.write_text(MOMENTS_FILE, json.dumps(self._moments, indent=2) + "\n")

    def finish(self, progress: Progress, diverged: dict[str, Any] | None) -> None:
        """Closes the run of this network."""
        if self.over:
            return
        self.folder.finish(summarise_run(self._config, self.folder.path, progress,
                                         "diverged" if diverged else "finished", diverged))
