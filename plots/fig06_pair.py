"""Two networks of a sweep from the same distribution of initial weights, and what their smallest margins share."""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from margin_jax import tables
from margin_jax.errors import InputError
from plots import gallery, paper, ranks, style
from plots.recorded import Recorded, read_run
from plots.sweep_folder import VARIED, Lacking, Sweep

COUNTS = (20, 200)
FEWEST = 3  # epochs at which both margins are known: two make no course


class Pair(NamedTuple):
    """Two networks.

    Attributes:
      numbers: theirs within the sweep.
      runs: their run folders.
      init_stds: of their initial weights, NaN where these are not normal.
      epochs: (E,) at which the margins of both are known, ascending.
      overlaps: by k, (E,) in percent.
      ends: by k, in percent, each network at the end of its own training.
    """

    numbers: tuple[int, int]
    runs: tuple[Recorded, Recorded]
    init_stds: tuple[float, float]
    epochs: np.ndarray
    overlaps: dict[int, np.ndarray]
    ends: dict[int, float]

    @property
    def examples(self) -> int:
        """N."""
        return self.runs[0].margins.ids.size


def choose(sweep: Sweep) -> tuple[int, int]:
    """The first two separated networks that differ in nothing but their seed.

    Raises:
      Lacking: there are no two.
    """
    rows = tables.rows(sweep.networks, status="finished")
    first: dict[tuple[float | None, ...], int] = {}
    for place, number in enumerate(rows["network"].astype(int).tolist()):
        values = [float(rows[name][place]) for name in VARIED]
        key = tuple(None if np.isnan(value) else value for value in values)
        if key in first:
            return first[key], number
        first[key] = number
    raise Lacking("figure 6 compares two separated networks of one distribution of initial weights, and "
                  f"{sweep.workdir} has {rows['network'].size} separated and no two alike; set sweep.seeds_per_std to "
                  "2 or more, or train for more epochs")


def read_pair(sweep: Sweep, numbers: tuple[int, int] | None = None) -> Pair:
    """Reads two networks.

    Args:
      sweep: the work folder.
      numbers: which; None takes `choose`.

    Raises:
      Lacking: no two to choose, or too few epochs with margins.
      InputError: numbers that the sweep does not have, or networks of other examples.
    """
    there = sweep.networks["network"].astype(int).tolist()
    if numbers is not None and (len(set(numbers)) != 2 or not set(numbers) <= set(there)):
        raise InputError(f"figure 6 takes two different networks of 0 to {max(there, default=0)}, got {numbers}")
    numbers = choose(sweep) if numbers is None else numbers
    runs = read_run(sweep.member(numbers[0])), read_run(sweep.member(numbers[1]))
    stored = runs[0].margins, runs[1].margins
    if not np.array_equal(stored[0].ids, stored[1].ids):
        raise InputError(f"networks {numbers[0]} and {numbers[1]} of {sweep.workdir} should have the same training "
                         "examples, and their ids differ; the files are not of one sweep")
    epochs, *places = np.intersect1d(stored[0].epochs, stored[1].epochs, return_indices=True)
    if epochs.size < FEWEST:
        raise Lacking(f"figure 6 shows overlaps through training: networks {numbers[0]} and {numbers[1]} should both "
                      f"have kept their margins at {FEWEST} epochs or more, got {epochs.size}; run the sweep with a "
                      "smaller record.margins_every")
    counts = [k for k in COUNTS if k <= stored[0].ids.size]
    courses = {k: np.array([overlap(runs, (one, other), k) for one, other in zip(*places)]) for k in counts}
    stds = [float(tables.rows(sweep.networks, network=number)["init_std"][0]) for number in numbers]
    return Pair(numbers, runs, (stds[0], stds[1]), epochs, courses, {k: overlap(runs, (-1, -1), k) for k in counts})


def support(run: Recorded, row: int, k: int) -> np.ndarray:
    """The ids of the k smallest margins at one record, from the smallest on; ties by id."""
    stored = run.margins
    return stored.ids[ranks.ascending(np.asarray(stored.margins[row]), stored.ids)[:k]]


def overlap(runs: tuple[Recorded, Recorded], rows: tuple[int, int], k: int) -> float:
    """Share of the k smallest margins in common, in percent, each run at its own record."""
    first, second = (support(run, row, k) for run, row in zip(runs, rows))
    return 100 * np.intersect1d(first, second).size / k


def write_json(pair: Pair, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes the numbers of figure 6, and the ids of its pictures, which may be passed on where they may not."""

    def number_of(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    def network(number: int, run: Recorded, std: float) -> dict[str, Any]:
        return {"network": number, "init_std": number_of(std), "seed": run.config["seed"],
                "separation_epoch": run.separation, "epoch": int(run.margins.epochs[-1]),
                "test_error": number_of(run.metrics["test_error"][-1]), "ids": support(run, -1, gallery.COUNT).tolist()}

    listed = [network(*one) for one in zip(pair.numbers, pair.runs, pair.init_stds)]
    content = {
        "networks": listed, "shared_ids": sorted(set(listed[0]["ids"]) & set(listed[1]["ids"])),
        "epochs": pair.epochs.tolist(),
        "overlap_percent": {str(k): values.tolist() for k, values in pair.overlaps.items()},
        "overlap_percent_at_the_ends": {str(k): value for k, value in pair.ends.items()},
        "chance_percent": {str(k): 100 * k / pair.examples for k in pair.overlaps},
        "paper": {"test_errors": paper.FIG06_ERRORS, "overlap_percent_of_200": paper.FIG06_OVERLAP},
    }
    return style.write(folder / f"{name}.json", f"{json.dumps(content, indent=2)}\n".encode())
