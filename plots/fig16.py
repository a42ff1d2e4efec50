"""One group of margins through training, coloured by where each ends (fig. 16 largest, 17 middle, 18 smallest)."""

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from plots import scales, style, track_panels, tracks
from plots.tracks import Tracks


@style.styled
def figure(shown: Tracks, group: str, paper: int) -> Figure:
    """Draws a line for each example, and below the rank correlation with the end: before there is order, colours mix.

    Args:
      shown: the groups.
      group: which of them.
      paper: the paper's epoch of data separation.

    Returns:
      The figure; its first axes hold one collection with the group's name as gid, its second a line with gid
      "correlation".
    """
    values, size = shown.margins[group], shown.ids[group].size
    fig, top, bottom = track_panels.panels(
        f"the {size} {group} margins of {shown.examples:,}, ranked at epoch {shown.epochs[-1]}\n"
        f"{track_panels.separated(shown, paper)}")
    colours = ScalarMappable(Normalize(1, max(size, 2)), scales.EPOCHS)
    track_panels.lines(top, shown.epochs, values, colours.to_rgba(np.arange(1, size + 1)), 0.5, group)
    bar = fig.colorbar(colours, ax=top, label="rank among them at the end", aspect=25, pad=0.02)
    bar.outline.set_linewidth(0.4)
    bottom.axhline(0, color=style.GREY, linewidth=0.7, linestyle=track_panels.CHANCE)
    found = tracks.rank_correlation(shown, group)
    bottom.plot(shown.epochs, found, color="black", gid="correlation")
    bottom.set_ylim(min(-0.35, float(np.min(found, initial=0, where=np.isfinite(found))) - 0.05), 1.05)
    bottom.set_ylabel("rank correlation\nwith the end")
    track_panels.finish(fig, top, bottom, shown, (group,))
    return fig
