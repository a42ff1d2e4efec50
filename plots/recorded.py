"""What the figures need of a run folder, read once, from a finished run or one that still goes on."""

import dataclasses
import pathlib
from typing import Any, NamedTuple

import numpy as np

from margin_jax import records
from margin_jax.errors import InputError


class Lacking(InputError):
    """A run that is whole, but not made for a figure: too few epochs or examples, or some left out."""


class Removal(NamedTuple):
    """Examples left out after an epoch: the epoch, and how many stayed."""

    epoch: int
    kept: int


@dataclasses.dataclass(frozen=True)
class Recorded:
    """One run folder.

    Attributes:
      workdir: the folder.
      config: the run's nested config.
      class_names: one per class.
      metrics: the columns of metrics.csv, each (E,).
      margins: raw margins (E', N) and what belongs to them; a run that goes on may have E' < E.
      mask: ids, labels, true_labels, mask and removed_epoch, each (N,).
      separation: the epoch of data separation, None before it.
      removals: in order of epoch; empty without any.
      diverged: whether the run stopped because it diverged.
    """

    workdir: pathlib.Path
    config: dict[str, Any]
    class_names: tuple[str, ...]
    metrics: dict[str, np.ndarray]
    margins: records.Margins
    mask: dict[str, np.ndarray]
    separation: int | None
    removals: tuple[Removal, ...]
    diverged: bool

    def normalised(self, row: int) -> np.ndarray:
        """Normalised margins (N,) float64 of one recorded epoch; NaN where a diverged run has no number."""
        with np.errstate(all="ignore"):
            values = self.margins.normalised(row)
        return np.where(np.isfinite(values), values, np.nan)


def read_run(workdir: str | pathlib.Path) -> Recorded:
    """Reads a run folder.

    Args:
      workdir: the folder of a run, finished or not.

    Raises:
      InputError: no run folder, nothing recorded yet, or files that do not belong together.
    """
    workdir = pathlib.Path(workdir)
    description = records.read_json(workdir, "config.json")
    metrics, mask, margins = records.read_metrics(workdir), records.read_mask(workdir), records.read_margins(workdir)
    if not np.array_equal(mask["ids"], margins.ids):
        raise InputError(f"mask.npz and margins.npz of {workdir} list different ids: the files are not of one run")
    summary = records.read_json(workdir, "summary.json") if (workdir / "summary.json").is_file() else None
    names = tuple(str(name) for name in description["data"]["class_names"])
    return Recorded(workdir, description["config"], names, metrics, margins, mask, _separation(summary, metrics),
                    _removals(summary, mask), bool(summary) and summary["status"] == "diverged")


def _separation(summary: dict[str, Any] | None, metrics: dict[str, np.ndarray]) -> int | None:
    if summary is not None:
        return summary["separation_epoch"]
    zero = metrics["epoch"][metrics["train_error"] == 0]
    return int(zero[0]) if zero.size else None


def _removals(summary: dict[str, Any] | None, mask: dict[str, np.ndarray]) -> tuple[Removal, ...]:
    removed = mask["removed_epoch"]
    epochs = np.unique(removed[removed >= 0])
    if summary is not None and summary["removal"] and epochs.size <= 1:
        return (Removal(summary["removal"]["epoch"], summary["removal"]["kept"]),)
    # The mask alone knows of several removals, and of one in a run that has no summary yet.
    return tuple(Removal(int(epoch), int(np.sum((removed < 0) | (removed > epoch)))) for epoch in epochs)
