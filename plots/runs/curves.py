"""Margin curves, the sorted normalised margins of training examples: of all and of every class, epoch after epoch.

Figure 1 (top), figure 3; also the histogram of the smallest margins at the last recorded epoch (figure 1, bottom).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from margin_jax.run_folder.read import Recorded
from margin_jax.theory.distribution import margin_curve
from plots import style
from plots.runs import read

ENLARGED = 5


@style.styled
def draw_figure(epochs: np.ndarray, normalised: Callable[[int], np.ndarray], ids: np.ndarray,
                separation: int | None = None, kept: np.ndarray | None = None) -> Figure:
    """Draws margin curves coloured by epoch, and the five smallest margins of the last epoch enlarged.

    Args:
      epochs: (E,) recorded epochs, ascending.
      normalised: gives the normalised margins (N,) of one row of `epochs`; NaN is left out.
      ids: (N,) of the examples.
      separation: the epoch of data separation, or None.
      kept: (N,) bool, for a run with a removal: the smallest margins among kept examples are shown too.

    Returns:
      The figure; its first axes hold a line per epoch drawn, with gid "epoch-E", its second the enlargement.
    """
    fig = style.new_figure(style.SINGLE, 3.7)
    top, bottom = fig.subplots(2, 1, height_ratios=(2.4, 1))
    colours = style.epoch_colours(epochs)
    rows = read.choose_epochs(epochs, separation)
    drawn, incomplete = [], 0
    for row in rows:
        values = normalised(row)
        _, shown = draw_curve(top, values, colours.to_rgba(epochs[row]), int(epochs[row]), separation,
                              last=row == rows[-1])
        drawn += [(int(epochs[row]), shown[0], shown[-1])] if shown.size else []
        incomplete += int(shown.size < values.size)
    top.axhline(0, color=style.GREY, linewidth=0.6, zorder=1)
    top.set_xlim(0, 1)
    note = f"\n(not finite, left out: in {incomplete} of {rows.size} epochs)" if incomplete else ""
    limits, beyond = style.frame(top, drawn)
    top.set_xlabel(f"rank $n/N$, $N$ = {ids.size:,} training examples{beyond}{note}")
    top.set_ylabel(style.margin_axis(top.yaxis, limits))
    if top.get_legend_handles_labels()[0]:
        fig.legend(loc="outside upper center", ncols=2)
    _enlarge(bottom, values, ids, kept)
    fig.align_ylabels([top, bottom])
    style.epoch_colourbar(fig, colours, [top, bottom])
    return fig


def draw_curve(axes: Axes, values: np.ndarray, colour: object, epoch: int, separation: int | None,
               last: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draws one margin curve and returns it whole; the ones of separation and of the last epoch stand out."""
    shown = read.finite(values)
    rank, shown = margin_curve(shown) if shown.size else (shown, shown)
    names = [name for name, holds in (("separation", epoch == separation), ("last", last)) if holds]
    special = "black" if last else style.VERMILLION
    label = f"{' and '.join(names)}, epoch {epoch}" if names and shown.size else "_"
    points = read.thin(shown.size)
    axes.plot(rank[points], shown[points], color=special if names else colour, linewidth=1.2 if names else 0.6,
              linestyle="--" if names == ["separation"] else "-", zorder=3 if names else 2, label=label,
              marker="o" if shown.size == 1 else "", markersize=2.5, gid=f"epoch-{epoch}")
    return rank, shown


def _enlarge(axes: Axes, values: np.ndarray, ids: np.ndarray, kept: np.ndarray | None) -> None:
    smallest = read.ranked_rows(values, ids)[:ENLARGED]
    place = np.arange(1, smallest.size + 1)
    axes.plot(place, values[smallest], "ko", markersize=3.5, label="all examples", gid="smallest")
    axes.axhline(0, color=style.GREY, linewidth=0.6, zorder=1)
    shown = values[smallest]
    if kept is not None and not kept.all():
        among = np.flatnonzero(kept)[read.ranked_rows(values[kept], ids[kept])[:ENLARGED]]
        axes.plot(np.arange(1, among.size + 1), values[among], "s", markersize=4, markerfacecolor="none",
                  color=style.BLUE, label="kept examples", gid="smallest-kept")
        # Outside the panel, where its markers cannot be taken for data.
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 0.97), ncols=2, borderpad=0)
        shown = np.concatenate((shown, values[among]))
    axes.set_xticks(place, [f"{n}\n{i}" for n, i in zip(place, ids[smallest])],
                    fontsize=7 if ids.max(initial=0) < 10**6 else 6)
    axes.set_xlim(0.5, max(place.size, 1) + 0.5)
    axes.margins(y=0.15)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4) if smallest.size else NullLocator())
    axes.set_xlabel(f"rank $n$ and id of the {smallest.size} smallest, last epoch" if smallest.size
                    else "no finite margin in the last epoch")
    # "Normalised" stands above, in the same figure; the panel is too low for the whole label.
    axes.set_ylabel(style.margin_axis(axes.yaxis, shown).removeprefix("normalised "))


def draw_run(run: Recorded) -> Figure:
    """Draws the margin curves of a run folder."""
    kept = run.mask["mask"] if run.removals else None
    return draw_figure(run.margins.epochs, run.normalised, run.margins.ids, run.separation, kept)


MOST = 20  # panels that two columns of a paper hold
_CURVES = 30  # in a panel an inch high; more would run together


@style.styled
def draw_per_class(epochs: np.ndarray, normalised: Callable[[int], np.ndarray], labels: np.ndarray,
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
    colours = style.epoch_colours(epochs)
    drawn, incomplete = [], 0
    rows = read.choose_epochs(epochs, separation, _CURVES)
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
    limits, beyond = style.frame(panels[0], drawn)
    fig.supylabel(style.margin_axis(panels[0].yaxis, limits))
    note = _note(len(chosen), len(class_names), incomplete, rows.size)
    fig.supxlabel(f"rank $n/N$ within the class{note}{beyond}")
    unique = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels())}
    if unique:
        fig.legend(unique.values(), unique.keys(), loc="outside upper center", ncols=2)
    style.epoch_colourbar(fig, colours, panels[: len(chosen)])
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


def draw_run_per_class(run: Recorded) -> Figure:
    """Draws the margin curves of every class of a run folder."""
    return draw_per_class(run.margins.epochs, run.normalised, run.margins.labels, run.class_names, run.separation)


SMALLEST, BINS = 100, 10


@style.styled
def draw_histogram(margins: np.ndarray, ids: np.ndarray, epoch: int, of_what: str = "") -> Figure:
    """Draws ten equal bins over the range of the 100 smallest margins, each with its count.

    Args:
      margins: (n,) normalised margins of the examples to rank; NaN is left out.
      ids: (n,) of the examples.
      epoch: at whose end the margins were taken.
      of_what: follows "smallest" in the axis label, such as "kept".

    Returns:
      The figure; its axes hold one bar per bin.
    """
    values = margins[read.ranked_rows(margins, ids)[:SMALLEST]]
    fig = style.new_figure(style.SINGLE, 2.1)
    axes = fig.subplots()
    if values.size:
        counts, edges = np.histogram(values, BINS, limits(values))
        bars = axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=style.BLUE, edgecolor="white",
                        linewidth=0.6)
        # White behind the count, where the line at zero would cross it.
        axes.bar_label(bars, fontsize=7, padding=1.5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4})
        axes.set_ylim(0, counts.max() * 1.15)
        if edges[0] < 0 < edges[-1]:
            axes.axvline(0, color="black", linewidth=0.8, linestyle="--")
    else:
        axes.text(0.5, 0.5, "no finite margin", ha="center", va="center", transform=axes.transAxes)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    left_out = margins.size - int(np.isfinite(margins).sum())
    which = f"{values.size} smallest" if values.size < margins.size - left_out else f"all {values.size}"
    note = f"\n({left_out:,} of {margins.size:,} not finite, left out)" if left_out else ""
    axes.set_xlabel(f"{style.margin_axis(axes.xaxis, values)}\n{' '.join(f'{which} {of_what}'.split())}, "
                    f"epoch {epoch}{note}")
    axes.set_ylabel("training examples")
    return fig


def limits(values: np.ndarray) -> tuple[float, float]:
    """The range of ascending values (n,), widened where they are all one."""
    low, high = float(values[0]), float(values[-1])
    if high - low > 1e-12 * max(abs(low), abs(high)):
        return low, high
    # One value: NumPy would take ±0.5, hundreds of times a normalised margin.
    pad = 0.05 * abs(low) or 0.5
    return low - pad, high + pad


def draw_run_histogram(run: Recorded) -> Figure:
    """Draws the histogram of a run folder; after a removal, of the kept examples."""
    last = run.margins.epochs.size - 1
    rows = run.mask["mask"] if run.removals else np.ones(run.margins.ids.size, bool)
    return draw_histogram(run.normalised(last)[rows], run.margins.ids[rows], int(run.margins.epochs[last]),
                          f"of {int(rows.sum()):,} {'kept' if run.removals else 'examples'}")
