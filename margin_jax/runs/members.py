"""The records of networks that are trained together: an ordinary run folder for each, and what is measured of it."""

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from margin_jax import results
from margin_jax.data.split import Split
from margin_jax.network import Params
from margin_jax.runs import recorder, schedule
from margin_jax.runs.design import Member
from margin_jax.runs.schedule import Progress
from margin_jax.runs.summary import summarise_run
from margin_jax.runs.together import Measured

MOMENTS_FILE = "moments.json"


def member_path(workdir: pathlib.Path, member: Member) -> pathlib.Path:
    """The run folder of one network."""
    return workdir / "networks" / f"{member.number:03d}"


def moments_of(config: Any, found: Measured, train_loss: float, before: dict[str, Any]) -> list[str]:
    """Which of `tables.MOMENTS` a record is.

    Args:
      config: of the network.
      found: the record.
      train_loss: mean loss of its training examples.
      before: the moments that have come already.
    """
    limit, progress = config.sweep.train_loss, found.progress
    here = {"separation": progress.separation_epoch == found.epoch, "loss": 0 < train_loss <= limit,
            "convergence": progress.convergence_epoch == found.epoch,
            "end": schedule.phase_over(config, found.epoch, progress)}
    return [name for name, met in here.items() if met and name not in before]


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
        self.folder = results.RunFolder(path)
        self._config, self._split, self._origin, self._started = config, split, origin, time.monotonic()
        self._moments: dict[str, Any] = {}
        self._measure = measure
        self.over = (self.folder.path / "summary.json").is_file()
        if not (self.folder.path / "config.json").is_file():
            self.folder.start(description)

    def close(self) -> None:
        """Releases the folder."""
        self.folder.__exit__()

    def rewind(self, epoch: int) -> None:
        """Cuts off what was recorded after `epoch`, 0 for a fresh network; a network that is over stays as it is."""
        if self.over:
            return
        split, count = self._split, self._split.labels.size
        self.folder.rewind(epoch or -1, count)
        self.folder.write_mask(ids=split.ids, labels=split.labels, true_labels=split.true_labels,
                               mask=np.ones(count, bool), removed_epoch=np.full(count, -1, np.int32))
        path = self.folder.path / MOMENTS_FILE
        stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self._moments = {name: row for name, row in stored.items() if row["epoch"] <= epoch}

    def observe(self, found: Measured) -> None:
        """Appends a record, and notes the measures where it is a moment at which networks are compared."""
        rho = recorder.host_rho(found.params, self._config.rho)
        row = recorder.metrics_row(found.epoch, found.train, found.test, found.progress.mask, rho,
                                   time.monotonic() - self._started)
        kept = schedule.margins_due(self._config, found.epoch, found.progress)
        moments = moments_of(self._config, found, row["train_loss"], self._moments)
        self.folder.record(row, found.train.margins if kept or moments else None)
        if moments:
            self._moments |= dict.fromkeys(moments, row | self._measure(found, self._origin, self._split))
            self.folder.write_text(MOMENTS_FILE, json.dumps(self._moments, indent=2) + "\n")

    def finish(self, progress: Progress, diverged: dict[str, Any] | None) -> None:
        """Closes the run of this network."""
        if self.over:
            return
        self.folder.finish(summarise_run(self._config, self.folder.path, progress,
                                         "diverged" if diverged else "finished", diverged))
