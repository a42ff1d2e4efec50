"""Different minima: margin curves, small-margin counts and areas against the test error of many networks (fig. 2)."""

import textwrap

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from plots import fig02_notes, intervals, measure_names, paper, ranks, scales, style, verdicts
from plots.fig02_numbers import AUC, Numbers
from plots.sweep_folder import VARIED, WHEN
from plots.verdicts import NONE

# Another map than that of the test error, without its palest end.
_STD = ListedColormap(matplotlib.colormaps["plasma"](np.linspace(0.0, 0.85, 256)), "plasma_on_white")
_LINE = 74  # characters of a note that fit into a column


@style.styled
def figure(numbers: Numbers, data: str) -> Figure:
    """Draws the three panels of figure 2.

    Args:
      numbers: what `fig02_numbers.gather` found.
      data: the name of the data set.

    Returns:
      The figure; its first three axes are the panels. Curves have the gid "network-R", the points of the second panel
      are a scatter, the means of the third have the gid "bins".
    """
    fig = style.new_figure(style.SINGLE, 7.2)
    panels = fig.subplots(3, 1)
    total = numbers.rows["network"].size
    fig.suptitle(f"{total} networks on {data}, at {WHEN[numbers.moment.name]}")
    _curves(fig, panels[0], numbers)
    _counts(fig, panels[1], numbers)
    _areas(panels[2], numbers)
    fig.align_ylabels(panels)
    notes = "\n".join(line for note in fig02_notes.notes(numbers) for line in textwrap.wrap(note, _LINE))
    fig.supxlabel(notes, x=0.02, ha="left", fontsize=6, color=style.GREY)
    return fig


def _curves(fig: Figure, axes: Axes, numbers: Numbers) -> None:
    errors = dict(zip(numbers.rows["network"].astype(int).tolist(), numbers.rows["test_error"].tolist()))
    shown = {network: errors[network] for network in numbers.curves}
    colours = ScalarMappable(_limits(np.array(list(shown.values()))), scales.EPOCHS)
    for network, curve in numbers.curves.items():
        rank, values = ranks.curve(curve)
        points = ranks.thin(values.size)
        axes.plot(rank[points], values[points], color=colours.to_rgba(shown[network]), linewidth=0.9,
                  gid=f"network-{network}")
    size = next(iter(numbers.curves.values())).size
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"rank $n/N$, $N$ = {size:,} training examples")
    axes.set_ylabel(scales.margin_axis(axes.yaxis, np.concatenate(list(numbers.curves.values()))))
    _title(axes, "a", "curves", f"{len(shown)} of {len(errors)} networks, at even ranks of test error")
    _bar(fig, axes, colours, "test error (%)")


def _counts(fig: Figure, axes: Axes, numbers: Numbers) -> None:
    rows, key = numbers.rows, numbers.count
    counts = rows[key] if key else np.full(rows["network"].size, np.nan)
    look = {"s": 14, "linewidths": 0.3, "edgecolors": "white", "zorder": 3}
    if numbers.colour:
        colours = ScalarMappable(_limits(rows[numbers.colour]), _STD)
        axes.scatter(counts, rows["test_error"], c=colours.to_rgba(rows[numbers.colour]), **look)
        _bar(fig, axes, colours, VARIED[numbers.colour])
    else:
        axes.scatter(counts, rows["test_error"], color=style.BLUE, **look)
    gamma = measure_names.parse(key).gamma if key else np.nan
    axes.set_xlabel(f"examples with margin ≤ smallest + γ,\nγ = {gamma:g} × pooled median{_about(rows, gamma)}")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_ylabel("test error (%)")
    _title(axes, "b", "count", _spearman(numbers, key))


def _about(rows: dict[str, np.ndarray], gamma: float) -> str:
    """The gamma as a normalised margin, from the median over networks of their medians."""
    medians = rows.get("margin_median", np.full(1, np.nan))
    value = gamma * float(np.median(medians))
    if not (np.isfinite(value) and value > 0):
        return ""
    power = int(np.floor(np.log10(value)))
    return f" (about ${value / 10.0**power:.1f} \\times 10^{{{power}}}$)"


def _areas(axes: Axes, numbers: Numbers) -> None:
    rows, found = numbers.rows, numbers.bins
    area = rows.get(AUC, rows["margin_auc"])
    axes.plot(area, rows["test_error"], "o", color=style.GREY, markersize=3, alpha=0.6, markeredgewidth=0,
              label="a network", gid="networks")
    half = np.nan_to_num([float(one.error.half) for one in found])
    sizes = sorted({len(one.networks) for one in found})
    label = f"mean of {'–'.join(str(size) for size in (sizes[0], sizes[-1])[:len(sizes)])}, 95% interval"
    axes.errorbar([one.auc for one in found], [float(one.error.mean) for one in found], half, color=style.VERMILLION,
                  marker="o", markersize=4, capsize=1.5, linewidth=1.0, elinewidth=0.7, zorder=3, label=label,
                  gid="bins")
    ends = [intervals.ends(rows["test_error"][np.isin(rows["network"], one.networks)]) for one in found]
    values = np.concatenate([np.ravel(ends), rows["test_error"]])
    pad = 0.06 * np.ptp(values) or 0.5
    # Two networks have an interval 13 times as wide as their distance: its ends may leave the panel.
    axes.set_ylim(max(values.min() - pad, -pad), values.max() + pad)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 0.97), ncols=2, borderpad=0)
    power = scales.margin_axis(axes.xaxis, area).removeprefix(scales.MARGIN)
    axes.set_xlabel(f"AUC “mean”: mean normalised margin{power}")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.set_ylabel("test error (%)")
    _title(axes, "c", "auc", f"{len(found)} bins; {_spearman(numbers, AUC)}", room=11)


def _spearman(numbers: Numbers, key: str) -> str:
    ours = verdicts.text(numbers.agreement.get(key, NONE))
    return f"Spearman {ours}" if ours != "–" else "too few networks, or ties, to correlate"


def _title(axes: Axes, letter: str, claim: str, ours: str, room: float = 3.0) -> None:
    axes.set_title(f"({letter}) paper: {paper.FIG02_CLAIMS[claim]}\n      ours: {ours}", loc="left", x=-0.15, pad=room,
                   fontsize=7)


def _limits(values: np.ndarray) -> Normalize:
    low, high = float(values.min()), float(values.max())
    pad = 0.0 if high > low else 0.05 * abs(low) or 0.5
    return Normalize(low - pad, high + pad)


def _bar(fig: Figure, axes: Axes, colours: ScalarMappable, label: str) -> None:
    bar = fig.colorbar(colours, ax=axes, label=label, aspect=18, pad=0.02)
    bar.outline.set_linewidth(0.4)
    bar.locator = MaxNLocator(nbins=5)
    bar.update_ticks()
