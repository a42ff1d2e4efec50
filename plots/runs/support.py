"""How early the final smallest margins can be told: rank correlation and overlap with the end, against chance.

The numbers of the figure judge what the paper says of predicting the smallest margins. scipy.stats is loaded at its
first use: it takes a second, which a start need not pay.
"""

import json
from typing import Any, NamedTuple

import numpy as np
import scipy
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from margin_jax.run_folder.read import Recorded
from margin_jax.statistics.estimates import Estimate, finite_pairs
from margin_jax.statistics.proportions import wilson_interval
from margin_jax.statistics.ranking import spearman
from plots import paper, style
from plots.paper import plain
from plots.runs import read, tracks
from plots.runs.tracks import need_course
from plots.style import Lacking

COUNTS = (20, 100, 200)
LEVEL = 0.95
_WAY = (0.25, 0.5, 0.75)
HALF_WAY = "50% of the way to separation"


class Prediction(NamedTuple):
    """Margins through training compared with those of the last recorded epoch.

    Attributes:
      epochs: (E,) of all records, ascending.
      correlation: (E,) Spearman's, over all training examples; NaN where it is undefined.
      overlaps: by k, (E,) share in percent of the k smallest final margins among the k smallest at the epoch.
      chance: by k.
      separation: the epoch of data separation, or None.
      examples: N.
    """

    epochs: np.ndarray
    correlation: np.ndarray
    overlaps: dict[int, np.ndarray]
    chance: dict[int, Estimate]
    separation: int | None
    examples: int

    def row(self, epoch: float) -> int:
        """As of `row_at`."""
        return row_at(self.epochs, epoch)


def row_at(epochs: np.ndarray, epoch: float) -> int:
    """The row of the last record at `epoch` or before it, of the first record at least; `epochs` ascend."""
    return max(int(np.searchsorted(epochs, epoch, "right")) - 1, 0)


def compute_prediction(run: Recorded) -> Prediction:
    """Compares every record with the last one, one at a time, so that memory does not grow with their number.

    Raises:
      Lacking: as of `need_course`, or fewer examples than the smallest of `COUNTS`.
    """
    need_course(run, "the figure of the final support")
    stored, count = run.margins, run.margins.ids.size
    counts = [k for k in COUNTS if k <= count]
    if not counts:
        raise Lacking(f"the figure of the final support follows the {COUNTS[0]} smallest margins, and {run.workdir} "
                      f"has {count} training examples")
    last = np.asarray(stored.margins[-1])
    final = stored.ids[read.ranked_rows(last, stored.ids)]
    correlation, overlaps = np.empty(stored.epochs.size), {k: np.empty(stored.epochs.size) for k in counts}
    for row, values in enumerate(stored.margins):
        correlation[row] = spearman(*finite_pairs(values, last))
        smallest = stored.ids[read.ranked_rows(values, stored.ids)]
        for k in counts:
            overlaps[k][row] = read.percent_shared(smallest, final, k)
    return Prediction(stored.epochs, correlation, overlaps, {k: chance(k, count) for k in counts}, run.separation,
                      count)


def chance(k: int, count: int) -> Estimate:
    """Overlap in percent of k of `count` examples drawn at random with a fixed set of k, and its 95% range."""
    drawn = scipy.stats.hypergeom(count, k, k)
    low, high = drawn.interval(LEVEL)
    return Estimate(100 * k / count, 100 * float(low) / k, 100 * float(high) / k, k)


def chance_row(k: int, count: int) -> dict[str, float]:
    """`chance` for JSON: its mean and the ends of its range."""
    mean, low, high, _ = chance(k, count)
    return {"mean": mean, "low": low, "high": high}


def moments(course: Prediction) -> dict[str, int]:
    """Rows of the records at which numbers are told: on the way to separation, there, and through all of training.

    Each is the last record at or before its moment. Without separation, training alone.
    """
    last, rows = int(course.epochs[-1]), {"first record": 0}
    if course.separation is not None:
        rows |= {f"{share:.0%} of the way to separation": course.row(share * course.separation) for share in _WAY}
        rows |= {"last record before separation": course.row(course.separation - 1),
                 "separation": course.row(course.separation)}
    return rows | {f"{share:.0%} of training": course.row(share * last) for share in _WAY}


def share_interval(percent: float, k: int) -> Estimate:
    """A share of k examples in percent with Wilson's 95% interval, which takes them for a sample of others."""
    wilson = wilson_interval(round(percent * k / 100), k)
    return Estimate(percent, 100 * wilson.low, 100 * wilson.high, k)


def correlation_interval(rho: float, count: int) -> Estimate:
    """Spearman's correlation over examples with its 95% interval: Fisher's z, variance of Bonett and Wright (2000)."""
    if not np.isfinite(rho) or count < 4:
        return Estimate(rho, np.nan, np.nan, count)
    half = scipy.stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt((1 + rho**2 / 2) / (count - 3))
    z = np.arctanh(np.clip(rho, -1 + 1e-15, 1 - 1e-15))
    return Estimate(rho, float(np.tanh(z - half)), float(np.tanh(z + half)), count)


_COLOURS = {20: "black", 100: style.VERMILLION, 200: style.BLUE}
_MARKS = {"fig08": "s", "fig09": "D"}


@style.styled
def draw_figure(course: Prediction, data: str) -> Figure:
    """Draws Spearman's correlation with the final margins, and the share of the final smallest ones present.

    Args:
      course: the comparison.
      data: the name of the data set.

    Returns:
      The figure; its first axes hold a line with gid "correlation", its second lines "overlap-K" and bands
      "chance-K", in percent, and the paper's shares at separation with gid "paper-FIGURE-K".
    """
    fig = style.new_figure(style.SINGLE, 4.2)
    fig.suptitle(f"{course.examples:,} training examples of {data};\ncompared with the last record, epoch "
                 f"{course.epochs[-1]}", fontsize=7)
    top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=(1, 1.6))
    top.axhline(0, color=style.GREY, linewidth=0.6, linestyle=(0, (4, 3)))
    top.plot(course.epochs, course.correlation, color="black", gid="correlation")
    known = np.isfinite(course.correlation)
    top.set_ylim(min(-0.1, float(np.min(course.correlation, initial=0, where=known)) - 0.05), 1.05)
    top.set_ylabel("rank correlation\nof all margins")
    _overlaps(bottom, course)
    bottom.set_xlabel(tracks.over_epochs(top, bottom, course.epochs, course.separation))
    fig.align_ylabels([top, bottom])
    return fig


def _overlaps(axes: Axes, course: Prediction) -> None:
    for k, values in course.overlaps.items():
        band = course.chance[k]
        axes.plot(course.epochs, values, color=_COLOURS[k], gid=f"overlap-{k}", zorder=3,
                  label=f"{k} smallest\n(chance {band.low:.1f}–{band.high:.1f}%)")
        axes.axhspan(band.low, band.high, color=_COLOURS[k], alpha=0.18, linewidth=0, zorder=1, gid=f"chance-{k}")
    for name, shares in paper.SUPPORT_PRESENT.items():
        for k, share in shares.items() if course.separation is not None else ():
            axes.plot(course.separation, share, _MARKS[name], color=_COLOURS[k], markerfacecolor="white",
                      markersize=4.5, label=f"paper, fig. {int(name[3:])}: {share}% of {k}", gid=f"paper-{name}-{k}",
                      zorder=5, linestyle="none")
    axes.set_ylim(-3, 103)
    axes.set_ylabel("of the final smallest\nthere already (%)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 0.98), ncols=2, borderpad=0)


EARLY = "There is no clear way of predicting which datapoints will have smallest margin before data separation."


def numbers_json(run: Recorded, course: Prediction) -> str:
    """The courses, the values at separation and at shares of training, and the claims, as JSON.

    Args:
      run: what was compared, for Kendall's correlation, which is told at those moments alone.
      course: the comparison.
    """
    content = {
        "examples": course.examples, "compared_with_epoch": int(course.epochs[-1]),
        "separation_epoch": course.separation,
        "moments": {name: _moment(run, course, row) for name, row in moments(course).items()},
        "claims": [_early_claim(course), *_presence_claims(course)],
        "chance_percent": {str(k): chance_row(k, course.examples) for k in course.chance},
        "intervals": "95%, of one run: of a correlation over its examples (Bonett and Wright 2000), of a share of k "
                     "examples Wilson's; chance is the hypergeometric range of k examples drawn at random",
        "epochs": course.epochs.tolist(), "spearman": [plain(value) for value in course.correlation],
        "overlap_percent": {str(k): values.tolist() for k, values in course.overlaps.items()},
    }
    return f"{json.dumps(content, indent=2)}\n"


def _moment(run: Recorded, course: Prediction, row: int) -> dict[str, Any]:
    rho, last = float(course.correlation[row]), np.asarray(run.margins.margins[-1])
    values = np.asarray(run.margins.margins[row])
    values, last = finite_pairs(values, last)
    tau = float(scipy.stats.kendalltau(values, last).statistic) if np.isfinite(rho) else np.nan
    interval = correlation_interval(rho, values.size)
    return {"epoch": int(course.epochs[row]), "spearman": plain(rho),
            "spearman_interval": [plain(interval.low), plain(interval.high)],
            "kendall": plain(tau), "overlap_percent": {str(k): _share(course, k, row) for k in course.overlaps}}


def _share(course: Prediction, k: int, row: int) -> dict[str, Any]:
    value, band = float(course.overlaps[k][row]), course.chance[k]
    share = share_interval(value, k)
    against = "above" if value > band.high else "below" if value < band.low else "within"
    return {"value": value, "low": share.low, "high": share.high, "chance": against}


def _early_claim(course: Prediction) -> dict[str, Any]:
    """The claim on predictions before separation, by the overlaps half way there: does any lie above chance?"""
    row = moments(course).get(HALF_WAY)
    if row is None:
        return {"claim": EARLY, "verdict": paper.OPEN, "because": "the data did not separate"}
    above = [k for k, values in course.overlaps.items() if values[row] > course.chance[k].high]
    shares = ", ".join(f"{course.overlaps[k][row]:.0f}% of {k}" for k in course.overlaps)
    counts = ", ".join(map(str, above)) or "none"
    return {"claim": EARLY, "verdict": paper.NOT if above else paper.REPRODUCED,
            "because": f"at epoch {course.epochs[row]}, half way to separation, {shares} final smallest margins are "
                       f"among as many smallest, above the 95% range of chance for {counts}; "
                       f"rank correlation of all margins with the final ones {course.correlation[row]:.2f}"}


def _presence_claims(course: Prediction) -> list[dict[str, Any]]:
    """The paper's shares present at separation: reproduced where they lie in our interval."""
    rows = []
    for figure, shares in paper.SUPPORT_PRESENT.items():
        for k, share in shares.items():
            row: dict[str, Any] = {"claim": f"{share}% of the final {k} smallest margins are present at separation",
                                   "figure": figure, "paper_percent": share, "verdict": paper.OPEN}
            if course.separation is not None and k in course.overlaps:
                at = course.row(course.separation)
                ours = share_interval(float(course.overlaps[k][at]), k)
                row |= {"ours_percent": _share(course, k, at), "verdict": paper.inside(share, ours)}
            rows.append(row)
    return rows
