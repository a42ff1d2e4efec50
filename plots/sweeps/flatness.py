"""How flat margin curves are through training, with and without BatchNorm and L2 (to figures 3, 13 and 14).

Flatness is taken epoch by epoch, for all examples and for each class, and compared between data separation and the end
(section 4.3); `margin_jax.theory.distribution` defines it.
"""

import csv
import io
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from margin_jax.run_folder.read import Recorded
from margin_jax.statistics import estimates
from margin_jax.statistics.estimates import Estimate
from margin_jax.theory.distribution import coefficient_of_variation, relative_iqr
from plots import paper, style
from plots.sweeps.read import Condition, Sweep, read_kinds

MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"cv": coefficient_of_variation, "iqr": relative_iqr}
NAMES = {"cv": "standard deviation / mean", "iqr": "interquartile range / median"}


class FlatnessCurve(NamedTuple):
    """The flatness of one network through training.

    Attributes:
      epochs: (E,) whose margins were kept.
      values: by measure, (E, 1 + C): of all examples, then of each class; NaN where a measure means nothing.
      separation: the row of the epoch of data separation, None without it.
    """

    epochs: np.ndarray
    values: dict[str, np.ndarray]
    separation: int | None

    def change(self, measure: str) -> np.ndarray:
        """(1 + C,) ln of the value at the end over that at separation, below 0 for flatter curves.

        The end is the geometric mean over the last quarter of the epochs since separation: with BatchNorm single epochs
        differ from their neighbours by as much as hundreds do. NaN without separation or an epoch after it.
        """
        values = self.values[measure]
        if self.separation is None or self.separation == len(values) - 1:
            return np.full(values.shape[1], np.nan)
        start, last = self.epochs[self.separation], self.epochs[-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            logs = np.log(values)
            change = logs[self.epochs > last - (last - start) / 4].mean(0) - logs[self.separation]
        return np.where(np.isfinite(change), change, np.nan)


def compute_course(run: Recorded) -> FlatnessCurve:
    """Reads the flatness of a run at every epoch whose margins were kept, an epoch at a time."""
    labels = run.margins.labels
    groups = [np.ones(labels.size, bool), *(labels == number for number in range(len(run.class_names)))]
    by_measure: dict[str, list[list[float]]] = {name: [] for name in MEASURES}
    for row in range(run.margins.epochs.size):
        curve = run.normalised(row)
        for name, measure in MEASURES.items():
            by_measure[name].append([float(measure(curve[group])) if group.any() else np.nan for group in groups])
    measures = {name: np.array(rows) for name, rows in by_measure.items()}
    return FlatnessCurve(run.margins.epochs, measures, separation_row(run))


def separation_row(run: Recorded) -> int | None:
    """The row of a run's kept margins at data separation, None where it did not separate."""
    rows = np.flatnonzero(run.margins.epochs == run.separation) if run.separation is not None else np.zeros(0, int)
    return int(rows[0]) if rows.size else None


BY = ("batch_norm", "weight_decay")
COLUMNS = ("batch_norm", "weight_decay", "network", "seed", "examples", "measure", "first_epoch", "first",
           "separation_epoch", "separation", "last_epoch", "last", "end_over_separation")


class Cell(NamedTuple):
    """Networks with the same BatchNorm and L2: which, and the flatness of each."""

    kind: Condition
    courses: tuple[FlatnessCurve, ...]

    @property
    def name(self) -> str:
        """Such as "BatchNorm, L2 0.0005"."""
        return name_of(*self.kind.values)

    def change(self, measure: str, group: int = 0) -> Estimate:
        """The change over seeds, one of which has no interval; `group` 0 is all examples, 1 + c the class c."""
        return estimates.t_interval(np.array([course.change(measure)[group] for course in self.courses]))


def name_of(batch_norm: float, weight_decay: float) -> str:
    """What figures call a kind of network."""
    return f"{'BatchNorm' if batch_norm else 'no BatchNorm'}, {f'L2 {weight_decay:g}' if weight_decay else 'no L2'}"


def compute_cells(sweep: Sweep) -> dict[tuple[float, ...], Cell]:
    """Measures the flatness of every network of a sweep over BatchNorm and L2; raises OtherSweep for another one."""
    return {values: Cell(kind, tuple(compute_course(run) for run in kind.runs))
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
    judged: dict[str, Any] = {"claim": paper.FIG03_CLAIM, "weight_decay": decay, "measures": {}}
    for measure in MEASURES:
        only = [paper.above(_negative(both.change(measure))), *(paper.above(other.change(measure)) for other in others)]
        more = {other.name: _difference(other, both, measure) for other in others}
        judged["measures"][measure] = {
            "verdict": paper.together(only), "flattens_more_with_both": paper.together(
                [paper.above(other) for other in more.values()]),
            "ln_end_over_separation_less_that_with_both": {name: paper.row(other) for name, other in more.items()}}
    judged["verdict"] = paper.together([other["verdict"] for other in judged["measures"].values()])
    return judged


def _negative(estimate: Estimate) -> Estimate:
    return Estimate(-estimate.value, -estimate.high, -estimate.low, estimate.n)


def _difference(other: Cell, both: Cell, measure: str) -> Estimate:
    """By how much less one kind flattens, over the seeds that both have."""
    seeds = sorted(set(other.kind.seeds) & set(both.kind.seeds))
    first, second = ([cell.courses[cell.kind.seeds.index(seed)].change(measure)[0] for seed in seeds]
                     for cell in (other, both))
    return estimates.t_interval(np.array(first) - np.array(second))


def rows(cells: dict[tuple[float, ...], Cell]) -> list[dict[str, Any]]:
    """A row per network, measure and group of examples: flatness at the first record, separation and the end."""
    table = []
    for values, cell in cells.items():
        for network, seed, run, course in zip(cell.kind.networks, cell.kind.seeds, cell.kind.runs, cell.courses):
            for measure, numbers in course.values.items():
                change = np.exp(course.change(measure))
                for group, examples in enumerate(("all", *run.class_names)):
                    at = course.separation
                    table.append(dict(zip(COLUMNS, (
                        int(values[0]), values[1], network, seed, examples, measure, int(course.epochs[0]),
                        numbers[0, group], run.separation, np.nan if at is None else numbers[at, group],
                        int(course.epochs[-1]), numbers[-1, group], change[group]))))
    return table


def write_tables(cells: dict[tuple[float, ...], Cell], folder: pathlib.Path, name: str) -> list[pathlib.Path]:
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
                   examples: paper.row(cell.change(measure, group)) for group, examples in enumerate(("all", *classes))
               } for measure in MEASURES}} for values, cell in cells.items()]
    decays = sorted({values[1] for values in cells if values[1] > 0})
    content = {"measures": NAMES, "end": "mean over the last quarter of the epochs since separation",
               "claims": [judged for judged in (claim(cells, decay) for decay in decays) if judged], "kinds": listed}
    return [style.write(folder / f"{name}.csv", text.getvalue().encode()),
            style.write(folder / f"{name}.json", f"{json.dumps(content, indent=2)}\n".encode())]


_LABELS = {"cv": "std / mean", "iqr": "IQR / median"}


@style.styled
def draw_figure(cells: dict[tuple[float, ...], Cell], data: str) -> Figure:
    """Draws a row of panels for each measure, a column for each kind of network.

    Args:
      cells: by (BatchNorm, L2).
      data: the name of the data set.

    Returns:
      The figure; its axes hold a line "all-R" per network and lines "class-C" of the first one; separation is marked.
    """
    fig = style.new_figure(style.DOUBLE, 4.4)
    panels = fig.subplots(len(MEASURES), len(cells), sharex=True, sharey="row", squeeze=False)
    for measure, line in zip(MEASURES, panels):
        for axes, cell in zip(line, cells.values()):
            _draw(axes, measure, cell)
        _log(line[0], measure, list(cells.values()))
        line[0].set_ylabel(_LABELS[measure])
    for axes, cell in zip(panels[0], cells.values()):
        axes.set_title(f"{cell.name.replace(', ', chr(10))}\n{axes.get_title()}", fontsize=7)
    last = max(int(course.epochs[-1]) for cell in cells.values() for course in cell.courses)
    panels[0, 0].set_xlim(0, last * 1.03)
    panels[0, 0].set_xticks(style.whole_ticks(0, last, most=max(2, 16 // len(cells))))
    fig.suptitle(f"Flatness of the margin curve on {data} (0: flat)")
    fig.supxlabel("epoch (black: all examples, each seed; blue: each class, first seed; dotted: data separation, "
                  "before which lines may leave the frame)\nend/sep.: mean over the last quarter of the epochs since "
                  "separation, over the value at separation; 95% interval over seeds", fontsize=7)
    return fig


def _draw(axes: Axes, measure: str, cell: Cell) -> None:
    for place, (network, course) in enumerate(zip(cell.kind.networks, cell.courses)):
        values = course.values[measure]
        if not place:
            for number in range(1, values.shape[1]):
                axes.plot(course.epochs, values[:, number], color=style.BLUE, linewidth=0.5, alpha=0.6,
                          gid=f"class-{number - 1}")
        axes.plot(course.epochs, values[:, 0], color="black", linewidth=0.8 if place else 1.2, gid=f"all-{network}")
        if course.separation is not None:
            axes.axvline(course.epochs[course.separation], color=style.VERMILLION, linewidth=0.8, linestyle=":",
                         zorder=1, gid="separation")
    axes.set_title(_ratio(cell, measure), fontsize=7)


def _ratio(cell: Cell, measure: str) -> str:
    change = cell.change(measure)
    if not np.isfinite(change.value):
        return "not separated" if cell.kind.networks else "diverged"
    ends = ""
    if np.isfinite(change.low):
        ends = f"\n[{math.exp(change.low):.2f}, {math.exp(min(change.high, 700)):.2f}]"
    return f"end/sep. {math.exp(change.value):.2f}{ends}"


def _log(axes: Axes, measure: str, cells: list[Cell]) -> None:
    """A log axis for the values since separation, or of the later half of the epochs without it.

    While a network is hardly trained its mean margin is close to 0, and the share that the spread is of it has no end.
    """
    late = [course.values[measure][len(course.epochs) // 2 if course.separation is None else course.separation:]
            for cell in cells for course in cell.courses]
    values = np.concatenate([curve.ravel() for curve in late] or [np.ones(1)])
    values = values[np.isfinite(values) & (values > 0)]
    axes.set_yscale("log")
    if values.size:
        axes.set_ylim(values.min() / 1.2, values.max() * 1.3)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
