"""Whether margin curves flatten from data separation to the end, with and without BatchNorm and L2 (section 4.3)."""

import csv
import io
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from plots import claims, flat, intervals, paper, style
from plots.intervals import Interval
from plots.kinds import Kind, read_kinds
from plots.sweep_folder import Sweep

BY = ("batch_norm", "weight_decay")
COLUMNS = ("batch_norm", "weight_decay", "network", "seed", "examples", "measure", "first_epoch", "first",
           "separation_epoch", "separation", "last_epoch", "last", "end_over_separation")


class Cell(NamedTuple):
    """Networks with the same BatchNorm and L2: which, and the flatness of each."""

    kind: Kind
    courses: tuple[flat.Course, ...]

    @property
    def name(self) -> str:
        """Such as "BatchNorm, L2 0.0005"."""
        return name_of(*self.kind.values)

    def change(self, measure: str, group: int = 0) -> Interval:
        """`Course.change` over seeds, one of which has no interval; `group` 0 is all examples, 1 + c the class c."""
        return intervals.t_interval(np.array([course.change(measure)[group] for course in self.courses]))


def name_of(batch_norm: float, weight_decay: float) -> str:
    """What figures call a kind of network."""
    return f"{'BatchNorm' if batch_norm else 'no BatchNorm'}, {f'L2 {weight_decay:g}' if weight_decay else 'no L2'}"


def gather(sweep: Sweep) -> dict[tuple[float, ...], Cell]:
    """Measures the flatness of every network of a sweep over BatchNorm and L2; raises OtherSweep for another one."""
    return {values: Cell(kind, tuple(flat.course(run) for run in kind.runs))
            for values, kind in read_kinds(sweep, BY, "flatness").items()}


def claim(cells: dict[tuple[float, ...], Cell], decay: float) -> dict[str, Any] | None:
    """Judges that margins flatten with BatchNorm and this L2, and not with one or none of them.

    A kind whose interval over seeds holds 0, or that has one seed alone, leaves the claim open.

    Returns:
      For JSON; None where one of the four kinds of network is missing.
    """
    both, others = cells.get((1.0, decay)), [cells.get(key) for key in ((1.0, 0.0), (0.0, decay), (0.0, 0.0))]
    if both is None or not all(others):
        return None
    found: dict[str, Any] = {"claim": paper.FIG03_CLAIM, "weight_decay": decay, "measures": {}}
    for measure in flat.MEASURES:
        only = [claims.above(_negative(both.change(measure))), *(claims.above(one.change(measure)) for one in others)]
        more = {one.name: _difference(one, both, measure) for one in others}
        found["measures"][measure] = {
            "verdict": claims.together(only), "flattens_more_with_both": claims.together(
                [claims.above(one) for one in more.values()]),
            "ln_end_over_separation_less_that_with_both": {name: claims.row(one) for name, one in more.items()}}
    found["verdict"] = claims.together([one["verdict"] for one in found["measures"].values()])
    return found


def _negative(interval: Interval) -> Interval:
    return interval._replace(mean=-interval.mean)


def _difference(one: Cell, both: Cell, measure: str) -> Interval:
    """By how much less one kind flattens, over the seeds that both have."""
    seeds = sorted(set(one.kind.seeds) & set(both.kind.seeds))
    first, second = ([cell.courses[cell.kind.seeds.index(seed)].change(measure)[0] for seed in seeds]
                     for cell in (one, both))
    return intervals.t_interval(np.array(first) - np.array(second))


def rows(cells: dict[tuple[float, ...], Cell]) -> list[dict[str, Any]]:
    """A row per network, measure and group of examples: flatness at the first record, separation and the end."""
    found = []
    for values, cell in cells.items():
        for network, seed, run, course in zip(cell.kind.networks, cell.kind.seeds, cell.kind.runs, cell.courses):
            for measure, numbers in course.values.items():
                change = np.exp(course.change(measure))
                for group, examples in enumerate(("all", *run.class_names)):
                    at = course.separation
                    found.append(dict(zip(COLUMNS, (
                        int(values[0]), values[1], network, seed, examples, measure, int(course.epochs[0]),
                        numbers[0, group], run.separation, np.nan if at is None else numbers[at, group],
                        int(course.epochs[-1]), numbers[-1, group], change[group]))))
    return found


def write(cells: dict[tuple[float, ...], Cell], folder: pathlib.Path, name: str) -> list[pathlib.Path]:
    """Writes the table as CSV, and as JSON the changes with their intervals and the verdict for each strength of L2."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None or value != value else value for key, value in row.items()}
                     for row in rows(cells))
    classes = next(iter(cells.values())).kind.runs[0].class_names
    listed = [{"batch_norm": bool(values[0]), "weight_decay": values[1], "networks": cell.kind.networks,
               "seeds": cell.kind.seeds, "diverged": cell.kind.diverged,
               "separation_epochs": [run.separation for run in cell.kind.runs],
               "ln_end_over_separation": {measure: {
                   examples: claims.row(cell.change(measure, group)) for group, examples in enumerate(("all", *classes))
               } for measure in flat.MEASURES}} for values, cell in cells.items()]
    decays = sorted({values[1] for values in cells if values[1] > 0})
    content = {"measures": flat.NAMES, "end": "mean over the last quarter of the epochs since separation",
               "claims": [one for one in (claim(cells, decay) for decay in decays) if one], "kinds": listed}
    return [style.write(folder / f"{name}.csv", text.getvalue().encode()),
            style.write(folder / f"{name}.json", f"{json.dumps(content, indent=2)}\n".encode())]
