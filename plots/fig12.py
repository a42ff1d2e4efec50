"""The smallest margin through training, natural and random labels (fig. 12)."""

import functools
import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import SymmetricalLogLocator

from plots import claims, intervals, scales, style
from plots.fig01 import COLOURS
from plots.fig12_numbers import Numbers
from plots.kinds import Kind
from plots.sweep_folder import WHEN


@style.styled
def figure(numbers: Numbers, data: str) -> Figure:
    """Draws smallest normalised margins, and below them errors, per epoch.

    Args:
      numbers: what `fig12_numbers.gather` found.
      data: the name of the data set.

    Returns:
      The figure: thin lines per network with gids such as "natural-R", thick ones of means over the epochs that all
      networks of a kind have; separation of each network is marked.
    """
    fig = style.new_figure(style.SINGLE, 4.7)
    top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
    fig.suptitle(f"Smallest margin on {data}\n{_told(numbers)}", fontsize=7)
    for name, kind in numbers.kinds.items():
        _lines(top, name, kind, "margin_min", "-", f"{name} labels")
        _lines(bottom, name, kind, "test_error", "-", "test")
        _lines(bottom, name, kind, "train_error", "--", "train")
        for run in kind.runs:
            for axes in (top, bottom):
                if run.separation is not None:
                    axes.axvline(run.separation, color=COLOURS[name], linewidth=0.7, linestyle=":", zorder=1,
                                 gid="separation")
    last = max(int(run.metrics["epoch"][-1]) for kind in numbers.kinds.values() for run in kind.runs)
    bottom.set_xlim(0, last * 1.03)
    bottom.set_xticks(scales.whole_ticks(0, last))
    bottom.set_xlabel("epoch (dotted: data separation)")
    bottom.set_ylabel("error (%)")
    bottom.legend([line for line in bottom.lines if line.get_gid() in ("natural", "natural-train")], ["test", "train"],
                  loc="center right", frameon=True, framealpha=0.9, edgecolor="none")
    _scale(top, numbers)
    top.legend(loc="lower center", bbox_to_anchor=(0.5, 0.98), ncols=2, borderpad=0)
    fig.align_ylabels([top, bottom])
    return fig


def _lines(axes: Axes, name: str, kind: Kind, column: str, dash: str, label: str) -> None:
    suffix = "-train" if column == "train_error" else ""
    for network, run in zip(kind.networks, kind.runs):
        axes.plot(run.metrics["epoch"], run.metrics[column], color=COLOURS[name], linewidth=0.5, alpha=0.6,
                  linestyle=dash, gid=f"{name}-{network}{suffix}")
    if not kind.runs:
        return
    shared = functools.reduce(np.intersect1d, [run.metrics["epoch"] for run in kind.runs])
    values = np.stack([run.metrics[column][np.isin(run.metrics["epoch"], shared)] for run in kind.runs])
    axes.plot(shared, intervals.t_interval(values).mean, color=COLOURS[name], linewidth=1.3, linestyle=dash,
              label=label, gid=f"{name}{suffix}")
    low, high = intervals.band(values)
    if column == "margin_min":  # before, the seeds themselves show how far they lie apart
        separated = [np.inf if run.separation is None else run.separation for run in kind.runs]
        low = np.where(shared >= max(separated), low, np.nan)
    axes.fill_between(shared, low, high, color=COLOURS[name], alpha=0.15, linewidth=0)


def _scale(axes: Axes, numbers: Numbers) -> None:
    """Margins below zero come before rho has grown, and are thousands of times as large as the ones above it."""
    values = np.concatenate([run.metrics["margin_min"] for kind in numbers.kinds.values() for run in kind.runs])
    values = values[np.isfinite(values)]
    power = math.floor(math.log10(values.max())) if values.size and values.max() > 0 else 0
    linear = 10.0**power if values.size and values.max() > 0 else 0.0
    if linear:
        axes.set_yscale("symlog", linthresh=linear, linscale=1.0)
        axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=linear))
        axes.set_ylim(values.min() * 1.5 if values.min() < 0 else 0, values.max() * 1.6)
    axes.axhline(0, color=style.GREY, linewidth=0.6, zorder=1)
    axes.set_ylabel(scales.MARGIN + (f"\n(log beyond $\\pm 10^{{{power}}}$)" if linear else ""))


def _told(numbers: Numbers) -> str:
    larger, later = claims.above(numbers.larger), claims.above(numbers.later)
    epochs = intervals.text(numbers.later, 0)
    more = "at least " if numbers.censored else ""
    return (f"at {WHEN[numbers.moment]} natural larger: {larger}\n"
            f"random labels separate {more}{epochs} epochs later: {later}")
