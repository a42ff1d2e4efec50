"""Two networks from the same distribution of initial weights: errors, and which smallest margins they share (fig. 6).

In a figure of its own, the pictures of their smallest margins at the end of training, the shared ones framed.
"""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from margin_jax.errors import InputError
from margin_jax.run_folder import tables as columns
from margin_jax.run_folder.read import Recorded, read_run
from plots import paper, style
from plots.paper import plain
from plots.runs import gallery, read
from plots.style import Lacking
from plots.sweeps.read import VARIED, Sweep

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
    rows = columns.rows(sweep.networks, status="finished")
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
    networks = sweep.networks["network"].astype(int).tolist()
    if numbers is not None and (len(set(numbers)) != 2 or not set(numbers) <= set(networks)):
        raise InputError(f"figure 6 takes two different networks of 0 to {max(networks, default=0)}, got {numbers}")
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
    courses = {k: np.array([_percent_shared(runs, rows, k) for rows in zip(*places)]) for k in counts}
    stds = [float(columns.rows(sweep.networks, network=number)["init_std"][0]) for number in numbers]
    return Pair(numbers, runs, (stds[0], stds[1]), epochs, courses,
                {k: _percent_shared(runs, (-1, -1), k) for k in counts})


def _smallest_ids(run: Recorded, row: int, k: int) -> np.ndarray:
    """The support set of k at one record, without margins that are no numbers."""
    return run.margins.ids[read.ranked_rows(np.asarray(run.margins.margins[row]), run.margins.ids)[:k]]


def _percent_shared(runs: tuple[Recorded, Recorded], rows: tuple[int, int], k: int) -> float:
    """Share of the k smallest margins in common, each run at its own record."""
    return read.percent_shared(*(_smallest_ids(run, row, k) for run, row in zip(runs, rows)), k)


def write_numbers(pair: Pair, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes the numbers of figure 6, and the ids of its pictures, which may be passed on where they may not."""

    def network(number: int, run: Recorded, std: float) -> dict[str, Any]:
        return {"network": number, "init_std": plain(std), "seed": run.config["seed"],
                "separation_epoch": run.separation, "epoch": int(run.margins.epochs[-1]),
                "test_error": plain(run.metrics["test_error"][-1]),
                "ids": _smallest_ids(run, -1, gallery.COUNT).tolist()}

    listed = [network(*fields) for fields in zip(pair.numbers, pair.runs, pair.init_stds)]
    content = {
        "networks": listed, "shared_ids": sorted(set(listed[0]["ids"]) & set(listed[1]["ids"])),
        "epochs": pair.epochs.tolist(),
        "overlap_percent": {str(k): values.tolist() for k, values in pair.overlaps.items()},
        "overlap_percent_at_the_ends": {str(k): value for k, value in pair.ends.items()},
        "chance_percent": {str(k): 100 * k / pair.examples for k in pair.overlaps},
        "paper": {"test_errors": paper.FIG06_ERRORS, "overlap_percent_of_200": paper.FIG06_OVERLAP},
    }
    return style.write(folder / f"{name}.json", f"{json.dumps(content, indent=2)}\n".encode())


_COLOURS = (style.BLUE, style.ORANGE)
_LOOKS = {20: ("o", "black"), 200: ("s", style.VERMILLION)}
_TICKS, _LINEAR = (0, 0.5, 1, 2, 5, 10, 20, 50, 100), 1.0


@style.styled
def draw_figure(pair: Pair, data: str) -> Figure:
    """Draws train and test error of both, and the overlap of their smallest margins, per epoch.

    Args:
      pair: the two networks.
      data: the name of the data set.

    Returns:
      The figure: its first axes show the errors, with gids "train-R" and "test-R", its second the overlaps in percent,
      with gids "overlap-K" and "chance-K". Separation is marked in both.
    """
    fig = style.new_figure(style.SINGLE, 4.7)
    top, bottom = fig.subplots(2, 1, sharex=True)
    stds = list(dict.fromkeys(f"{std:g}" for std in pair.init_stds if not np.isnan(std)))
    std = f", init std {' and '.join(stds)}" if stds else ""
    fig.suptitle(f"networks {pair.numbers[0]} and {pair.numbers[1]} on {data}{std}")
    _errors(top, pair)
    _overlaps(bottom, pair)
    for axes in (top, bottom):
        for run, colour in zip(pair.runs, _COLOURS):
            if run.separation is not None:
                axes.axvline(run.separation, color=colour, linewidth=0.8, linestyle=":", zorder=1, gid="separation")
    last = max(int(run.metrics["epoch"][-1]) for run in pair.runs)
    bottom.set_xlim(0, last * 1.03)
    bottom.set_xticks(style.whole_ticks(0, last))
    bottom.set_xlabel("epoch (dotted: data separation of each network)")
    fig.align_ylabels([top, bottom])
    return fig


def _errors(axes: Axes, pair: Pair) -> None:
    highest = 1.0
    for number, run, colour in zip(pair.numbers, pair.runs, _COLOURS):
        for kind, line in (("train", "--"), ("test", "-")):
            values = run.metrics[f"{kind}_error"]
            axes.plot(run.metrics["epoch"], values, color=colour, linestyle=line, linewidth=0.9,
                      label=f"{kind}, network {number}", gid=f"{kind}-{number}")
            highest = max(highest, float(np.nanmax(values, initial=0.0)))
    # Errors fall from half the examples to none: a log scale, linear below one per cent.
    axes.set_yscale("symlog", linthresh=_LINEAR, linscale=0.4)
    axes.yaxis.set_major_locator(FixedLocator(_TICKS))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylim(-0.06, min(1.25 * highest, 130))
    axes.set_ylabel(f"error (%, log above {_LINEAR:g})")
    last = " and ".join(f"{run.metrics['test_error'][-1]:.2f}" for run in pair.runs)
    printed = " and ".join(f"{error:.2f}" for error in paper.FIG06_ERRORS)
    axes.set_title(f"test error at the end {last}%\n(paper, CIFAR-2: {printed}%)", fontsize=7, pad=24)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 0.98), ncols=2, borderpad=0)


def _overlaps(axes: Axes, pair: Pair) -> None:
    low, high = paper.FIG06_OVERLAP
    for k, values in pair.overlaps.items():
        marker, colour = _LOOKS[k]
        axes.plot(pair.epochs, values, color=colour, marker=marker if pair.epochs.size <= 60 else "", markersize=3,
                  label=f"{k} smallest", gid=f"overlap-{k}")
    axes.axhspan(low, high, color=style.GREY, alpha=0.25, linewidth=0, zorder=0, label=f"paper, 200: {low}–{high}%")
    for k in pair.overlaps:
        chance = 100 * k / pair.examples
        axes.axhline(chance, color=_LOOKS[k][1], linewidth=0.7, linestyle=(0, (4, 3)), gid=f"chance-{k}",
                     label=f"chance, {k}: {chance:.1f}%")
    axes.set_ylim(-3, 103)
    axes.set_ylabel("overlap (%)")
    epochs = ", ".join(str(run.margins.epochs[-1]) for run in pair.runs)
    shares = ", ".join(f"{value:.0f}% of {k}" for k, value in pair.ends.items())
    axes.set_title(f"each network at its own end (epochs {epochs}):\n{shares} smallest in common", fontsize=7, pad=33)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 0.98), ncols=2, borderpad=0)


@style.styled
def draw_pictures(pair: Pair, pictures: list[np.ndarray], shown: list[gallery.Smallest],
                  value_range: tuple[float, float]) -> Figure:
    """Draws the pictures of both networks below one another.

    Args:
      pair: the two networks.
      pictures: of each, (k, H, W, C).
      shown: of each, its k examples.
      value_range: what is black and what is white.

    Returns:
      The figure; its axes hold one picture each, the first network's first. Frames have the gid "shared".
    """
    shared = set(shown[0].ids.tolist()) & set(shown[1].ids.tolist())
    heights = [gallery.height(smallest) for smallest in shown]
    fig = style.new_figure(style.DOUBLE, sum(heights))
    parts = fig.subfigures(2, 1, height_ratios=heights)
    for part, number, images, smallest in zip(parts, pair.numbers, pictures, shown):
        power = style.unit(style.power_of_ten(smallest.margins))
        title = (f"network {number}, epoch {smallest.epoch}: {smallest.ids.size} smallest normalised margins{power}; "
                 f"framed: the {len(shared)} in both")
        gallery.draw_pictures(part, images, smallest, value_range, title)
        for axes, example in zip(part.axes, smallest.ids.tolist()):
            if example in shared:
                axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, linewidth=2.2,
                                         edgecolor=style.VERMILLION, clip_on=False, gid="shared"))
    return fig


def draw_pair_pictures(pair: Pair, data_dir: str = "") -> Figure:
    """Draws the pictures of two networks; raises InputError where the data are not found or are others."""
    shown = [gallery.smallest(run) for run in pair.runs]
    read = [gallery.read_pictures(run, smallest.ids, data_dir) for run, smallest in zip(pair.runs, shown)]
    return draw_pictures(pair, [images for images, _ in read], shown, read[0][1])
