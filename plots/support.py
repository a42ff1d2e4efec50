"""How early the final smallest margins can be told: rank correlation and overlap with the end, against chance."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plots import paper, style, track_panels
from plots.final_support import Prediction

_COLOURS = {20: "black", 100: style.VERMILLION, 200: style.BLUE}
_MARKS = {"fig08": "s", "fig09": "D"}


@style.styled
def figure(found: Prediction, data: str) -> Figure:
    """Draws Spearman's correlation with the final margins, and the share of the final smallest ones present.

    Args:
      found: the comparison.
      data: the name of the data set.

    Returns:
      The figure; its first axes hold a line with gid "correlation", its second lines "overlap-K" and bands
      "chance-K", in percent, and the paper's shares at separation with gid "paper-FIGURE-K".
    """
    fig = style.new_figure(style.SINGLE, 4.2)
    fig.suptitle(f"{found.examples:,} training examples of {data};\ncompared with the last record, epoch "
                 f"{found.epochs[-1]}", fontsize=7)
    top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=(1, 1.6))
    top.axhline(0, color=style.GREY, linewidth=0.6, linestyle=(0, (4, 3)))
    top.plot(found.epochs, found.correlation, color="black", gid="correlation")
    known = np.isfinite(found.correlation)
    top.set_ylim(min(-0.1, float(np.min(found.correlation, initial=0, where=known)) - 0.05), 1.05)
    top.set_ylabel("rank correlation\nof all margins")
    _overlaps(bottom, found)
    bottom.set_xlabel(track_panels.over_epochs(top, bottom, found.epochs, found.separation))
    fig.align_ylabels([top, bottom])
    return fig


def _overlaps(axes: Axes, found: Prediction) -> None:
    for k, values in found.overlaps.items():
        band = found.chance[k]
        axes.plot(found.epochs, values, color=_COLOURS[k], gid=f"overlap-{k}", zorder=3,
                  label=f"{k} smallest\n(chance {band.low:.1f}–{band.high:.1f}%)")
        axes.axhspan(band.low, band.high, color=_COLOURS[k], alpha=0.18, linewidth=0, zorder=1, gid=f"chance-{k}")
    for name, shares in paper.SUPPORT_PRESENT.items():
        for k, share in shares.items() if found.separation is not None else ():
            axes.plot(found.separation, share, _MARKS[name], color=_COLOURS[k], markerfacecolor="white", markersize=4.5,
                      label=f"paper, fig. {int(name[3:])}: {share}% of {k}", gid=f"paper-{name}-{k}", zorder=5,
                      linestyle="none")
    axes.set_ylim(-3, 103)
    axes.set_ylabel("of the final smallest\nthere already (%)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 0.98), ncols=2, borderpad=0)
