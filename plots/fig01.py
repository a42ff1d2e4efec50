"""Natural and random labels: sorted margins, the smallest ones enlarged, and bins of the 100 smallest (fig. 1)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from plots import claims, histogram, intervals, paper, ranks, scales, style
from plots.fig01_numbers import Numbers, Side, first_bin, larger
from plots.kinds import NATURAL, RANDOM
from plots.sweep_folder import WHEN

COLOURS = {NATURAL: style.BLUE, RANDOM: style.VERMILLION}
ENLARGED = 5


@style.styled
def figure(numbers: Numbers, data: str) -> Figure:
    """Draws the four panels of figure 1.

    Args:
      numbers: what `fig01_numbers.gather` found.
      data: the name of the data set.

    Returns:
      The figure; curves have the gids "natural-R" and "random-R" and their means "natural" and "random"; the last two
      panels hold bars, in order of `COLOURS`.
    """
    fig = style.new_figure(style.DOUBLE, 5.1)
    (top, near), (own, common) = fig.subplots(2, 2)
    sides = {NATURAL: numbers.natural, RANDOM: numbers.random}
    fig.suptitle(f"Natural and random labels on {data}, at {WHEN[numbers.moment]}")
    _curves(top, sides, numbers)
    _enlarge(near, sides)
    _bars(own, numbers, "own")
    _bars(common, numbers, "common")
    for axes, letter in zip(fig.axes, "abcd"):
        axes.set_title(f"{letter}  {axes.get_title()}", loc="left", fontsize=7)
        axes.set_title("")
    fig.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    fig.align_ylabels()
    return fig


def _curves(axes: Axes, sides: dict[str, Side], numbers: Numbers) -> None:
    for name, side in sides.items():
        rank, _ = ranks.curve(side.curves[0])
        points = ranks.thin(rank.size)
        for network, curve in zip(side.networks, side.curves):
            axes.plot(rank[points], curve[points], color=COLOURS[name], linewidth=0.5, alpha=0.6,
                      gid=f"{name}-{network}")
        told = f", {len(side.left_out)} not there" if side.left_out else ""
        axes.plot(rank[points], side.curves.mean(0)[points], color=COLOURS[name], linewidth=1.4, gid=name,
                  label=f"{name} labels, mean of {len(side.networks)} (epochs {_span(side.epochs)}{told})")
        low, high = intervals.band(side.curves)
        axes.fill_between(rank[points], low[points], high[points], color=COLOURS[name], alpha=0.2, linewidth=0)
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"rank $n/N$, $N$ = {rank.size:,} training examples")
    _margins(axes, [side.curves for side in sides.values()])
    seeds = f"{numbers.shares.size} seeds" if numbers.shares.size > 1 else "one seed, no intervals"
    axes.set_title(f"natural above at {_percent(numbers.above)}% of ranks, below at {_percent(numbers.below)}%\n"
                   f"(95%, {seeds}; paper: above at all): {larger(numbers)}")


def _margins(axes: Axes, curves: list[np.ndarray]) -> None:
    """A log axis where all margins are positive: those with random labels may be a hundredth of the others."""
    least, most = (float(pick([pick(one) for one in curves])) for pick in (np.min, np.max))
    if least > 0 and most > 10 * least:
        axes.set_yscale("log")
        axes.set_ylim(least / 1.5, most * 1.5)
        axes.set_ylabel(scales.MARGIN)
        return
    axes.axhline(0, color=style.GREY, linewidth=0.6, zorder=1)
    axes.set_ylabel(scales.margin_axis(axes.yaxis, np.concatenate([one.ravel() for one in curves])))


def _percent(share: float) -> str:
    """Whole only where it is: 99.99% of ranks are not all of them."""
    return f"{100 * share:.0f}" if share in (0.0, 1.0) else f"{min(max(100 * share, 0.01), 99.99):.2f}"


def _span(epochs: tuple[int, ...]) -> str:
    return f"{min(epochs)}–{max(epochs)}" if min(epochs) < max(epochs) else f"{epochs[0]}"


def _enlarge(axes: Axes, sides: dict[str, Side]) -> None:
    for shift, (name, side) in zip((-0.12, 0.12), sides.items()):
        values = side.curves[:, :ENLARGED]
        mean, half, _ = intervals.t_interval(values)
        place = np.arange(1, values.shape[1] + 1) + shift
        axes.plot(np.tile(place + 0.6 * shift, len(values)), values.ravel(), ".", color=COLOURS[name], markersize=3,
                  alpha=0.6, markeredgewidth=0, gid=f"{name}-seeds")
        axes.errorbar(place, mean, np.where(np.isfinite(half) & (len(values) > 2), half, 0), fmt="o", markersize=3.5,
                      color=COLOURS[name], elinewidth=0.8, capsize=2)
    axes.set_xticks(range(1, ENLARGED + 1))
    axes.set_xlabel("rank $n$ of the five smallest")
    _margins(axes, [side.curves[:, :ENLARGED] for side in sides.values()])
    axes.set_title("the five smallest, each seed, mean and 95% interval")


def _bars(axes: Axes, numbers: Numbers, which: str) -> None:
    edges = numbers.edges if which == "common" else np.arange(histogram.BINS + 1) + 0.5
    width, printed = np.diff(edges), dict(zip((NATURAL, RANDOM), paper.FIG01_FIRST_BIN))
    told = []
    for place, (name, counts) in enumerate(numbers.bins[which].items()):
        mean, half, n = intervals.t_interval(counts.astype(np.float64))
        bars = axes.bar(edges[:-1] + (0.1 + 0.4 * place) * width, mean, 0.4 * width, align="edge", color=COLOURS[name])
        if np.min(n) > 2:
            there = mean > 0
            centres = np.array([bar.get_x() + bar.get_width() / 2 for bar in bars])
            ends = np.minimum(half, mean), half  # no bin holds fewer than none
            axes.errorbar(centres[there], mean[there], [end[there] for end in ends], fmt="none", ecolor="black",
                          elinewidth=0.6, capsize=1.5)
        one = intervals.Interval(mean[0], half[0], n[0])
        told.append(f"{intervals.text(one, 1)} {name} (paper {printed[name]})")
    axes.set_ylim(bottom=0)
    if which == "common":
        axes.set_xlabel(f"{scales.margin_axis(axes.xaxis, edges)}\n"
                        "the 100 smallest, ten bins over one range for all")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    else:
        axes.set_xticks(range(1, histogram.BINS + 1))
        axes.set_xlabel("bin of the 100 smallest\nten equal bins over each network's own range")
    axes.set_ylabel("training examples")
    axes.set_title(f"first bin: {told[0]},\n{told[1]}: {claims.above(first_bin(numbers, which))}")
