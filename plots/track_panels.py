"""What the figures of margins through training share: two panels over epochs, thin lines above, an order below."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from plots import scales, style
from plots.tracks import Tracks

CHANCE = (0, (4, 3))
DASH = (0, (3, 3))


def panels(title: str) -> tuple[Figure, Axes, Axes]:
    """An empty figure of one column with a title, a high panel for margins and a low one for their order."""
    fig = style.new_figure(style.SINGLE, 3.9)
    fig.suptitle(title, fontsize=7)
    top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    return fig, top, bottom


def lines(axes: Axes, epochs: np.ndarray, values: np.ndarray, colours: np.ndarray | str, alpha: float,
          gid: str) -> None:
    """Draws a thin translucent line for each column of `values` (E, g), as pixels: as strokes a PDF has megabytes."""
    points = np.stack(np.broadcast_arrays(epochs[:, None].astype(np.float64), values), axis=-1)
    axes.add_collection(LineCollection(np.swapaxes(points, 0, 1), colors=colours, linewidths=0.35, alpha=alpha,
                                       rasterized=True, gid=gid, zorder=2), autolim=False)


def finish(fig: Figure, top: Axes, bottom: Axes, tracks: Tracks, groups: tuple[str, ...]) -> None:
    """Fits the ranges, marks separation in both panels and labels the axes; `groups` are those drawn."""
    drawn = [(int(epoch), float(np.min(shown)), float(np.max(shown))) for epoch, shown in (
        (epoch, _finite([tracks.margins[name][row] for name in groups])) for row, epoch in enumerate(tracks.epochs))
        if shown.size]
    limits, beyond = scales.frame(top, drawn)
    top.axhline(0, color=style.GREY, linewidth=0.6, zorder=1)
    top.set_ylabel(scales.margin_axis(top.yaxis, limits))
    bottom.set_xlabel(f"{over_epochs(top, bottom, tracks.epochs, tracks.separation)}{beyond}")
    fig.align_ylabels([top, bottom])


def over_epochs(top: Axes, bottom: Axes, epochs: np.ndarray, separation: int | None) -> str:
    """Marks separation in two panels above one another and fits their common axis; what to write below it."""
    for axes in (top, bottom) if separation is not None else ():
        axes.axvline(separation, color=style.GREEN, linestyle=DASH, linewidth=0.9, zorder=4, gid="separation")
    first, last = int(epochs[0]), int(epochs[-1])
    bottom.set_xlim(first, last)
    bottom.set_xticks(scales.whole_ticks(first, last))
    return f"epoch ({'not separated' if separation is None else f'dashed green: separation, {separation}'})"


def _finite(values: list[np.ndarray]) -> np.ndarray:
    joined = np.concatenate(values)
    return joined[np.isfinite(joined)]


def separated(tracks: Tracks, paper: int) -> str:
    """What a title says of data separation, ours and the paper's epoch."""
    ours = "not separated" if tracks.separation is None else f"separation at epoch {tracks.separation}"
    return f"{ours} (paper, CIFAR-10: {paper})"
