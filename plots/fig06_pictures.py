"""Pictures of the smallest margins of two networks at the end of their training, the shared ones framed (fig. 6)."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from plots import gallery, scales, style
from plots.fig06_pair import Pair


@style.styled
def figure(pair: Pair, pictures: list[np.ndarray], shown: list[gallery.Smallest],
           value_range: tuple[float, float]) -> Figure:
    """Draws the pictures of both networks below one another.

    Args:
      pair: the two networks.
      pictures: of each, (k, H, W, C).
      shown: of each, its k examples.
      value_range: what is black and what is white.

    Returns:
      The figure; its axes hold one picture each, the first network's first. Frames have the gid "shared".
    """
    shared = set(shown[0].ids.tolist()) & set(shown[1].ids.tolist())
    heights = [gallery.height(one) for one in shown]
    fig = style.new_figure(style.DOUBLE, sum(heights))
    for part, number, images, one in zip(fig.subfigures(2, 1, height_ratios=heights), pair.numbers, pictures, shown):
        power = scales.unit(scales.power_of_ten(one.margins))
        gallery.fill(part, images, one, value_range, f"network {number}, epoch {one.epoch}: {one.ids.size} smallest "
                     f"normalised margins{power}; framed: the {len(shared)} in both")
        for axes, example in zip(part.axes, one.ids.tolist()):
            if example in shared:
                axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, linewidth=2.2,
                                         edgecolor=style.VERMILLION, clip_on=False, gid="shared"))
    return fig


def from_pair(pair: Pair, data_dir: str = "") -> Figure:
    """Draws the pictures of two networks; raises InputError where the data are not found or are others."""
    shown = [gallery.smallest(run) for run in pair.runs]
    read = [gallery.read_pictures(run, one.ids, data_dir) for run, one in zip(pair.runs, shown)]
    return figure(pair, [images for images, _ in read], shown, read[0][1])
