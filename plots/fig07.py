"""The smallest, middle and largest margins through training, and when they get into their order (fig. 7, 15)."""

import json
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from plots import style, track_panels, tracks
from plots.claims import plain
from plots.tracks import Tracks

_COLOURS = {"smallest": style.VERMILLION, "middle": style.ORANGE, "largest": style.BLUE}
# Two groups by the colour of the second.
PAIRS = (("smallest", "middle"), ("smallest", "largest"))


@style.styled
def figure(shown: Tracks, paper: int) -> Figure:
    """Draws a thin line for each example and a thick median for each group, and below the order of two groups.

    Args:
      shown: the groups.
      paper: the paper's epoch of data separation.

    Returns:
      The figure. Its first axes hold a collection of lines for each group, with its name as gid, and its median, with
      gid "median-NAME"; its second the shares of pairs in final order, with gid "order-NAME" for the smallest against
      NAME, in percent.
    """
    size = shown.ids["smallest"].size
    fig, top, bottom = track_panels.panels(
        f"{len(tracks.GROUPS)} × {size} of {shown.examples:,} training examples, ranked at epoch "
        f"{shown.epochs[-1]}\n{track_panels.separated(shown, paper)}")
    for name, colour in _COLOURS.items():
        track_panels.lines(top, shown.epochs, shown.margins[name], colour, 0.25, name)
        median = np.nanmedian(shown.margins[name], axis=1)
        # White under the line keeps it apart from those of its colour.
        top.plot(shown.epochs, median, color="white", linewidth=2.4, zorder=5)
        top.plot(shown.epochs, median, color=colour, linewidth=1.3, zorder=6, label=f"{size} {name}",
                 gid=f"median-{name}")
    top.legend(loc="lower center", bbox_to_anchor=(0.45, 0.99), ncols=3, borderpad=0, handlelength=1.2)
    for low, high in PAIRS:
        bottom.plot(shown.epochs, 100 * tracks.in_order(shown, low, high), color=_COLOURS[high],
                    label=f"{low} < {high}", gid=f"order-{high}")
    bottom.axhline(50, color=style.GREY, linewidth=0.7, linestyle=track_panels.CHANCE, label="chance")
    lowest = min(float(np.nanmin(line.get_ydata())) for line in bottom.lines)
    bottom.set_ylim(min(lowest - 5, 30), 103)
    bottom.set_ylabel("pairs in final\norder (%)")
    # Above the panel, where lines do not run through the words.
    bottom.legend(loc="lower center", bbox_to_anchor=(0.45, 0.97), ncols=3, borderpad=0, handlelength=1.2)
    track_panels.finish(fig, top, bottom, shown, tracks.GROUPS)
    return fig


def numbers(shown: Tracks, paper: int) -> str:
    """The shares of pairs in final order, by epoch, and the ids of the groups, as JSON."""
    content: dict[str, Any] = {
        "examples": shown.examples, "ranked_at_epoch": int(shown.epochs[-1]), "separation_epoch": shown.separation,
        "paper": {"separation_epoch": paper}, "epochs": shown.epochs.tolist(),
        "percent_of_pairs_in_final_order": {
            f"{low} below {high}": [plain(100 * share) for share in tracks.in_order(shown, low, high)]
            for low, high in PAIRS},
        "chance_percent": 50, "ids": {name: ids.tolist() for name, ids in shown.ids.items()},
    }
    return f"{json.dumps(content, indent=2)}\n"
