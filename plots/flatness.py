"""How flat margin curves are through training, with and without BatchNorm and L2 (to figures 3, 13 and 14)."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from plots import flat, scales, style
from plots.flatness_numbers import Cell

_LABELS = {"cv": "std / mean", "iqr": "IQR / median"}


@style.styled
def figure(cells: dict[tuple[float, ...], Cell], data: str) -> Figure:
    """Draws a row of panels for each measure, a column for each kind of network.

    Args:
      cells: by (BatchNorm, L2).
      data: the name of the data set.

    Returns:
      The figure; its axes hold a line "all-R" per network and lines "class-C" of the first one; separation is marked.
    """
    fig = style.new_figure(style.DOUBLE, 4.4)
    panels = fig.subplots(len(flat.MEASURES), len(cells), sharex=True, sharey="row", squeeze=False)
    for measure, line in zip(flat.MEASURES, panels):
        for axes, cell in zip(line, cells.values()):
            _draw(axes, measure, cell)
        _log(line[0], measure, list(cells.values()))
        line[0].set_ylabel(_LABELS[measure])
    for axes, cell in zip(panels[0], cells.values()):
        axes.set_title(f"{cell.name.replace(', ', chr(10))}\n{axes.get_title()}", fontsize=7)
    last = max(int(course.epochs[-1]) for cell in cells.values() for course in cell.courses)
    panels[0, 0].set_xlim(0, last * 1.03)
    panels[0, 0].set_xticks(scales.whole_ticks(0, last, most=max(2, 16 // len(cells))))
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
    mean, half, _ = cell.change(measure)
    if not np.isfinite(mean):
        return "not separated" if cell.kind.networks else "diverged"
    ends = f"\n[{math.exp(mean - half):.2f}, {math.exp(min(mean + half, 700)):.2f}]" if np.isfinite(half) else ""
    return f"end/sep. {math.exp(mean):.2f}{ends}"


def _log(axes: Axes, measure: str, cells: list[Cell]) -> None:
    """A log axis for the values since separation, or of the later half of the epochs without it.

    While a network is hardly trained its mean margin is close to 0, and the share that the spread is of it has no end.
    """
    late = [course.values[measure][len(course.epochs) // 2 if course.separation is None else course.separation:]
            for cell in cells for course in cell.courses]
    values = np.concatenate([one.ravel() for one in late] or [np.ones(1)])
    values = values[np.isfinite(values) & (values > 0)]
    axes.set_yscale("log")
    if values.size:
        axes.set_ylim(values.min() / 1.2, values.max() * 1.3)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
