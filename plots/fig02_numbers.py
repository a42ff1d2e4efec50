"""What figure 2 shows of a sweep at one moment: representative curves, small-margin counts, bins of the area."""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from margin_jax.tables import Table
from plots import intervals, order, paper, style, verdicts
from plots.sweep_folder import FEWEST, KINDS, VARIED, WHEN, Lacking, Moment, Sweep, varied
from plots.verdicts import NONE, Verdict

AUC = "auc_mean"
# Of the relative gammas the middle one: a tenth of the median leaves too few examples to count, the whole median half.
GAMMA = 0.5
POOLED, ABSOLUTE = "small_margin_count_pooled@", f"small_margin_count_absolute@{paper.FIG02_GAMMAS['count']:g}"


class Bin(NamedTuple):
    """Networks of neighbouring areas: mean area, test error in percent with its interval, their numbers."""

    auc: float
    error: intervals.Interval
    networks: list[int]


class Numbers(NamedTuple):
    """All that the figure shows.

    Attributes:
      moment: where the networks are compared.
      rows: columns of moments.csv of its r separated networks whose area and test error are finite.
      left_out: how many networks of the sweep are not among them.
      colour: the column of `sweep_folder.VARIED` that tells them apart, "" without one.
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
    agreement: dict[str, Verdict]
    spread: Verdict
    all_covered: dict[str, bool]


def gather(sweep: Sweep, moment: Moment, audit: Table) -> Numbers:
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
    curves = {int(network): np.sort(sweep.curve(moment, network)) for network in chosen}
    examples = next(iter(curves.values())).size
    found: dict[str, Verdict] = {}
    if moment.name in audit["moment"]:
        found = {measure: one.get("spearman", NONE) for measure, one in
                 verdicts.verdicts(audit, moment.name, "test_error").items()}
    colour = varied(rows)
    spread = order.agreement(rows[colour], rows["test_error"]) if colour and size >= FEWEST else NONE
    covered = {key: bool((rows[key] == examples).all()) for key in (ABSOLUTE, f"conv:{ABSOLUTE}") if key in rows}
    return Numbers(moment, rows, total - size, colour, count_key(rows), curves, bins(rows), found, Verdict(*spread),
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
    return [Bin(float(area[part].mean()), intervals.t_interval(rows["test_error"][part]),
                rows["network"][part].astype(int).tolist()) for part in parts]


def write_json(numbers: Numbers, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes the numbers of the figure: claims, Spearman's correlations above 0 where they support one, bins."""
    rows, moment = numbers.rows, numbers.moment

    def claim(what: str, measure: str, verdict: Verdict) -> dict[str, Any]:
        return {"claim": paper.FIG02_CLAIMS[what], "measure": measure, "spearman": _plain(verdict.value),
                "low": _plain(verdict.low), "high": _plain(verdict.high), "networks": verdict.networks,
                "moment": moment.name}

    error = dict(zip(rows["network"].astype(int).tolist(), rows["test_error"].tolist()))
    content = {
        "moment": moment.name, "networks": len(error), "left_out": numbers.left_out, "rho": moment.mode,
        "claims": [claim("count", numbers.count, numbers.agreement.get(numbers.count, NONE)),
                   claim("auc", AUC, numbers.agreement.get(AUC, NONE)),
                   *([claim("init_std", "init_std", numbers.spread)] if numbers.colour == "init_std" else [])],
        "other_readings": {key: dict(zip(("spearman", "low", "high", "networks"), map(_plain, verdict)))
                           for key, verdict in numbers.agreement.items() if _reading(key)},
        "curves": [{"network": network, "test_error": error[network]} for network in numbers.curves],
        "bins": [{"auc": one.auc, "test_error": float(one.error.mean), "half": _plain(one.error.half),
                  "networks": one.networks} for one in numbers.bins],
        "paper_gamma_covers_all": numbers.all_covered,
    }
    return style.write(folder / f"{name}.json", f"{json.dumps(content, indent=2)}\n".encode())


def _reading(key: str) -> bool:
    """Whether a measure is an area or a count, under any rho: another reading of what the paper plots."""
    return key.rpartition(":")[2].startswith(("auc_", "small_margin_count_"))


def _plain(number: float) -> float | int | None:
    return None if np.isnan(number) else number if isinstance(number, int) else float(number)
