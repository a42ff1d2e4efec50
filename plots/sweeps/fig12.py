"""The smallest margin through training with natural and with random labels, and when each separates (fig. 12)."""

import functools
import json
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import SymmetricalLogLocator

from margin_jax.run_folder.read import Recorded
from margin_jax.statistics import estimates
from margin_jax.statistics.estimates import Estimate
from plots import paper, style, tables
from plots.sweeps.read import COLOURS, NATURAL, RANDOM, WHEN, Condition, Sweep, by_labels, common_moment


class Fig12Data(NamedTuple):
    """All that figure 12 shows.

    Attributes:
      kinds: by `NATURAL` and `RANDOM`.
      moment: where smallest margins are compared, as in figure 1.
      smallest: by kind, seed to smallest normalised margin at the moment, of the networks that got there.
      larger: natural less random smallest margin, over the seeds of both.
      later: epoch of separation with random labels less that with natural ones, over the seeds of both.
      censored: seeds in `later` whose network with random labels had not separated: its last epoch stands for it, so
        that the true difference is larger.
      lost: seeds not in `later`, whose network with natural labels had not separated, or that one kind lacks.
    """

    kinds: dict[str, Condition]
    moment: str
    smallest: dict[str, dict[int, float]]
    larger: Estimate
    later: Estimate
    censored: tuple[int, ...]
    lost: tuple[int, ...]


def compute_numbers(sweep: Sweep) -> Fig12Data:
    """Reads and computes what figure 12 shows; raises as `fig01.compute_numbers`."""
    kinds = by_labels(sweep, "figure 12")
    moment = common_moment(sweep, kinds)
    rows = sweep.moments[moment].rows
    at = dict(zip(rows["network"].astype(int).tolist(), rows["margin_min"].tolist()))
    smallest = {name: {seed: at[network] for seed, network in zip(kind.seeds, kind.networks) if network in at}
                for name, kind in kinds.items()}
    both = sorted(set(smallest[NATURAL]) & set(smallest[RANDOM]))
    larger = estimates.t_interval(np.array([smallest[NATURAL][seed] - smallest[RANDOM][seed] for seed in both]))
    runs = {name: dict(zip(kind.seeds, kind.runs)) for name, kind in kinds.items()}
    judged = [seed for seed in runs[NATURAL] if runs[NATURAL][seed].separation is not None and seed in runs[RANDOM]]
    epochs = {name: np.array([_separation_epoch(runs[name][seed]) for seed in judged], np.float64) for name in runs}
    later = estimates.t_interval(epochs[RANDOM] - epochs[NATURAL])
    censored = tuple(seed for seed in judged if runs[RANDOM][seed].separation is None)
    lost = tuple(sorted({*runs[NATURAL], *runs[RANDOM]} - set(judged)))
    return Fig12Data(kinds, moment, smallest, larger, later, censored, lost)


def _separation_epoch(run: Recorded) -> int:
    """The epoch of separation, or the last one that is known to have come before."""
    return int(run.metrics["epoch"][-1]) if run.separation is None else run.separation


def write_numbers(numbers: Fig12Data, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes the numbers of figure 12 with a verdict on each claim."""

    def kind(which: str, condition: Condition) -> dict[str, Any]:
        last = [{column: paper.plain(run.metrics[column][-1]) for column in
                 ("epoch", "train_error", "test_error", "train_loss", "rho", "margin_min")} for run in condition.runs]
        return {"random_fraction": condition.values[0], "networks": condition.networks, "seeds": condition.seeds,
                "diverged": condition.diverged, "separation_epochs": [run.separation for run in condition.runs],
                "smallest_margin": {str(seed): paper.plain(value) for seed, value in numbers.smallest[which].items()},
                "last": last}

    content = {
        "moment": numbers.moment, "when": WHEN[numbers.moment],
        "claims": [
            {"claim": paper.FIG12_CLAIMS["larger"], "natural_less_random": paper.row(numbers.larger),
             "verdict": paper.above(numbers.larger)},
            {"claim": paper.FIG12_CLAIMS["later"], "epochs_later": paper.row(numbers.later),
             "seeds_not_separated_with_random_labels": numbers.censored, "seeds_left_out": numbers.lost,
             "verdict": paper.above(numbers.later)}],
        **{which: kind(which, condition) for which, condition in numbers.kinds.items()},
    }
    return style.write(folder / f"{name}.json", f"{json.dumps(content, indent=2)}\n".encode())


@style.styled
def draw_figure(numbers: Fig12Data, data: str) -> Figure:
    """Draws smallest normalised margins, and below them errors, per epoch.

    Args:
      numbers: of `compute_numbers`.
      data: the name of the data set.

    Returns:
      The figure: thin lines per network with gids such as "natural-R", thick ones of means over the epochs that all
      networks of a kind have; separation of each network is marked.
    """
    fig = style.new_figure(style.SINGLE, 4.7)
    top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
    fig.suptitle(f"Smallest margin on {data}\n{_claims_text(numbers)}", fontsize=7)
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
    bottom.set_xticks(style.whole_ticks(0, last))
    bottom.set_xlabel("epoch (dotted: data separation)")
    bottom.set_ylabel("error (%)")
    bottom.legend([line for line in bottom.lines if line.get_gid() in ("natural", "natural-train")], ["test", "train"],
                  loc="center right", frameon=True, framealpha=0.9, edgecolor="none")
    _scale(top, numbers)
    top.legend(loc="lower center", bbox_to_anchor=(0.5, 0.98), ncols=2, borderpad=0)
    fig.align_ylabels([top, bottom])
    return fig


def _lines(axes: Axes, name: str, kind: Condition, column: str, dash: str, label: str) -> None:
    suffix = "-train" if column == "train_error" else ""
    for network, run in zip(kind.networks, kind.runs):
        axes.plot(run.metrics["epoch"], run.metrics[column], color=COLOURS[name], linewidth=0.5, alpha=0.6,
                  linestyle=dash, gid=f"{name}-{network}{suffix}")
    if not kind.runs:
        return
    shared = functools.reduce(np.intersect1d, [run.metrics["epoch"] for run in kind.runs])
    values = np.stack([run.metrics[column][np.isin(run.metrics["epoch"], shared)] for run in kind.runs])
    axes.plot(shared, estimates.t_interval(values).value, color=COLOURS[name], linewidth=1.3, linestyle=dash,
              label=label, gid=f"{name}{suffix}")
    low, high = style.band(values)
    if column == "margin_min":  # before, the seeds themselves show how far they lie apart
        separated = [np.inf if run.separation is None else run.separation for run in kind.runs]
        low = np.where(shared >= max(separated), low, np.nan)
    axes.fill_between(shared, low, high, color=COLOURS[name], alpha=0.15, linewidth=0)


def _scale(axes: Axes, numbers: Fig12Data) -> None:
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
    axes.set_ylabel(style.MARGIN + (f"\n(log beyond $\\pm 10^{{{power}}}$)" if linear else ""))


def _claims_text(numbers: Fig12Data) -> str:
    larger, later = paper.above(numbers.larger), paper.above(numbers.later)
    epochs = tables.interval_text(numbers.later, 0)
    more = "at least " if numbers.censored else ""
    return (f"at {WHEN[numbers.moment]} natural larger: {larger}\n"
            f"random labels separate {more}{epochs} epochs later: {later}")
