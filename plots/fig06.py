"""Two networks from the same distribution of initial weights: errors, and shared smallest margins (fig. 6)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from plots import paper, scales, style
from plots.fig06_pair import Pair

_COLOURS = (style.BLUE, style.ORANGE)
_LOOKS = {20: ("o", "black"), 200: ("s", style.VERMILLION)}
_TICKS, _LINEAR = (0, 0.5, 1, 2, 5, 10, 20, 50, 100), 1.0


@style.styled
def figure(pair: Pair, data: str) -> Figure:
    """Draws train and test error of both, and the overlap of their smallest margins, per epoch.

    Args:
      pair: the two networks.
      data: the name of the data set.

    Returns:
      The figure: its first axes show the errors, with gids "train-R" and "test-R", its second the overlaps in percent,
      with gids "overlap-K" and "chance-K". Separation is marked in both.
    """
    fig = style.new_figure(style.SINGLE, 4.7)
    top, bottom = fig.subplots(2, 1, sharex=True)
    stds = list(dict.fromkeys(f"{std:g}" for std in pair.init_stds if not np.isnan(std)))
    std = f", init std {' and '.join(stds)}" if stds else ""
    fig.suptitle(f"networks {pair.numbers[0]} and {pair.numbers[1]} on {data}{std}")
    _errors(top, pair)
    _overlaps(bottom, pair)
    for axes in (top, bottom):
        for run, colour in zip(pair.runs, _COLOURS):
            if run.separation is not None:
                axes.axvline(run.separation, color=colour, linewidth=0.8, linestyle=":", zorder=1, gid="separation")
    last = max(int(run.metrics["epoch"][-1]) for run in pair.runs)
    bottom.set_xlim(0, last * 1.03)
    bottom.set_xticks(scales.whole_ticks(0, last))
    bottom.set_xlabel("epoch (dotted: data separation of each network)")
    fig.align_ylabels([top, bottom])
    return fig


def _errors(axes: Axes, pair: Pair) -> None:
    highest = 1.0
    for number, run, colour in zip(pair.numbers, pair.runs, _COLOURS):
        for kind, line in (("train", "--"), ("test", "-")):
            values = run.metrics[f"{kind}_error"]
            axes.plot(run.metrics["epoch"], values, color=colour, linestyle=line, linewidth=0.9,
                      label=f"{kind}, network {number}", gid=f"{kind}-{number}")
            highest = max(highest, float(np.nanmax(values, initial=0.0)))
    # Errors fall from half the examples to none: a log scale, linear below one per cent.
    axes.set_yscale("symlog", linthresh=_LINEAR, linscale=0.4)
    axes.yaxis.set_major_locator(FixedLocator(_TICKS))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylim(-0.06, min(1.25 * highest, 130))
    axes.set_ylabel(f"error (%, log above {_LINEAR:g})")
    last = " and ".join(f"{run.metrics['test_error'][-1]:.2f}" for run in pair.runs)
    printed = " and ".join(f"{error:.2f}" for error in paper.FIG06_ERRORS)
    axes.set_title(f"test error at the end {last}%\n(paper, CIFAR-2: {printed}%)", fontsize=7, pad=24)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 0.98), ncols=2, borderpad=0)


def _overlaps(axes: Axes, pair: Pair) -> None:
    low, high = paper.FIG06_OVERLAP
    for k, values in pair.overlaps.items():
        marker, colour = _LOOKS[k]
        axes.plot(pair.epochs, values, color=colour, marker=marker if pair.epochs.size <= 60 else "", markersize=3,
                  label=f"{k} smallest", gid=f"overlap-{k}")
    axes.axhspan(low, high, color=style.GREY, alpha=0.25, linewidth=0, zorder=0, label=f"paper, 200: {low}–{high}%")
    for k in pair.overlaps:
        chance = 100 * k / pair.examples
        axes.axhline(chance, color=_LOOKS[k][1], linewidth=0.7, linestyle=(0, (4, 3)), gid=f"chance-{k}",
                     label=f"chance, {k}: {chance:.1f}%")
    axes.set_ylim(-3, 103)
    axes.set_ylabel("overlap (%)")
    epochs = ", ".join(str(run.margins.epochs[-1]) for run in pair.runs)
    told = ", ".join(f"{value:.0f}% of {k}" for k, value in pair.ends.items())
    axes.set_title(f"each network at its own end (epochs {epochs}):\n{told} smallest in common", fontsize=7, pad=33)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 0.98), ncols=2, borderpad=0)
