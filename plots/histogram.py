"""Histogram of the smallest normalised margins at the last recorded epoch (fig. 1, bottom)."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from plots import ranks, scales, style
from plots.recorded import Recorded

SMALLEST, BINS = 100, 10


@style.styled
def figure(margins: np.ndarray, ids: np.ndarray, epoch: int, of_what: str = "") -> Figure:
    """Draws ten equal bins over the range of the 100 smallest margins, each with its count.

    Args:
      margins: (n,) normalised margins of the examples to rank; NaN is left out.
      ids: (n,) of the examples.
      epoch: at whose end the margins were taken.
      of_what: follows "smallest" in the axis label, such as "kept".

    Returns:
      The figure; its axes hold one bar per bin.
    """
    values = margins[ranks.ascending(margins, ids)[:SMALLEST]]
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
    axes.set_xlabel(f"{scales.margin_axis(axes.xaxis, values)}\n{' '.join(f'{which} {of_what}'.split())}, "
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


def from_run(run: Recorded) -> Figure:
    """Draws the histogram of a run folder; after a removal, of the kept examples."""
    last = run.margins.epochs.size - 1
    rows = run.mask["mask"] if run.removals else np.ones(run.margins.ids.size, bool)
    return figure(run.normalised(last)[rows], run.margins.ids[rows], int(run.margins.epochs[last]),
                  f"of {int(rows.sum()):,} {'kept' if run.removals else 'examples'}")
