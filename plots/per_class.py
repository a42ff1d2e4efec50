"""Margin curves of every class on its own, epoch after epoch (fig. 3, right)."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plots import ranks, scales, style
from plots.curves import draw_curve
from plots.recorded import Recorded

MOST = 20  # panels that two columns of a paper hold
_CURVES = 30  # in a panel an inch high; more would run together


@style.styled
def figure(epochs: np.ndarray, normalised: Callable[[int], np.ndarray], labels: np.ndarray,
           class_names: Sequence[str], separation: int | None = None) -> Figure:
    """Draws a panel per class: its examples' margin curves, coloured by epoch.

    Args:
      epochs: (E,) recorded epochs, ascending.
      normalised: gives the normalised margins (N,) of one row of `epochs`; NaN is left out.
      labels: (N,) what was trained on, 0..C-1.
      class_names: C names. Of more than 20 classes, the 20 of smallest median at the last epoch are drawn.
      separation: the epoch of data separation, or None.

    Returns:
      The figure; its axes up to the number of panels hold a line per epoch drawn, with gid "epoch-E".
    """
    chosen = smallest_classes(normalised(epochs.size - 1), labels, len(class_names))
    columns = 5 if len(chosen) > 4 else min(2, len(chosen))
    lines = math.ceil(len(chosen) / columns)
    width, height = (style.DOUBLE, 1.15) if columns > 2 else (style.SINGLE, 1.4)
    fig = style.new_figure(width, 0.75 + height * lines)
    panels = fig.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    colours = scales.epoch_colours(epochs)
    drawn, incomplete = [], 0
    rows = ranks.choose_epochs(epochs, separation, _CURVES)
    for row in rows:
        values = normalised(row)
        incomplete += int(np.isnan(values).any())
        for axes, number in zip(panels, chosen):
            _, shown = draw_curve(axes, values[labels == number], colours.to_rgba(epochs[row]), int(epochs[row]),
                                  separation, last=row == rows[-1])
            drawn += [(int(epochs[row]), shown[0], shown[-1])] if shown.size else []
    for axes, number in zip(panels, chosen):
        _finish(axes, class_names[number], int(np.sum(labels == number)))
    _blank(panels, len(chosen), columns)
    limits, beyond = scales.frame(panels[0], drawn)
    fig.supylabel(scales.margin_axis(panels[0].yaxis, limits))
    note = _note(len(chosen), len(class_names), incomplete, rows.size)
    fig.supxlabel(f"rank $n/N$ within the class{note}{beyond}")
    unique = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels())}
    if unique:
        fig.legend(unique.values(), unique.keys(), loc="outside upper center", ncols=2)
    scales.epoch_colourbar(fig, colours, panels[: len(chosen)])
    return fig


def smallest_classes(values: np.ndarray, labels: np.ndarray, count: int) -> list[int]:
    """All classes, or of more than 20 the ones of smallest median margin; in the order of their numbers.

    Args:
      values: (N,) normalised margins; NaN is left out.
      labels: (N,) in 0..count-1.
      count: number of classes.
    """
    groups = (values[(labels == number) & np.isfinite(values)] for number in range(count))
    medians = [np.median(group) if group.size else np.inf for group in groups]
    return sorted(np.argsort(medians, kind="stable")[:MOST].tolist())


def _finish(axes: Axes, name: str, examples: int) -> None:
    axes.axhline(0, color=style.GREY, linewidth=0.6, zorder=1)
    # A user's class name may hold a dollar sign, which is not mathematics, or be longer than its panel.
    axes.set_title(name if len(name) <= 20 else f"{name[:19]}…", parse_math=False, pad=3)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    if not examples:
        axes.text(0.5, 0.5, "no examples", ha="center", va="center", transform=axes.transAxes, fontsize=7)


def _blank(panels: np.ndarray, used: int, columns: int) -> None:
    for place in range(used, panels.size):
        panels[place].set_visible(False)
        panels[place - columns].tick_params(labelbottom=True)


def _note(shown: int, count: int, incomplete: int, drawn: int) -> str:
    classes = f"; the {shown} of {count} classes with the smallest median" if shown < count else ""
    return classes + (f"\n(not finite, left out: in {incomplete} of {drawn} epochs)" if incomplete else "")


def from_run(run: Recorded) -> Figure:
    """Draws the margin curves of every class of a run folder."""
    return figure(run.margins.epochs, run.normalised, run.margins.labels, run.class_names, run.separation)
