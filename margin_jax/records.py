"""Reading a run folder: NumPy arrays and dictionaries, no JAX, also while the run still goes on."""

import csv
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from margin_jax.errors import InputError

METRICS = ("epoch", "train_loss", "train_error", "test_loss", "test_error", "rho", "margin_min", "margin_auc", "kept",
           "seconds")
WHOLE = ("epoch", "kept")
# Margins of a run that goes on: rows of one int32, the epoch, and N raw margins float32. Not every row of metrics.csv
# need have one.
PARTIAL = "margins.partial"


class Margins(NamedTuple):
    """Margins of every training example at the epochs whose margins were kept, by default all recorded ones.

    Attributes:
      epochs: (E,) int64, ascending, each of metrics.csv.
      ids: (N,) int64, ascending.
      labels: (N,) int32, what was trained on.
      margins: (E, N) float32, raw margins on logits; removed examples included. May be a memory map.
      rho: (E,) float64.
    """

    epochs: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    margins: np.ndarray
    rho: np.ndarray

    def normalised(self, row: int) -> np.ndarray:
        """Normalised margins (N,) float64 of one recorded epoch, by its row."""
        return self.margins[row].astype(np.float64) / self.rho[row]


def _need(path: pathlib.Path) -> pathlib.Path:
    if not path.is_file():
        raise InputError(f"{path.parent} is not a run folder of margin_jax: it has no {path.name}; "
                         "give the --workdir of a run")
    return path


def read_json(workdir: str | pathlib.Path, name: str) -> dict[str, Any]:
    """The dictionary in `config.json` or `summary.json`."""
    return json.loads(_need(pathlib.Path(workdir) / name).read_text(encoding="utf-8"))


def read_metrics(workdir: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Columns of metrics.csv, each (E,): int64 for epoch and kept, float64 for the others.

    Errors are in percent, losses in nats, `seconds` counts from the run's start. A line still being written is left
    out.
    """
    with open(_need(pathlib.Path(workdir) / "metrics.csv"), encoding="utf-8", newline="") as file:
        text = file.read()
    rows = list(csv.DictReader(text[:text.rfind("\n") + 1].splitlines()))
    return {name: np.array([row[name] for row in rows], np.float64).astype(np.int64 if name in WHOLE else np.float64)
            for name in METRICS}


def read_mask(workdir: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Arrays of mask.npz, each (N,): ids, labels, true_labels, mask (kept now), removed_epoch (-1 where kept)."""
    with np.load(_need(pathlib.Path(workdir) / "mask.npz")) as file:
        return dict(file)


def read_margins(workdir: str | pathlib.Path) -> Margins:
    """The margins of a run, finished or not.

    Raises:
      InputError: no run folder, or nothing recorded yet.
    """
    workdir = pathlib.Path(workdir)
    if (workdir / "margins.npz").is_file():
        with np.load(workdir / "margins.npz") as file:
            return Margins(*(file[name] for name in Margins._fields))
    mask, metrics = read_mask(workdir), read_metrics(workdir)
    rows = partial_rows(workdir / PARTIAL, mask["ids"].size)
    epochs = np.ascontiguousarray(rows[:, 0]).view(np.int32).astype(np.int64)
    epochs = epochs[:np.searchsorted(epochs, metrics["epoch"][-1:].sum(), side="right")]  # with their line of metrics
    if not epochs.size or not metrics["epoch"].size:
        raise InputError(f"{workdir} has no recorded epoch: the run has just started, or diverged before its first one")
    rho = metrics["rho"][np.searchsorted(metrics["epoch"], epochs)]
    return Margins(epochs, mask["ids"], mask["labels"], rows[:epochs.size, 1:], rho)


def partial_rows(path: pathlib.Path, count: int) -> np.ndarray:
    """The whole rows (E, 1 + N) of PARTIAL as a read-only map, the first column the bits of an int32; N is `count`."""
    stored = path.stat().st_size // (4 * (count + 1)) if path.is_file() else 0
    return np.memmap(path, np.float32, "r", shape=(stored, count + 1)) if stored else np.empty((0, count + 1),
                                                                                              np.float32)
