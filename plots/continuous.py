"""Removal in many steps with training to separation after each: test error on the way to one example (fig. 4)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from margin_jax.tables import Table, rows
from plots import continuous_table, networks, rules, scales, style, text_table
from plots.intervals import band, ends, t_interval
from plots.removal_steps import Steps, full_steps, main_rule, removal_rules, steps
from plots.since_removal import BASE

NAMED = (10_000, 1_000, 100, 20, 10, 1)  # counts written above the panel, if they are among the removals
ZOOMED = 20  # the zoom's range of errors is that down to this many kept


@style.styled
def figure(removals: Table, curves: Table, title: str = "") -> Figure:
    """Draws, for each optimiser and std of the initial weights, test error against epoch and against the count kept.

    Args:
      removals: columns of removals.csv, each (R,).
      curves: columns of curves.csv, each (Q,); may be empty.
      title: above the figure.

    Returns:
      The figure; its axes: the two panels of every network, then the table. Lines at the right have the gid of their
      rule.
    """
    found = networks.split(removals, curves)
    table = continuous_table.build(found)
    below = text_table.height(len(table.rows), len(table.notes))
    fig = style.new_figure(style.DOUBLE, 0.6 + 1.85 * len(found) + below)
    grid = fig.add_gridspec(2, 1, height_ratios=(1.85 * len(found), below))
    panels = grid[0].subgridspec(len(found), 2, width_ratios=(1, 1.1)).subplots(squeeze=False)
    for network, (left, right) in zip(found, panels):
        _epochs(left, network.removals, network.curves)
        _kept(right, network.removals, network.curves)
        left.set_ylabel(f"{network.name}\ntest error (%)")
    panels[-1, 0].set_xlabel("epoch (removals of one seed marked, other seeds thin)")
    panels[-1, 1].set_xlabel("training examples kept")
    text_table.draw(fig.add_subplot(grid[1]), table.columns, table.rows, table.notes)
    fig.legend(handles=_legend(removals, curves), loc="outside upper center", ncols=6, title=title or None,
               title_fontsize=8)
    return fig


def _epochs(axes: Axes, removals: Table, curves: Table) -> None:
    """Test error against epoch for the first seed, every removal marked, and the other seeds thin."""
    rule = main_rule(removals)
    seeds, look = np.unique(rows(removals, rule=rule)["seed"]), rules.look(rule)
    for seed in seeds[::-1]:
        first = seed == seeds[0]
        mine = rows(removals, rule=rule, seed=float(seed))
        _line(axes, rows(curves, rule=(BASE, rules.FULL), seed=float(seed)), rules.look(rules.FULL).colour, first)
        between = rows(curves, rule=rule, scope="after", seed=float(seed))
        _line(axes, between if between["epoch"].size else mine, look.colour, first)
        if not first:
            continue
        step, good = mine["step"] > 0, mine["separated"] != 0
        for here, fill, gid in ((step & good, look.colour, "separated"), (step & ~good, "white", "not separated")):
            axes.plot(mine["epoch"][here], mine["test_error"][here], look.marker, color=look.colour, markersize=2.2,
                      markerfacecolor=fill, markeredgewidth=0.6, zorder=4, gid=gid)
        _name_counts(axes, mine)
    axes.set_xticks(scales.whole_ticks(*axes.get_xlim()))


def _line(axes: Axes, table: Table, colour: str, first: bool) -> None:
    order = np.argsort(table["epoch"], kind="stable")
    axes.plot(table["epoch"][order], table["test_error"][order], color=colour, linewidth=0.8 if first else 0.4,
              alpha=1.0 if first else 0.5, zorder=3 if first else 2)


def _name_counts(axes: Axes, removals: Table) -> None:
    last = -np.inf
    room = 0.045 * np.diff(axes.get_xlim())[0]  # epochs that a name needs beside the one before
    for kept in NAMED:
        here = np.flatnonzero((removals["kept"] == kept) & (removals["step"] > 0))
        if not here.size:
            continue
        epoch = removals["epoch"][here[0]]
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
        mine, look, first = steps(removals, rule), rules.look(rule), rule == main
        mean = t_interval(mine.error).mean
        axes.plot(mine.kept, mean, color=look.colour, linewidth=1.0 if first else 0.6, zorder=3 if first else 2,
                  gid=rule)
        axes.fill_between(mine.kept, *band(mine.error), color=look.colour, alpha=0.2 if first else 0.1, linewidth=0)
        _mark(axes, mine, mean, look, 2.6 if first else 1.8)
        if first:
            zoomed += [np.where(mine.kept >= ZOOMED, end, np.nan) for end in ends(mine.error)]
            axes.axhline(mean[0], color=rules.look(rules.FROZEN).colour, linewidth=0.8, zorder=1, gid=rules.FROZEN)
    full = full_steps(curves, removals, main)
    if full is not None:
        mean = t_interval(full).mean
        axes.plot(steps(removals, main).kept, mean, color=rules.look(rules.FULL).colour, linewidth=0.8, gid=rules.FULL)
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


def _mark(axes: Axes, mine: Steps, mean: np.ndarray, look: rules.Look, size: float) -> None:
    """Hollow where a seed did not separate again."""
    with np.errstate(invalid="ignore"):
        broken = (mine.separated == 0).any(axis=0)
    for here, fill in ((~broken, look.colour), (broken, "white")):
        axes.plot(mine.kept[here], mean[here], look.marker, color=look.colour, markersize=size, markerfacecolor=fill,
                  markeredgewidth=0.6, zorder=4)


def _legend(removals: Table, curves: Table) -> Sequence[Line2D]:
    handles, full = [], [rules.FULL] if curves["rule"].size else []
    for rule in (*full, rules.FROZEN, *removal_rules(removals)):
        look = rules.look(rule)
        line = rule in (rules.FULL, rules.FROZEN)
        handles.append(Line2D([], [], color=look.colour, marker="" if line else look.marker, markersize=3,
                              linewidth=0.8, label=rules.name(rule)))
    handles.append(Line2D([], [], color=style.GREY, marker="o", linestyle="", markersize=3, markerfacecolor="white",
                          label="not separated again"))
    return handles
