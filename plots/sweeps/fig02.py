"""Different minima: margin curves, small-margin counts and areas against the test error of many networks (fig. 2).

Of a sweep at one moment: representative curves, counts, bins of the area, and notes on what their numbers are.
"""

import json
import pathlib
import textwrap
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from margin_jax.run_folder.tables import Table
from margin_jax.statistics import estimates
from margin_jax.statistics.estimates import UNDEFINED, Estimate
from margin_jax.theory.distribution import margin_curve
from plots import paper, style
from plots.paper import plain
from plots.runs import read
from plots.style import Lacking
from plots.sweeps import audit
from plots.sweeps.audit import verdicts
from plots.sweeps.read import FEWEST, KINDS, VARIED, WHEN, Moment, Sweep, varied

AUC = "auc_mean"
# Of the relative gammas the middle one: a tenth of the median leaves too few examples to count, the whole median half.
GAMMA = 0.5
POOLED, ABSOLUTE = "small_margin_count_pooled@", f"small_margin_count_absolute@{paper.FIG02_GAMMAS['count']:g}"


class Bin(NamedTuple):
    """Networks of neighbouring areas: mean area, test error in percent, half its interval's width, their numbers."""

    auc: float
    error: Estimate
    half: float
    networks: list[int]


class Fig02Data(NamedTuple):
    """All that the figure shows.

    Attributes:
      moment: where the networks are compared.
      rows: columns of moments.csv of its r separated networks whose area and test error are finite.
      left_out: how many networks of the sweep are not among them.
      colour: the column of `plots.sweeps.read.VARIED` that tells them apart, "" without one.
      count: the key of the small-margin count.
      curves: number of a network to its normalised margins (N,), by ascending test error.
      bins: by ascending area.
      agreement: Spearman's correlations from audit.csv, above 0 where they support the claim, by measure.
      spread: Spearman's correlation of the column `colour` with the test error, bootstrap over networks; NaN for few.
      all_covered: whether the paper's absolute gamma covers all examples of all networks, by key of the count.
    """

    moment: Moment
    rows: Table
    left_out: int
    colour: str
    count: str
    curves: dict[int, np.ndarray]
    bins: list[Bin]
    agreement: dict[str, Estimate]
    spread: Estimate
    all_covered: dict[str, bool]


def compute_numbers(sweep: Sweep, moment: Moment, audit: Table) -> Fig02Data:
    """Reads and computes what figure 2 shows.

    Args:
      sweep: the work folder.
      moment: where its networks are compared.
      audit: columns of audit.csv, each (Q,); may be empty.

    Raises:
      Lacking: fewer than two separated networks with numbers, or networks with other labels or rho than others.
      InputError: a network's run folder lacks its margins.
    """
    table = moment.separated
    several = [VARIED[name] for name in KINDS if np.unique(sweep.networks[name]).size > 1]  # NaN counts as one
    if several:
        raise Lacking(f"figure 2 ranks networks of one kind, and those of {sweep.workdir} differ in "
                      f"{' and '.join(several)}")
    good = np.isfinite(table["test_error"]) & np.isfinite(table.get(AUC, table["margin_auc"]))
    rows = {name: column[good] for name, column in table.items()}
    total, size = sweep.networks["network"].size, int(good.sum())
    if size < 2:
        raise Lacking(f"figure 2 compares separated networks, and at {WHEN[moment.name]} {sweep.workdir} has {size} of "
                      f"{total}, expected 2 or more; train more networks, or for more epochs")
    chosen = rows["network"][representative(rows["test_error"], rows["network"])].astype(int)
    curves = {int(network): margin_curve(sweep.curve(moment, network))[1] for network in chosen}
    examples = next(iter(curves.values())).size
    agreement: dict[str, Estimate] = {}
    if moment.name in audit["moment"]:
        agreement = {measure: statistics.get("spearman", UNDEFINED) for measure, statistics in
                     verdicts(audit, moment.name, "test_error").items()}
    colour = varied(rows)
    spread = estimates.agreement(rows[colour], rows["test_error"]) if colour and size >= FEWEST else UNDEFINED
    covered = {key: bool((rows[key] == examples).all()) for key in (ABSOLUTE, f"conv:{ABSOLUTE}") if key in rows}
    return Fig02Data(moment, rows, total - size, colour, count_key(rows), curves, bins(rows), agreement, spread,
                     covered)


def representative(errors: np.ndarray, networks: np.ndarray) -> np.ndarray:
    """Rows of at most seven networks, at even steps through their order of test error, ties by number."""
    ranked = np.lexsort((networks, errors))
    steps = np.linspace(0, ranked.size - 1, min(paper.FIG02_CURVES, ranked.size))
    return ranked[steps.round().astype(int)]


def count_key(rows: Table) -> str:
    """The count whose gamma, in multiples of the pooled median, is nearest to `GAMMA`; "" without any."""
    keys = [key for key in rows if key.startswith(POOLED)]
    return min(keys, key=lambda key: abs(np.log(float(key.removeprefix(POOLED)) / GAMMA)), default="")


def bins(rows: Table) -> list[Bin]:
    """Ten bins of networks sorted by area, as even as can be; fewer where a bin would hold a single network."""
    area = rows.get(AUC, rows["margin_auc"])
    ranked = np.lexsort((rows["network"], area))
    parts = np.array_split(ranked, max(min(paper.FIG02_BINS, ranked.size // 2), 1))
    errors = [rows["test_error"][part] for part in parts]
    return [Bin(float(area[part].mean()), estimates.t_interval(error), float(estimates.half_width(error)),
                rows["network"][part].astype(int).tolist()) for part, error in zip(parts, errors)]


def write_numbers(numbers: Fig02Data, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes the numbers of the figure: claims, Spearman's correlations above 0 where they support one, bins."""
    rows, moment = numbers.rows, numbers.moment

    def claim(name: str, measure: str, verdict: Estimate) -> dict[str, Any]:
        return {"claim": paper.FIG02_CLAIMS[name], "measure": measure, **_correlation(verdict), "moment": moment.name}

    error = dict(zip(rows["network"].astype(int).tolist(), rows["test_error"].tolist()))
    content = {
        "moment": moment.name, "networks": len(error), "left_out": numbers.left_out, "rho": moment.mode,
        "claims": [claim("count", numbers.count, numbers.agreement.get(numbers.count, UNDEFINED)),
                   claim("auc", AUC, numbers.agreement.get(AUC, UNDEFINED)),
                   *([claim("init_std", "init_std", numbers.spread)] if numbers.colour == "init_std" else [])],
        "other_readings": {key: _correlation(verdict) for key, verdict in numbers.agreement.items() if _reading(key)},
        "curves": [{"network": network, "test_error": error[network]} for network in numbers.curves],
        "bins": [{"auc": part.auc, "test_error": float(part.error.value), "half": plain(part.half),
                  "networks": part.networks} for part in numbers.bins],
        "paper_gamma_covers_all": numbers.all_covered,
    }
    return style.write(folder / f"{name}.json", f"{json.dumps(content, indent=2)}\n".encode())


def _reading(key: str) -> bool:
    """Whether a measure is an area or a count, under any rho: another reading of what the paper plots."""
    return key.rpartition(":")[2].startswith(("auc_", "small_margin_count_"))


def _correlation(verdict: Estimate) -> dict[str, Any]:
    return {"spearman": plain(verdict.value), "low": plain(verdict.low), "high": plain(verdict.high),
            "networks": verdict.n}


def make_notes(numbers: Fig02Data) -> list[str]:
    """One sentence or two each: the direction of signs, the std, other readings, the paper's gamma, who is left out."""
    mode = numbers.moment.mode
    rho = f" ρ: {audit.MODES.get(mode, mode)}." if mode else ""
    notes = [f"Spearman's correlation in the direction of the claim: above 0 supports it; bootstrap 95% interval.{rho}"]
    if audit.verdict_text(numbers.spread) != "–":
        claim = f" (paper: {paper.FIG02_CLAIMS['init_std']})" if numbers.colour == "init_std" else ""
        verdict = audit.verdict_text(numbers.spread)
        notes.append(f"{VARIED[numbers.colour].capitalize()} and test error: {verdict}{claim}.")
    notes += _readings(numbers) + _absolute(numbers)
    if numbers.left_out:
        notes.append(f"{numbers.left_out} networks left out: not separated then, or without a finite measure.")
    return notes


def _readings(numbers: Fig02Data) -> list[str]:
    """The paper does not say which area it took: the two readings with a gamma, at the gamma of the count."""
    gamma = numbers.count.partition("@")[2]
    keys = {"“ramp”": f"auc_ramp_pooled@{gamma}", "“tail”": f"auc_tail_pooled@{gamma}"}
    texts = [f"{name} {audit.verdict_text(numbers.agreement[key])}" for name, key in keys.items()
             if key in numbers.agreement]
    return [f"Other readings of the AUC, at γ = {gamma} × pooled median: {', '.join(texts)}."] if texts else []


def _absolute(numbers: Fig02Data) -> list[str]:
    """What the paper's own gamma of the count says here, under each rho that it may have meant."""
    gamma, mode = ABSOLUTE.partition("@")[2], numbers.moment.mode or "all"
    rhos = {key: audit.MODES.get("conv" if key.startswith("conv:") else mode, mode)
            for key in numbers.all_covered}
    covering = [rhos[key] for key, covered in numbers.all_covered.items() if covered]
    notes = []
    if covering:
        notes.append(f"The paper's γ = {gamma} covers all examples of all networks (ρ: {'; '.join(covering)}).")
    for key, covered in numbers.all_covered.items():
        ours = audit.verdict_text(numbers.agreement.get(key, UNDEFINED))
        if not covered and ours != "–":
            notes.append(f"At the paper's γ = {gamma} (ρ: {rhos[key]}) the count has {ours}.")
    return notes


# Another map than that of the test error, without its palest end.
_STD = ListedColormap(matplotlib.colormaps["plasma"](np.linspace(0.0, 0.85, 256)), "plasma_on_white")
_LINE = 74  # characters of a note that fit into a column


@style.styled
def draw_figure(numbers: Fig02Data, data: str) -> Figure:
    """Draws the three panels of figure 2.

    Args:
      numbers: of `compute_numbers`.
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
    notes = "\n".join(line for note in make_notes(numbers) for line in textwrap.wrap(note, _LINE))
    fig.supxlabel(notes, x=0.02, ha="left", fontsize=6, color=style.GREY)
    return fig


def _curves(fig: Figure, axes: Axes, numbers: Fig02Data) -> None:
    errors = dict(zip(numbers.rows["network"].astype(int).tolist(), numbers.rows["test_error"].tolist()))
    shown = {network: errors[network] for network in numbers.curves}
    colours = ScalarMappable(_limits(np.array(list(shown.values()))), style.EPOCHS)
    for network, curve in numbers.curves.items():
        rank, values = margin_curve(read.finite(curve))
        points = read.thin(values.size)
        axes.plot(rank[points], values[points], color=colours.to_rgba(shown[network]), linewidth=0.9,
                  gid=f"network-{network}")
    size = next(iter(numbers.curves.values())).size
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"rank $n/N$, $N$ = {size:,} training examples")
    axes.set_ylabel(style.margin_axis(axes.yaxis, np.concatenate(list(numbers.curves.values()))))
    _title(axes, "a", "curves", f"{len(shown)} of {len(errors)} networks, at even ranks of test error")
    _bar(fig, axes, colours, "test error (%)")


def _counts(fig: Figure, axes: Axes, numbers: Fig02Data) -> None:
    rows, key = numbers.rows, numbers.count
    counts = rows[key] if key else np.full(rows["network"].size, np.nan)
    look = {"s": 14, "linewidths": 0.3, "edgecolors": "white", "zorder": 3}
    if numbers.colour:
        colours = ScalarMappable(_limits(rows[numbers.colour]), _STD)
        axes.scatter(counts, rows["test_error"], c=colours.to_rgba(rows[numbers.colour]), **look)
        _bar(fig, axes, colours, VARIED[numbers.colour])
    else:
        axes.scatter(counts, rows["test_error"], color=style.BLUE, **look)
    gamma = audit.parse(key).gamma if key else np.nan
    axes.set_xlabel(f"examples with margin ≤ smallest + γ,\nγ = {gamma:g} × pooled median{_about(rows, gamma)}")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_ylabel("test error (%)")
    _title(axes, "b", "count", _spearman_text(numbers, key))


def _about(rows: dict[str, np.ndarray], gamma: float) -> str:
    """The gamma as a normalised margin, from the median over networks of their medians."""
    medians = rows.get("margin_median", np.full(1, np.nan))
    value = gamma * float(np.median(medians))
    if not (np.isfinite(value) and value > 0):
        return ""
    power = int(np.floor(np.log10(value)))
    return f" (about ${value / 10.0**power:.1f} \\times 10^{{{power}}}$)"


def _areas(axes: Axes, numbers: Fig02Data) -> None:
    rows, parts = numbers.rows, numbers.bins
    area = rows.get(AUC, rows["margin_auc"])
    axes.plot(area, rows["test_error"], "o", color=style.GREY, markersize=3, alpha=0.6, markeredgewidth=0,
              label="a network", gid="networks")
    half = np.nan_to_num([part.half for part in parts])
    sizes = sorted({len(part.networks) for part in parts})
    label = f"mean of {'–'.join(str(size) for size in (sizes[0], sizes[-1])[:len(sizes)])}, 95% interval"
    axes.errorbar([part.auc for part in parts], [float(part.error.value) for part in parts], half,
                  color=style.VERMILLION, marker="o", markersize=4, capsize=1.5, linewidth=1.0, elinewidth=0.7,
                  zorder=3, label=label, gid="bins")
    ends = [style.ends(rows["test_error"][np.isin(rows["network"], part.networks)]) for part in parts]
    values = np.concatenate([np.ravel(ends), rows["test_error"]])
    pad = 0.06 * np.ptp(values) or 0.5
    # Two networks have an interval 13 times as wide as their distance: its ends may leave the panel.
    axes.set_ylim(max(values.min() - pad, -pad), values.max() + pad)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 0.97), ncols=2, borderpad=0)
    power = style.margin_axis(axes.xaxis, area).removeprefix(style.MARGIN)
    axes.set_xlabel(f"AUC “mean”: mean normalised margin{power}")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.set_ylabel("test error (%)")
    _title(axes, "c", "auc", f"{len(parts)} bins; {_spearman_text(numbers, AUC)}", room=11)


def _spearman_text(numbers: Fig02Data, key: str) -> str:
    ours = audit.verdict_text(numbers.agreement.get(key, UNDEFINED))
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
