"""Margins of the smallest, middle and largest training examples through training, ranked at its end (fig. 7, 15-18).

Two panels over epochs, thin lines above and their order below: all groups and when they get into their order (fig. 7,
15), or one group, coloured by where each margin ends (fig. 16 largest, 17 middle, 18 smallest).
"""

import json
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from margin_jax.run_folder.read import Recorded
from margin_jax.statistics.estimates import finite_pairs
from margin_jax.statistics.ranking import spearman
from plots import style
from plots.paper import plain
from plots.runs import read
from plots.style import Lacking

GROUPS = ("smallest", "middle", "largest")
GROUP = 200  # examples of each
FEWEST = 3  # epochs: two make no course
MOST = 200  # epochs drawn: more would be less than a pixel apart


class Tracks(NamedTuple):
    """Three groups of training examples by their margins at the last recorded epoch.

    Attributes:
      epochs: (E,) chosen among the recorded ones, ascending.
      ids: by group, (g,) from the smallest final margin on.
      margins: by group, (E, g) float64 normalised margins, columns as in `ids`; NaN where there is no number.
      separation: the epoch of data separation, or None.
      examples: N.
    """

    epochs: np.ndarray
    ids: dict[str, np.ndarray]
    margins: dict[str, np.ndarray]
    separation: int | None
    examples: int


def need_course(run: Recorded, figure: str) -> None:
    """Checks that a run can show how margins come to where they end.

    Args:
      run: the run.
      figure: which needs the course, such as "figure 7".

    Raises:
      Lacking: too few epochs with margins, or a run that left examples out, whose margins it trained no more.
    """
    if run.margins.epochs.size < FEWEST:
        raise Lacking(f"{figure} shows margins through training: {run.workdir} should have kept them at {FEWEST} "
                      f"epochs or more, got {run.margins.epochs.size}; train with a smaller record.margins_every")
    if run.removals:
        raise Lacking(f"{figure} follows all training examples to the end, and {run.workdir} left some out; train with "
                      "compress.keep=0")


def compute_tracks(run: Recorded, figure: str = "figure 7") -> Tracks:
    """Picks the groups, of 200 examples or a third of all, and reads their margins record by record.

    Args:
      run: the run.
      figure: its name, for messages.

    Raises:
      Lacking: as of `need_course`, or fewer than three finite margins at the end.
    """
    need_course(run, figure)
    stored = run.margins
    final = read.ranked_rows(np.asarray(stored.margins[-1]), stored.ids)
    size = min(GROUP, final.size // len(GROUPS))
    if not size:
        raise Lacking(f"{figure} ranks the margins of the last recorded epoch, of which {final.size} are finite")
    starts = (0, (final.size - size) // 2, final.size - size)
    places = {name: final[start:start + size] for name, start in zip(GROUPS, starts)}
    rows = read.choose_epochs(stored.epochs, run.separation, MOST)
    margins = {name: np.empty((rows.size, size)) for name in GROUPS}
    for to, row in enumerate(rows):
        values = run.normalised(row)
        for name, chosen in places.items():
            margins[name][to] = values[chosen]
    return Tracks(stored.epochs[rows], {name: stored.ids[chosen] for name, chosen in places.items()}, margins,
                  run.separation, stored.ids.size)


def in_order(tracks: Tracks, low: str, high: str) -> np.ndarray:
    """How far two groups are in their final order at each epoch, in [0, 1]; 1/2 is chance, as if drawn at random.

    Args:
      tracks: the groups.
      low: the group with smaller margins at the end.
      high: the one with larger ones.

    Returns:
      (E,) the share of pairs, one example of each group, of which the first has the smaller margin; a tie counts half.
      NaN where no pair is finite.
    """
    shares = np.full(tracks.epochs.size, np.nan)
    for row, (first, second) in enumerate(zip(tracks.margins[low], tracks.margins[high])):
        first, second = first[np.isfinite(first)], np.sort(second[np.isfinite(second)])
        if first.size and second.size:
            above = second.size - np.searchsorted(second, first, "right")
            level = np.searchsorted(second, first, "right") - np.searchsorted(second, first, "left")
            shares[row] = np.mean(above + level / 2) / second.size
    return shares


def rank_correlation(tracks: Tracks, group: str) -> np.ndarray:
    """Spearman's correlation (E,) of the margins of a group with its final ones; NaN where it is undefined."""
    values = tracks.margins[group]
    return np.array([float(spearman(*finite_pairs(row, values[-1]))) for row in values])


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
        (epoch, read.finite(np.concatenate([tracks.margins[name][row] for name in groups])))
        for row, epoch in enumerate(tracks.epochs))
             if shown.size]
    limits, beyond = style.frame(top, drawn)
    top.axhline(0, color=style.GREY, linewidth=0.6, zorder=1)
    top.set_ylabel(style.margin_axis(top.yaxis, limits))
    bottom.set_xlabel(f"{over_epochs(top, bottom, tracks.epochs, tracks.separation)}{beyond}")
    fig.align_ylabels([top, bottom])


def over_epochs(top: Axes, bottom: Axes, epochs: np.ndarray, separation: int | None) -> str:
    """Marks separation in two panels above one another and fits their common axis; what to write below it."""
    for axes in (top, bottom) if separation is not None else ():
        axes.axvline(separation, color=style.GREEN, linestyle=DASH, linewidth=0.9, zorder=4, gid="separation")
    first, last = int(epochs[0]), int(epochs[-1])
    bottom.set_xlim(first, last)
    bottom.set_xticks(style.whole_ticks(first, last))
    return f"epoch ({'not separated' if separation is None else f'dashed green: separation, {separation}'})"


def _separation_text(tracks: Tracks, paper: int) -> str:
    """What a title says of data separation, ours and the paper's epoch."""
    ours = "not separated" if tracks.separation is None else f"separation at epoch {tracks.separation}"
    return f"{ours} (paper, CIFAR-10: {paper})"


_COLOURS = {"smallest": style.VERMILLION, "middle": style.ORANGE, "largest": style.BLUE}
# Two groups by the colour of the second.
PAIRS = (("smallest", "middle"), ("smallest", "largest"))


@style.styled
def draw_groups(shown: Tracks, paper: int) -> Figure:
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
    fig, top, bottom = panels(
        f"{len(GROUPS)} × {size} of {shown.examples:,} training examples, ranked at epoch "
        f"{shown.epochs[-1]}\n{_separation_text(shown, paper)}")
    for name, colour in _COLOURS.items():
        lines(top, shown.epochs, shown.margins[name], colour, 0.25, name)
        median = np.nanmedian(shown.margins[name], axis=1)
        # White under the line keeps it apart from those of its colour.
        top.plot(shown.epochs, median, color="white", linewidth=2.4, zorder=5)
        top.plot(shown.epochs, median, color=colour, linewidth=1.3, zorder=6, label=f"{size} {name}",
                 gid=f"median-{name}")
    top.legend(loc="lower center", bbox_to_anchor=(0.45, 0.99), ncols=3, borderpad=0, handlelength=1.2)
    for low, high in PAIRS:
        bottom.plot(shown.epochs, 100 * in_order(shown, low, high), color=_COLOURS[high],
                    label=f"{low} < {high}", gid=f"order-{high}")
    bottom.axhline(50, color=style.GREY, linewidth=0.7, linestyle=CHANCE, label="chance")
    lowest = min(float(np.nanmin(line.get_ydata())) for line in bottom.lines)
    bottom.set_ylim(min(lowest - 5, 30), 103)
    bottom.set_ylabel("pairs in final\norder (%)")
    # Above the panel, where lines do not run through the words.
    bottom.legend(loc="lower center", bbox_to_anchor=(0.45, 0.97), ncols=3, borderpad=0, handlelength=1.2)
    finish(fig, top, bottom, shown, GROUPS)
    return fig


def numbers_json(shown: Tracks, paper: int) -> str:
    """The shares of pairs in final order, by epoch, and the ids of the groups, as JSON."""
    content: dict[str, Any] = {
        "examples": shown.examples, "ranked_at_epoch": int(shown.epochs[-1]), "separation_epoch": shown.separation,
        "paper": {"separation_epoch": paper}, "epochs": shown.epochs.tolist(),
        "percent_of_pairs_in_final_order": {
            f"{low} below {high}": [plain(100 * share) for share in in_order(shown, low, high)]
            for low, high in PAIRS},
        "chance_percent": 50, "ids": {name: ids.tolist() for name, ids in shown.ids.items()},
    }
    return f"{json.dumps(content, indent=2)}\n"


@style.styled
def draw_group(shown: Tracks, group: str, paper: int) -> Figure:
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
    fig, top, bottom = panels(
        f"the {size} {group} margins of {shown.examples:,}, ranked at epoch {shown.epochs[-1]}\n"
        f"{_separation_text(shown, paper)}")
    colours = ScalarMappable(Normalize(1, max(size, 2)), style.EPOCHS)
    lines(top, shown.epochs, values, colours.to_rgba(np.arange(1, size + 1)), 0.5, group)
    bar = fig.colorbar(colours, ax=top, label="rank among them at the end", aspect=25, pad=0.02)
    bar.outline.set_linewidth(0.4)
    bottom.axhline(0, color=style.GREY, linewidth=0.7, linestyle=CHANCE)
    correlation = rank_correlation(shown, group)
    bottom.plot(shown.epochs, correlation, color="black", gid="correlation")
    bottom.set_ylim(min(-0.35, float(np.min(correlation, initial=0, where=np.isfinite(correlation))) - 0.05), 1.05)
    bottom.set_ylabel("rank correlation\nwith the end")
    finish(fig, top, bottom, shown, (group,))
    return fig
