"""The drop against the batch size, a panel for each learning rate: the paper's table 1, ours and the controls."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from margin_jax.tables import Table
from plots import grid_cells, grid_table, paper, rules, scales, style
from plots.grid_cells import Cells

_PAPER = "#AAAAAA"
_TICKS = (0, 0.3, 1, 3, 10, 30, 100)
_LINEAR = 0.3  # points around zero on a linear scale, where a log scale ends
_SPREAD = 0.5  # of the room between two batch sizes that the bars of one take


@style.styled
def figure(cells: Table, model: str, title: str = "") -> Figure:
    """Draws mean drops with 95% bars; a row of panels for each optimiser.

    Args:
      cells: columns of cells.csv of a grid, each (R,).
      model: "convnet" or "densenet", for the paper's numbers.
      title: above the figure.

    Returns:
      The figure; the lines of a panel have the gid "rule-scope", the paper's "paper".

    Raises:
      InputError: no rule yet, or rules that kept different numbers.
    """
    found = grid_cells.summaries(cells)
    names = grid_table.optimizers(found)
    rates = sorted({key[1] for key in found if key[3] != rules.FROZEN}, reverse=True)
    batches = sorted({int(key[2]) for key in found if key[3] != rules.FROZEN}, key=lambda size: size or math.inf)
    lines = _lines(found)
    fig = style.new_figure(style.DOUBLE, 0.7 + 2.1 * len(names))
    panels = fig.subplots(len(names), len(rates), squeeze=False, sharex=True, sharey=True)
    for name, row in zip(names, panels):
        for rate, axes in zip(rates, row):
            _panel(axes, found, name, rate, batches, lines)
            _paper(axes, model, name, rate, batches)
            axes.set_title(f"{name}, learning rate {rate:g}")
        row[0].set_ylabel(f"drop (points, log above {_LINEAR:g})")
    _scale(panels, found, batches)
    fig.supxlabel("batch size")
    fig.legend(handles=_legend(found, lines), loc="outside upper center", ncols=5, title=title or None,
               title_fontsize=8)
    return fig


def _lines(found: Cells) -> list[tuple[str, str]]:
    """Rule and scope of each line: fresh networks last."""
    there = {(key[3], key[4]) for key in found if (key[3], key[4]) != (rules.FROZEN, "after")}
    order = rules.in_order(rule for rule, _ in there)
    return sorted(there, key=lambda pair: (grid_table.scopes(found).index(pair[1]), order.index(pair[0])))


def _panel(axes: Axes, found: Cells, optimizer: str, rate: float, batches: Sequence[int],
           lines: Sequence[tuple[str, str]]) -> None:
    for number, (rule, scope) in enumerate(lines):
        mine = grid_cells.chosen(found, optimizer, rule, scope)
        here = [(place, mine[rate, size]) for place, size in enumerate(batches) if (rate, size) in mine]
        if not here:
            continue
        shift, look = _SPREAD * (number / max(len(lines) - 1, 1) - 0.5), rules.look(rule)
        mean = np.array([summary.drop.mean for _, summary in here])
        half = np.nan_to_num(np.array([summary.drop.half for _, summary in here]))
        axes.errorbar(np.array([place for place, _ in here]) + shift, mean, half, color=look.colour, marker=look.marker,
                      markersize=3, capsize=1, linewidth=1.0 if rule == rules.MAIN else 0.6, elinewidth=0.6,
                      markeredgewidth=0.6, linestyle=":" if scope == rules.SCRATCH else "-", zorder=3,
                      markerfacecolor="white" if scope == rules.SCRATCH else look.colour, gid=f"{rule}-{scope}")
        if not (failed := [place + shift for place, summary in here if summary.failed]):
            continue  # an empty line that is not clipped would take the whole figure's room
        axes.plot(failed, np.full(len(failed), 0.985), "x", color=look.colour, markersize=3.5, markeredgewidth=0.9,
                  transform=axes.get_xaxis_transform(), clip_on=False, gid=f"failed-{rule}-{scope}")
    for summary in (s for key, s in found.items() if key[3:] == (rules.FROZEN, "after")):
        axes.axhline(summary.drop.mean, color=rules.look(rules.FROZEN).colour, linewidth=0.7, linestyle="--", zorder=1)


def _paper(axes: Axes, model: str, optimizer: str, rate: float, batches: Sequence[int]) -> None:
    drops = [paper.table1_drop(model, optimizer, rate, size) for size in batches]
    if any(drop is not None for drop in drops):
        axes.plot(range(len(batches)), [math.nan if drop is None else drop for drop in drops], color=_PAPER,
                  linewidth=2.5, marker="o", markersize=4, zorder=1, gid="paper")


def _scale(panels: np.ndarray, found: Cells, batches: Sequence[int]) -> None:
    """Drops from hundredths to tens of points: a log scale, linear around zero."""
    for axes in panels.ravel():
        axes.set_yscale("symlog", linthresh=_LINEAR, linscale=0.5)
        axes.yaxis.set_major_locator(FixedLocator([*(-tick for tick in _TICKS[:0:-1]), *_TICKS]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: scales.signed(f"{value:g}"))
        axes.grid(axis="y", linewidth=0.3, alpha=0.5)
        axes.axhline(0, color="black", linewidth=0.4, zorder=0)
        axes.set_xticks(range(len(batches)), [f"{size}" if size else "all" for size in batches])
    drops = [summary.drop for summary in found.values()]
    # No further than from zero to twice the mean: bars of two seeds would take all the room.
    ends = [drop.mean + sign * min(np.nan_to_num(drop.half), abs(drop.mean)) for drop in drops for sign in (-1, 1)]
    ends = [end for end in ends if np.isfinite(end)]
    panels[0, 0].set_ylim(min([-0.3, *(1.2 * end for end in ends)]), max([40, *(1.5 * end for end in ends)]))


def _legend(found: Cells, lines: Sequence[tuple[str, str]]) -> list[Line2D]:
    handles = [Line2D([], [], color=_PAPER, linewidth=2.5, marker="o", markersize=4, label="paper (smallest)")]
    for rule, scope in lines:
        look, fresh = rules.look(rule), scope == rules.SCRATCH
        handles.append(Line2D([], [], color=look.colour, marker=look.marker, markersize=3, linewidth=0.8,
                              linestyle=":" if fresh else "-", markerfacecolor="white" if fresh else look.colour,
                              label=rules.name(rule, scope)))
    if any(key[3:] == (rules.FROZEN, "after") for key in found):
        handles.append(Line2D([], [], color=rules.look(rules.FROZEN).colour, linewidth=0.7, linestyle="--",
                              label=rules.name(rules.FROZEN)))
    if any(summary.failed for summary in found.values()):
        handles.append(Line2D([], [], color="black", marker="x", linestyle="", markersize=3.5, label="a seed failed"))
    return handles
