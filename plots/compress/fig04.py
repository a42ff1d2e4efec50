"""Removal in many steps with training to separation after each: test error on the way to one example (fig. 4).

Below the figure a table of the rise of the test error beside the paper's; in a figure of their own, the pictures of the
last examples kept, for each std of the initial weights.
"""

import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from margin_jax.errors import InputError
from margin_jax.run_folder import read as records
from margin_jax.run_folder import tables as columns
from margin_jax.run_folder.tables import Table, rows
from margin_jax.statistics.estimates import Estimate, t_interval
from plots import paper, style, tables
from plots.compress import read
from plots.compress.read import BASE, RemovalNetwork, Steps, full_steps, main_rule, number_text, removal_rules, steps
from plots.runs import gallery
from plots.style import band, ends
from plots.tables import Column, TextRow

COUNTS = (100, 20)


class Built(NamedTuple):
    """What `plots.tables.draw` takes."""

    columns: list[Column]
    rows: list[TextRow]
    notes: list[str]


def build(networks: Sequence[RemovalNetwork]) -> Built:
    """Rise of the test error since before the first removal, in points, at the counts for which the paper tells it.

    Args:
      networks: of the job, each over seeds.
    """
    columns = [Column("rise of the test error (points)", 0.022, "left"), *(
        Column(f"{kept} kept", 0.46 + 0.19 * place) for place, kept in enumerate(COUNTS)),
        Column(f"moved at {COUNTS[-1]}", 0.82), Column(f"epochs to {COUNTS[-1]}", 0.995)]
    table: list[TextRow] = []
    for name, std, removals, curves in networks:
        rises = next((rise for at, rise in paper.CONTINUOUS_RISE.items() if math.isclose(at, std)), {})
        if rises:
            table.append(TextRow((f"{name}: paper", *(rises.get(kept, "") for kept in COUNTS), "", "")))
        table += [_row(removals, rule, name) for rule in removal_rules(removals)]
        table += _full(removals, curves, name)
        table += [row for rule in removal_rules(removals) for row in _scratch(removals, curves, rule, name)]
    return Built(columns, table, tables.wrapped([
        "Means \N{PLUS-MINUS SIGN} half the 95% Student t interval (seeds), since before the first removal. Full "
        "data: at the epochs at which the first rule of its network had so many left. Moved: distance from the weights "
        "before the first removal over their norm."]))


def _row(removals: Table, rule: str, name: str) -> TextRow:
    course = steps(removals, rule)
    epochs = t_interval(course.at("epoch", COUNTS[-1]) - course.epoch[:, 0]).value
    moved = t_interval(course.at("moved", COUNTS[-1])).value
    return TextRow((f"{name}: {read.name(rule)}", *(_rise(course.rise(kept)) for kept in COUNTS), number_text(moved),
                number_text(epochs)), read.look(rule))


def _full(removals: Table, curves: Table, name: str) -> list[TextRow]:
    errors = full_steps(curves, removals, main_rule(removals))
    if errors is None:
        return []
    course = steps(removals, main_rule(removals))
    rises = []
    for kept in COUNTS:
        place = np.flatnonzero(course.kept == kept)
        rises.append(t_interval(errors[:, place[0]] - course.error[:, 0] if place.size else np.array([])))
    return [TextRow((f"{name}: full data", *map(_rise, rises), "", ""), read.look(read.FULL))]


def _scratch(removals: Table, curves: Table, rule: str, name: str) -> list[TextRow]:
    """Fresh networks on what the rule kept, at their last epoch, against the network before the first removal."""
    course, rises = steps(removals, rule), []
    seeds = np.unique(rows(removals, rule=rule)["seed"])
    for kept in COUNTS:
        fresh = rows(curves, rule=rule, scope=read.SCRATCH, kept=float(kept))
        last = [rows(fresh, seed=float(seed)) for seed in seeds]
        ends = [run["test_error"][np.argmax(run["epoch"])] if run["epoch"].size else math.nan for run in last]
        rises.append(t_interval(np.array(ends) - course.error[:, 0]))
    if not any(rise.n for rise in rises):
        return []
    return [TextRow((f"{name}: {read.name(rule, read.SCRATCH)}", *map(_rise, rises), "", ""), read.look(rule), False)]


def _rise(rise: Estimate) -> str:
    return tables.interval_text(rise, sign=True) + (f" ({rise.n})" if rise.n else "")


NAMED = (10_000, 1_000, 100, 20, 10, 1)  # counts written above the panel, if they are among the removals
ZOOMED = 20  # the zoom's range of errors is that down to this many kept


@style.styled
def draw_figure(removals: Table, curves: Table, title: str = "") -> Figure:
    """Draws, for each optimiser and std of the initial weights, test error against epoch and against the count kept.

    Args:
      removals: columns of removals.csv, each (R,).
      curves: columns of curves.csv, each (Q,); may be empty.
      title: above the figure.

    Returns:
      The figure; its axes: the two panels of every network, then the table. Lines at the right have the gid of their
      rule.
    """
    networks = read.split(removals, curves)
    table = build(networks)
    below = tables.height(len(table.rows), len(table.notes))
    fig = style.new_figure(style.DOUBLE, 0.6 + 1.85 * len(networks) + below)
    grid = fig.add_gridspec(2, 1, height_ratios=(1.85 * len(networks), below))
    panels = grid[0].subgridspec(len(networks), 2, width_ratios=(1, 1.1)).subplots(squeeze=False)
    for network, (left, right) in zip(networks, panels):
        _epochs(left, network.removals, network.curves)
        _kept(right, network.removals, network.curves)
        left.set_ylabel(f"{network.name}\ntest error (%)")
    panels[-1, 0].set_xlabel("epoch (removals of one seed marked, other seeds thin)")
    panels[-1, 1].set_xlabel("training examples kept")
    tables.draw(fig.add_subplot(grid[1]), table.columns, table.rows, table.notes)
    fig.legend(handles=_legend(removals, curves), loc="outside upper center", ncols=6, title=title or None,
               title_fontsize=8)
    return fig


def _epochs(axes: Axes, removals: Table, curves: Table) -> None:
    """Test error against epoch for the first seed, every removal marked, and the other seeds thin."""
    rule = main_rule(removals)
    seeds, look = np.unique(rows(removals, rule=rule)["seed"]), read.look(rule)
    for seed in seeds[::-1]:
        first = seed == seeds[0]
        of_seed = rows(removals, rule=rule, seed=float(seed))
        _line(axes, rows(curves, rule=(BASE, read.FULL), seed=float(seed)), read.look(read.FULL).colour, first)
        between = rows(curves, rule=rule, scope="after", seed=float(seed))
        _line(axes, between if between["epoch"].size else of_seed, look.colour, first)
        if not first:
            continue
        step, good = of_seed["step"] > 0, of_seed["separated"] != 0
        for chosen, fill, gid in ((step & good, look.colour, "separated"), (step & ~good, "white", "not separated")):
            axes.plot(of_seed["epoch"][chosen], of_seed["test_error"][chosen], look.marker, color=look.colour,
                      markersize=2.2, markerfacecolor=fill, markeredgewidth=0.6, zorder=4, gid=gid)
        _name_counts(axes, of_seed)
    axes.set_xticks(style.whole_ticks(*axes.get_xlim()))


def _line(axes: Axes, table: Table, colour: str, first: bool) -> None:
    order = np.argsort(table["epoch"], kind="stable")
    axes.plot(table["epoch"][order], table["test_error"][order], color=colour, linewidth=0.8 if first else 0.4,
              alpha=1.0 if first else 0.5, zorder=3 if first else 2)


def _name_counts(axes: Axes, removals: Table) -> None:
    last = -np.inf
    room = 0.045 * np.diff(axes.get_xlim())[0]  # epochs that a name needs beside the one before
    for kept in NAMED:
        places = np.flatnonzero((removals["kept"] == kept) & (removals["step"] > 0))
        if not places.size:
            continue
        epoch = removals["epoch"][places[0]]
        axes.axvline(epoch, color=style.GREY, linewidth=0.3, zorder=0)
        if epoch - last >= room:
            axes.text(epoch, 1.02, f"{kept:,}", transform=axes.get_xaxis_transform(), rotation=90, ha="center",
                      va="bottom", fontsize=6)
            last = epoch


def _kept(axes: Axes, removals: Table, curves: Table) -> None:
    """Mean test error against the count kept, on a log axis that runs down to one."""
    main = main_rule(removals)
    zoomed: list[np.ndarray] = []
    for rule in removal_rules(removals):
        course, look, first = steps(removals, rule), read.look(rule), rule == main
        mean = t_interval(course.error).value
        axes.plot(course.kept, mean, color=look.colour, linewidth=1.0 if first else 0.6, zorder=3 if first else 2,
                  gid=rule)
        axes.fill_between(course.kept, *band(course.error), color=look.colour, alpha=0.2 if first else 0.1, linewidth=0)
        _mark(axes, course, mean, look, 2.6 if first else 1.8)
        if first:
            zoomed += [np.where(course.kept >= ZOOMED, end, np.nan) for end in ends(course.error)]
            axes.axhline(mean[0], color=read.look(read.FROZEN).colour, linewidth=0.8, zorder=1, gid=read.FROZEN)
    full = full_steps(curves, removals, main)
    if full is not None:
        mean = t_interval(full).value
        axes.plot(steps(removals, main).kept, mean, color=read.look(read.FULL).colour, linewidth=0.8, gid=read.FULL)
        zoomed.append(mean)
    axes.set_xscale("log")
    axes.set_xlim(removals["kept"].max() * 1.25, removals["kept"].min() / 1.25)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", linewidth=0.3, alpha=0.5)
    values = np.concatenate([np.ravel(v) for v in zoomed])
    values = values[np.isfinite(values)]
    if values.size:
        pad = 0.08 * np.ptp(values) or 0.5
        axes.set_ylim(values.min() - pad, values.max() + 2 * pad)


def _mark(axes: Axes, course: Steps, mean: np.ndarray, look: read.Look, size: float) -> None:
    """Hollow where a seed did not separate again."""
    with np.errstate(invalid="ignore"):
        broken = (course.separated == 0).any(axis=0)
    for chosen, fill in ((~broken, look.colour), (broken, "white")):
        axes.plot(course.kept[chosen], mean[chosen], look.marker, color=look.colour, markersize=size,
                  markerfacecolor=fill, markeredgewidth=0.6, zorder=4)


def _legend(removals: Table, curves: Table) -> Sequence[Line2D]:
    handles, full = [], [read.FULL] if curves["rule"].size else []
    for rule in (*full, read.FROZEN, *removal_rules(removals)):
        look = read.look(rule)
        line = rule in (read.FULL, read.FROZEN)
        handles.append(Line2D([], [], color=look.colour, marker="" if line else look.marker, markersize=3,
                              linewidth=0.8, label=read.name(rule)))
    handles.append(Line2D([], [], color=style.GREY, marker="o", linestyle="", markersize=3, markerfacecolor="white",
                          label="not separated again"))
    return handles


COUNT = 20


class Kept(NamedTuple):
    """What one network kept.

    Attributes:
      optimizer: its optimiser after the removal.
      init_std: std of its initial weights; NaN if not normal.
      seed: of the network.
      kept: how many were left.
      ids: of these, the smallest margins, ascending.
    """

    optimizer: str
    init_std: float
    seed: int
    kept: int
    ids: np.ndarray


def choose(entries: Sequence[dict[str, Any]], count: int = COUNT) -> list[Kept]:
    """The entry of each network that kept `count` by the paper's rule, or else the next larger number; first seed.

    Args:
      entries: what `margin_jax.run_folder.tables.read_kept_ids` gives.
      count: how many examples to show; networks that have not come down to it show their `count` smallest margins.

    Returns:
      In the order of `plots.compress.read`; without networks that removed nothing by that rule.
    """
    first: dict[str, dict[str, Any]] = {}
    keys = []
    for entry in entries:
        if entry["rule"] != read.MAIN or entry["scope"] == read.SCRATCH or entry["kept"] < count:
            continue
        # A std that is missing may come as null, as an empty text or as NaN.
        std = float(entry["init_std"]) if isinstance(entry["init_std"], (int, float)) else math.nan
        keys.append((entry["optimizer"], std))
        best = first.setdefault(str(keys[-1]), entry)
        if (entry["seed"], entry["kept"]) < (best["seed"], best["kept"]):
            first[str(keys[-1])] = entry
    chosen = [(key, first[str(key)]) for key in read.in_order(keys)]
    return [Kept(*key, entry["seed"], entry["kept"], np.array(entry["ids"])[:count]) for key, entry in chosen]


@style.styled
def draw_last_kept(shown: Sequence[gallery.Smallest], pictures: Sequence[np.ndarray], value_range: tuple[float, float],
           titles: Sequence[str]) -> Figure:
    """Draws the pictures of every network below one another.

    Args:
      shown: of each network, its k examples.
      pictures: of each network, (k, H, W, C).
      value_range: what is black and what is white.
      titles: one above the pictures of each network.

    Returns:
      The figure; its axes hold one picture each, network by network.
    """
    heights = [gallery.height(smallest) for smallest in shown]
    fig = style.new_figure(style.DOUBLE, sum(heights))
    parts = np.atleast_1d(fig.subfigures(len(shown), 1, height_ratios=heights))
    for part, smallest, images, title in zip(parts, shown, pictures, titles):
        gallery.draw_pictures(part, images, smallest, value_range, title)
    return fig


def draw_folder(workdir: pathlib.Path, data_dir: str = "") -> Figure:
    """Draws the last examples kept; raises InputError where the data are not found or are others."""
    from margin_jax.data.dataset import digest  # here: the other figures need no reader of data sets

    description = records.read_json(workdir, "config.json")
    chosen = choose(columns.read_kept_ids(workdir))
    if not chosen:
        raise InputError(f"{workdir}: no network has removed anything by the rule {read.MAIN!r} yet; wait until it "
                         "has")
    dataset = gallery.find_data(description["config"]["data"], data_dir)
    if digest(dataset) != description["data"]["digest"]:
        raise InputError(f"the data set {dataset.name!r} found now is not that of {workdir}: its content differs; name "
                         "the folder of the same data with --data_dir")
    train, shown = dataset.train, []
    for kept in chosen:
        at = np.searchsorted(train.ids, kept.ids)
        labels, true = ([dataset.class_names[k] for k in of[at]] for of in (train.labels, train.true_labels))
        shown.append(gallery.Smallest(0, kept.ids, labels, true, None))
    pictures = [train.images[np.searchsorted(train.ids, kept.ids)] for kept in chosen]
    names = read.names([(kept.optimizer, kept.init_std) for kept in chosen])
    titles = [f"{name}: {f'smallest {kept.ids.size} of ' if kept.kept > kept.ids.size else ''}the last {kept.kept} "
              f"kept, from the smallest margin on (seed {kept.seed})" for name, kept in zip(names, chosen)]
    return draw_last_kept(shown, pictures, (float(train.images.min()), float(train.images.max())), titles)


def write_ids(workdir: pathlib.Path, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes the ids of the pictures, which may be passed on where the pictures may not."""
    listed = [kept._asdict() | {"init_std": None if math.isnan(kept.init_std) else kept.init_std,
                               "ids": kept.ids.tolist()} for kept in choose(columns.read_kept_ids(workdir))]
    return style.write(folder / f"{name}.json", f"{json.dumps(listed, indent=2)}\n".encode())
