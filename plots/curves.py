"""Margin curves: the sorted normalised margins of all training examples, epoch after epoch (fig. 1 top, fig. 3)."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from plots import ranks, scales, style
from plots.recorded import Recorded

ENLARGED = 5


@style.styled
def figure(epochs: np.ndarray, normalised: Callable[[int], np.ndarray], ids: np.ndarray, separation: int | None = None,
           kept: np.ndarray | None = None) -> Figure:
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
    colours = scales.epoch_colours(epochs)
    rows = ranks.choose_epochs(epochs, separation)
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
    limits, beyond = scales.frame(top, drawn)
    top.set_xlabel(f"rank $n/N$, $N$ = {ids.size:,} training examples{beyond}{note}")
    top.set_ylabel(scales.margin_axis(top.yaxis, limits))
    if top.get_legend_handles_labels()[0]:
        fig.legend(loc="outside upper center", ncols=2)
    _enlarge(bottom, values, ids, kept)
    fig.align_ylabels([top, bottom])
    scales.epoch_colourbar(fig, colours, [top, bottom])
    return fig


def draw_curve(axes: Axes, values: np.ndarray, colour: object, epoch: int, separation: int | None,
               last: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draws one margin curve and returns it whole; the ones of separation and of the last epoch stand out."""
    rank, shown = ranks.curve(values)
    names = [name for name, here in (("separation", epoch == separation), ("last", last)) if here]
    special = "black" if last else style.VERMILLION
    label = f"{' and '.join(names)}, epoch {epoch}" if names and shown.size else "_"
    points = ranks.thin(shown.size)
    axes.plot(rank[points], shown[points], color=special if names else colour, linewidth=1.2 if names else 0.6,
              linestyle="--" if names == ["separation"] else "-", zorder=3 if names else 2, label=label,
              marker="o" if shown.size == 1 else "", markersize=2.5, gid=f"epoch-{epoch}")
    return rank, shown


def _enlarge(axes: Axes, values: np.ndarray, ids: np.ndarray, kept: np.ndarray | None) -> None:
    smallest = ranks.ascending(values, ids)[:ENLARGED]
    place = np.arange(1, smallest.size + 1)
    axes.plot(place, values[smallest], "ko", markersize=3.5, label="all examples", gid="smallest")
    axes.axhline(0, color=style.GREY, linewidth=0.6, zorder=1)
    shown = values[smallest]
    if kept is not None and not kept.all():
        among = np.flatnonzero(kept)[ranks.ascending(values[kept], ids[kept])[:ENLARGED]]
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
    axes.set_ylabel(scales.margin_axis(axes.yaxis, shown).removeprefix("normalised "))


def from_run(run: Recorded) -> Figure:
    """Draws the margin curves of a run folder."""
    kept = run.mask["mask"] if run.removals else None
    return figure(run.margins.epochs, run.normalised, run.margins.ids, run.separation, kept)
