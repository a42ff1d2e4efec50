"""Sorted margins with natural and with random labels: rank by rank, enlarged, and in bins of the smallest (fig. 1)."""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from margin_jax.run_folder import tables as columns
from margin_jax.statistics import estimates
from margin_jax.statistics.estimates import UNDEFINED, Estimate
from margin_jax.theory.distribution import margin_curve
from plots import paper, style, tables
from plots.runs import curves, read
from plots.sweeps.read import COLOURS, NATURAL, RANDOM, WHEN, Condition, Sweep, by_labels, common_moment


class LabelSide(NamedTuple):
    """Networks of one kind of labels at one moment.

    Attributes:
      fraction: share of random labels.
      networks, seeds: those that got to the moment, by ascending seed.
      epochs: of the moment, one per network.
      curves: (S, N) normalised margins, ascending.
      left_out: numbers of networks of the kind that did not get there.
    """

    fraction: float
    networks: tuple[int, ...]
    seeds: tuple[int, ...]
    epochs: tuple[int, ...]
    curves: np.ndarray
    left_out: tuple[int, ...]


class Fig01Data(NamedTuple):
    """All that figure 1 shows.

    Attributes:
      moment: one of `MOMENTS`.
      natural, random: the two kinds of labels.
      above, below: shares of ranks at which the 95% interval over seeds of natural less random lies above and below 0.
      shares: (P,) share of ranks at which the natural curve lies above, for each seed that both have.
      weakest: natural less random at the rank at which the interval over seeds shows it least; NaN with one seed.
      weakest_rank: that rank, from 1, the smallest margin; 0 with one seed.
      by_rho: the mean of `shares` under each rho that the tables have.
      bins: counts of the 100 smallest margins in ten bins by "own", each network's range, and "common", that of all
        networks; by kind of labels (S, 10).
      edges: (11,) of the common range.
    """

    moment: str
    natural: LabelSide
    random: LabelSide
    above: float
    below: float
    shares: np.ndarray
    weakest: Estimate
    weakest_rank: int
    by_rho: dict[str, float]
    bins: dict[str, dict[str, np.ndarray]]
    edges: np.ndarray


def compute_numbers(sweep: Sweep) -> Fig01Data:
    """Reads and computes what figure 1 shows.

    Raises:
      OtherSweep: not a sweep over natural and random labels.
      Lacking: a kind without a network.
    """
    kinds = by_labels(sweep, "figure 1")
    moment = common_moment(sweep, kinds)
    natural, random = (_side(sweep, moment, kind) for kind in kinds.values())
    pairs = _pairs(natural, random)
    first, second = natural.curves[pairs[:, 0]], random.curves[pairs[:, 1]]
    difference = estimates.t_interval(first - second)
    above, below = float(np.mean(difference.low > 0)), float(np.mean(difference.high < 0))
    smallest = {name: side.curves[:, :curves.SMALLEST] for name, side in ((NATURAL, natural), (RANDOM, random))}
    whole = np.concatenate([values.ravel() for values in smallest.values()])
    edges = np.linspace(*curves.limits(np.sort(whole)), curves.BINS + 1)
    bins = {"own": {name: np.array([np.histogram(row, curves.BINS, curves.limits(row))[0] for row in values])
                    for name, values in smallest.items()},
            "common": {name: np.array([np.histogram(row, edges)[0] for row in values])
                       for name, values in smallest.items()}}
    return Fig01Data(moment, natural, random, above, below, (first > second).mean(1), *_weakest(difference),
                     _by_rho(sweep, moment, natural, random, pairs), bins, edges)


def _weakest(difference: Estimate) -> tuple[Estimate, int]:
    """The rank of the smallest mean in units of its interval, which tests a claim on all ranks (Berger, 1982)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shown = difference.value / difference.half
    if np.isnan(shown).all():
        return UNDEFINED._replace(n=int(difference.n.max())), 0
    place = int(np.nanargmin(shown))
    return Estimate(*(values[place].item() for values in difference)), place + 1


def _side(sweep: Sweep, moment: str, kind: Condition) -> LabelSide:
    rows = sweep.moments[moment].rows
    epochs = dict(zip(rows["network"].astype(int).tolist(), rows["epoch"].astype(int).tolist()))
    places = [place for place, network in enumerate(kind.networks) if network in epochs]
    networks = tuple(kind.networks[place] for place in places)
    curves = [margin_curve(run.normalised(int(np.flatnonzero(run.margins.epochs == epochs[network])[0])))[1]
              for network, run in ((kind.networks[place], kind.runs[place]) for place in places)]
    return LabelSide(kind.values[0], networks, tuple(kind.seeds[place] for place in places),
                     tuple(epochs[network] for network in networks), np.stack(curves),
                     tuple(sorted({*kind.networks, *kind.diverged} - set(networks))))


def _pairs(natural: LabelSide, random: LabelSide) -> np.ndarray:
    """(P, 2) places of the networks of one seed, which share their initial weights."""
    shared = sorted(set(natural.seeds) & set(random.seeds))
    return np.array([(natural.seeds.index(seed), random.seeds.index(seed)) for seed in shared], int).reshape(-1, 2)


def _by_rho(sweep: Sweep, moment: str, natural: LabelSide, random: LabelSide, pairs: np.ndarray) -> dict[str, float]:
    """The paper normalises with rho over the convolutions: the same comparison under every rho there is."""
    rows = sweep.moments[moment].rows
    chosen = columns.rows(rows, network=(*natural.networks, *random.networks))
    place = {int(network): row for row, network in enumerate(chosen["network"].tolist())}
    shares = {}
    for name in (name for name in chosen if name.startswith("log_rho:")):
        logs = np.log(chosen["rho"]) - chosen[name]
        first, second = (side.curves * np.exp(logs[[place[network] for network in side.networks]])[:, None]
                         for side in (natural, random))
        if np.isfinite(logs).all() and len(pairs):
            shares[name.partition(":")[2]] = float((first[pairs[:, 0]] > second[pairs[:, 1]]).mean())
    return shares


def larger(numbers: Fig01Data) -> str:
    """The verdict on the claim that all natural margins are larger, rank by rank."""
    if numbers.below > 0:
        return paper.NOT
    return paper.REPRODUCED if numbers.above == 1 else paper.OPEN


def first_bin(numbers: Fig01Data, which: str) -> Estimate:
    """How many more of the 100 smallest margins the first bin holds with random labels, over the seeds of both."""
    bins = numbers.bins[which]
    pairs = _pairs(numbers.natural, numbers.random)
    return estimates.t_interval((bins[RANDOM][pairs[:, 1], 0] - bins[NATURAL][pairs[:, 0], 0]).astype(np.float64))


def write_numbers(numbers: Fig01Data, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes the numbers of figure 1 with a verdict on each claim."""
    sides = {NATURAL: numbers.natural, RANDOM: numbers.random}

    def side(which: str, kind: LabelSide) -> dict[str, Any]:
        return {"random_fraction": kind.fraction, "networks": kind.networks, "seeds": kind.seeds, "epochs": kind.epochs,
                "left_out": kind.left_out, "five_smallest": kind.curves[:, :5].tolist(),
                "median": [paper.plain(value) for value in np.median(kind.curves, axis=1)],
                "bins_own_range": numbers.bins["own"][which].tolist(),
                "bins_common_range": numbers.bins["common"][which].tolist()}

    content = {
        "moment": numbers.moment, "when": WHEN[numbers.moment],
        "claims": [
            {"claim": paper.FIG01_CLAIM, "verdict": larger(numbers),
             "share_of_ranks_above": numbers.above, "share_of_ranks_below": numbers.below,
             "share_of_ranks_above_by_seed": paper.row(estimates.t_interval(numbers.shares)),
             "share_of_ranks_above_by_rho": numbers.by_rho,
             "weakest_rank": {"rank": numbers.weakest_rank, "natural_less_random": paper.row(numbers.weakest)}},
            *({"claim": paper.FIG01_BINS_CLAIM, "range": which, "paper": paper.FIG01_FIRST_BIN,
               "ours": {which_labels: paper.row(estimates.t_interval(counts[:, 0].astype(np.float64)))
                        for which_labels, counts in numbers.bins[which].items()},
               "random_less_natural": paper.row(first_bin(numbers, which)),
               "verdict": paper.above(first_bin(numbers, which))} for which in ("own", "common"))],
        **{which: side(which, kind) for which, kind in sides.items()}, "common_edges": numbers.edges.tolist(),
    }
    return style.write(folder / f"{name}.json", f"{json.dumps(content, indent=2)}\n".encode())


ENLARGED = 5


@style.styled
def draw_figure(numbers: Fig01Data, data: str) -> Figure:
    """Draws the four panels of figure 1.

    Args:
      numbers: of `compute_numbers`.
      data: the name of the data set.

    Returns:
      The figure; curves have the gids "natural-R" and "random-R" and their means "natural" and "random"; the last two
      panels hold bars, in order of `COLOURS`.
    """
    fig = style.new_figure(style.DOUBLE, 5.1)
    (top, near), (separate, common) = fig.subplots(2, 2)
    sides = {NATURAL: numbers.natural, RANDOM: numbers.random}
    fig.suptitle(f"Natural and random labels on {data}, at {WHEN[numbers.moment]}")
    _curves(top, sides, numbers)
    _enlarge(near, sides)
    _bars(separate, numbers, "own")
    _bars(common, numbers, "common")
    for axes, letter in zip(fig.axes, "abcd"):
        axes.set_title(f"{letter}  {axes.get_title()}", loc="left", fontsize=7)
        axes.set_title("")
    fig.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    fig.align_ylabels()
    return fig


def _curves(axes: Axes, sides: dict[str, LabelSide], numbers: Fig01Data) -> None:
    for name, side in sides.items():
        rank, _ = margin_curve(side.curves[0])
        points = read.thin(rank.size)
        for network, curve in zip(side.networks, side.curves):
            axes.plot(rank[points], curve[points], color=COLOURS[name], linewidth=0.5, alpha=0.6,
                      gid=f"{name}-{network}")
        absent = f", {len(side.left_out)} not there" if side.left_out else ""
        axes.plot(rank[points], side.curves.mean(0)[points], color=COLOURS[name], linewidth=1.4, gid=name,
                  label=f"{name} labels, mean of {len(side.networks)} (epochs {_span(side.epochs)}{absent})")
        low, high = style.band(side.curves)
        axes.fill_between(rank[points], low[points], high[points], color=COLOURS[name], alpha=0.2, linewidth=0)
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"rank $n/N$, $N$ = {rank.size:,} training examples")
    _margin_scale(axes, [side.curves for side in sides.values()])
    seeds = f"{numbers.shares.size} seeds" if numbers.shares.size > 1 else "one seed, no intervals"
    axes.set_title(f"natural above at {_percent(numbers.above)}% of ranks, below at {_percent(numbers.below)}%\n"
                   f"(95%, {seeds}; paper: above at all): {larger(numbers)}")


def _margin_scale(axes: Axes, curves: list[np.ndarray]) -> None:
    """A log axis where all margins are positive: those with random labels may be a hundredth of the others."""
    least, most = (float(pick([pick(values) for values in curves])) for pick in (np.min, np.max))
    if least > 0 and most > 10 * least:
        axes.set_yscale("log")
        axes.set_ylim(least / 1.5, most * 1.5)
        axes.set_ylabel(style.MARGIN)
        return
    axes.axhline(0, color=style.GREY, linewidth=0.6, zorder=1)
    axes.set_ylabel(style.margin_axis(axes.yaxis, np.concatenate([values.ravel() for values in curves])))


def _percent(share: float) -> str:
    """Whole only where it is: 99.99% of ranks are not all of them."""
    return f"{100 * share:.0f}" if share in (0.0, 1.0) else f"{min(max(100 * share, 0.01), 99.99):.2f}"


def _span(epochs: tuple[int, ...]) -> str:
    return f"{min(epochs)}–{max(epochs)}" if min(epochs) < max(epochs) else f"{epochs[0]}"


def _enlarge(axes: Axes, sides: dict[str, LabelSide]) -> None:
    for shift, (name, side) in zip((-0.12, 0.12), sides.items()):
        values = side.curves[:, :ENLARGED]
        mean = estimates.t_interval(values)
        place = np.arange(1, values.shape[1] + 1) + shift
        axes.plot(np.tile(place + 0.6 * shift, len(values)), values.ravel(), ".", color=COLOURS[name], markersize=3,
                  alpha=0.6, markeredgewidth=0, gid=f"{name}-seeds")
        half = np.where(np.isfinite(mean.half) & (len(values) > 2), mean.half, 0)
        axes.errorbar(place, mean.value, half, fmt="o", markersize=3.5, color=COLOURS[name], elinewidth=0.8, capsize=2)
    axes.set_xticks(range(1, ENLARGED + 1))
    axes.set_xlabel("rank $n$ of the five smallest")
    _margin_scale(axes, [side.curves[:, :ENLARGED] for side in sides.values()])
    axes.set_title("the five smallest, each seed, mean and 95% interval")


def _bars(axes: Axes, numbers: Fig01Data, which: str) -> None:
    edges = numbers.edges if which == "common" else np.arange(curves.BINS + 1) + 0.5
    width, printed = np.diff(edges), dict(zip((NATURAL, RANDOM), paper.FIG01_FIRST_BIN))
    texts = []
    for place, (name, counts) in enumerate(numbers.bins[which].items()):
        mean = estimates.t_interval(counts.astype(np.float64))
        bars = axes.bar(edges[:-1] + (0.1 + 0.4 * place) * width, mean.value, 0.4 * width, align="edge",
                        color=COLOURS[name])
        if np.min(mean.n) > 2:
            filled = mean.value > 0
            centres = np.array([bar.get_x() + bar.get_width() / 2 for bar in bars])
            ends = np.minimum(mean.half, mean.value), mean.half  # no bin holds fewer than none
            axes.errorbar(centres[filled], mean.value[filled], [end[filled] for end in ends], fmt="none",
                          ecolor="black", elinewidth=0.6, capsize=1.5)
        first = Estimate(*(field[0] for field in mean))
        texts.append(f"{tables.interval_text(first, 1)} {name} (paper {printed[name]})")
    axes.set_ylim(bottom=0)
    if which == "common":
        axes.set_xlabel(f"{style.margin_axis(axes.xaxis, edges)}\n"
                        "the 100 smallest, ten bins over one range for all")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    else:
        axes.set_xticks(range(1, curves.BINS + 1))
        axes.set_xlabel("bin of the 100 smallest\nten equal bins over each network's own range")
    axes.set_ylabel("training examples")
    axes.set_title(f"first bin: {texts[0]},\n{texts[1]}: {paper.above(first_bin(numbers, which))}")
