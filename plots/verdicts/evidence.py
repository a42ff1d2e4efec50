"""Evidence for claims, from the tables and JSON files that results/ keeps of each run: one function for each quantity.

Every function takes a folder of results and what a claim names, and gives our number with its interval by the rule of
docs/verdicts.md: seeds are the unit. `NotReached` says that no network reached the moment a claim speaks of.
"""

import csv
import functools
import json
import math
import pathlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from margin_jax.statistics import estimates, hypotheses, proportions, ranking
from margin_jax.statistics.bootstrap import DRAWS
from margin_jax.statistics.estimates import UNDEFINED, Estimate
from margin_jax.statistics.hypotheses import Evidence
from plots import paper

Folder = pathlib.Path
ROUNDING = 1e-8  # of the size of its terms: a statement of mathematics holds


class NotReached(Exception):
    """The moment that a claim speaks of was reached by no network of the folder."""


def nothing(folder: Folder) -> Evidence:
    """What was not run, or is not in the tables."""
    return hypotheses.NONE


def single(folder: Folder, file: str, keys: Sequence[str | int]) -> Evidence:
    """A number of one network, from a JSON file by its keys: no interval."""
    value = functools.reduce(lambda content, key: content[key], keys, _json(folder / file))
    return _alone(float(value), 1)


def _alone(value: float, n: int) -> Evidence:
    return hypotheses.NONE._replace(estimate=UNDEFINED._replace(value=value, n=n))


# Sweeps: moments.csv has a row for every network and moment.


def correlation(folder: Folder, moment: str, measure: str, sign: int, given: Sequence[str] = ()) -> Evidence:
    """Spearman's correlation of sign * measure with the test error over networks, each of a seed of its own.

    Networks are drawn from all, not within strata. `given` names covariates.
    """
    rows = moment_rows(folder, moment)
    columns = [column(rows, name) for name in (measure, "test_error", *given)]
    return correlation_of(sign * columns[0], columns[1], columns[2:])


def correlation_of(predicted: np.ndarray, errors: np.ndarray, covariates: Sequence[np.ndarray] = (),
                   resamples: int = DRAWS) -> Evidence:
    """The same from columns (R,)."""
    weights = estimates.draw_counts(errors.size, resamples, 0)
    return hypotheses.bootstrap_evidence(ranking.partial_spearman(predicted, errors, covariates, weights), errors.size)


def test_error(folder: Folder, moment: str, init_std: float | None = None) -> Evidence:
    """Mean test error in percent, of the networks of one initial standard deviation if given."""
    rows = moment_rows(folder, moment)
    if init_std is not None:
        rows = [row for row in rows if math.isclose(float(row["init_std"]), init_std)]
    return hypotheses.t_evidence(column(rows, "test_error"))


def network_overlap(folder: Folder, moment: str, k: int, init_std: float) -> Evidence:
    """Mean share in percent of the k smallest margins that two networks of one standard deviation have in common.

    Pairs share networks: Student's t of the jackknife over networks.
    """
    with np.load(folder / "overlap.npz") as stored:
        networks, shares = stored[f"{moment}_networks"], stored[f"{moment}_{k}"].astype(np.float64)
    std = {int(row["network"]): float(row["init_std"]) for row in moment_rows(folder, moment)}
    chosen = [place for place, network in enumerate(networks) if math.isclose(std[int(network)], init_std)]

    def mean(places: list[int]) -> float:
        among = shares[np.ix_(places, places)]
        return 100 * float(among[np.triu_indices(len(places), 1)].mean())

    without = [mean([place for place in chosen if place != left]) for left in chosen]
    return hypotheses.jackknife_evidence(mean(chosen), without)


def pair_overlap(folder: Folder, k: int) -> Evidence:
    """The same of one pair of networks at the end: Wilson's interval over examples, one unit."""
    share = _json(folder / "figures" / "fig06.json")["overlap_percent_at_the_ends"][str(k)]
    return _percent(proportions.share_evidence(np.array([round(share * k / 100)]), np.array([k])))


# Natural and random labels: networks of one seed in pairs.


def labels(folder: Folder, moment: str, name: str, sign: int = 1, times: str = "") -> Evidence:
    """sign * (natural - random) of a column of moments.csv by its name, by seed; times another one where given."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for row in moment_rows(folder, moment):
        if row[name]:
            values[row["seed"]][row["random_fraction"]] = float(row[name]) * float(row[times] if times else 1)
    pairs = [both for both in values.values() if len(both) == 2]
    if not pairs:
        raise NotReached(f"no pair of networks reaches {moment}")
    return hypotheses.t_evidence(np.array([sign * (both["0.0"] - both["1.0"]) for both in pairs]))


def first_bin(folder: Folder, kind: str) -> Evidence:
    """How many of the 100 smallest margins the first of ten bins holds: natural, random, or random less natural."""
    content = _json(folder / "figures" / "fig01.json")
    natural, random = (np.array([bins[0] for bins in content[name]["bins_own_range"]])
                       for name in ("natural", "random"))
    return hypotheses.t_evidence({"natural": natural, "random": random, "difference": random - natural}[kind])


def weakest_rank(folder: Folder) -> Evidence:
    """Natural less random margin at the rank that shows the difference least; no interval from one seed."""
    claim = _json(folder / "figures" / "fig01.json")["claims"][0]
    if claim["share_of_ranks_above_by_seed"]["n"] < 2:
        return _alone(float("nan"), 1)
    return hypotheses.summary_evidence(_estimate(claim["weakest_rank"]["natural_less_random"]))


# Flatness: flatness.json keeps means of logarithms over seeds with Student's interval.


def flattening(folder: Folder, batch_norm: bool, weight_decay: float, measure: str = "cv",
               group: str = "all") -> Evidence:
    """The curve at the end over its value at separation: a ratio below 1 where it flattens."""
    kinds = _json(folder / "figures" / "flatness.json")["kinds"]
    (kind,) = (kind for kind in kinds if (kind["batch_norm"], kind["weight_decay"]) == (batch_norm, weight_decay))
    row = kind["ln_end_over_separation"][measure][group]
    if not row["n"]:
        raise NotReached("no network of this kind separates")
    return _ratio(_estimate(row))


def flattening_over(folder: Folder, other: str, measure: str = "cv", claim: int = 0) -> Evidence:
    """That ratio of networks with both over that of another kind: below 1 where both flatten more."""
    rows = _json(folder / "figures" / "flatness.json")["claims"][claim]["measures"][measure]
    rows = rows["ln_end_over_separation_less_that_with_both"]
    if not rows.get(other, {}).get("n"):
        raise NotReached("networks of one of the two kinds do not separate")
    mean, low, high, n = _estimate(rows[other])
    return _ratio(Estimate(-mean, -high, -low, n))


def _ratio(logarithm: Estimate) -> Evidence:
    return hypotheses.mapped(hypotheses.summary_evidence(logarithm), math.log, math.exp)


def _estimate(row: dict[str, Any]) -> Estimate:
    return Estimate(row["mean"], row["low"], row["high"], row["n"])


# Compressions: cells.csv has a row for every seed, rule and setting; removals.csv one for every removal.


def cell_drop(folder: Folder, scope: str, rule: str, cell: Sequence[float], kept: int = 200) -> Evidence:
    """Mean drop in points of a rule in one cell (learning rate, batch size)."""
    drops = _drops(folder, scope, rule, kept)
    values = [by_cell[tuple(cell)] for by_cell in drops.values() if tuple(cell) in by_cell]
    if not values:
        raise NotReached("no network separates in this cell")
    return hypotheses.t_evidence(np.array(values))


def cell_difference(folder: Folder, scope: str, first: str, second: str, cell: Sequence[float],
                    kept: int = 200) -> Evidence:
    """Mean drop of the first rule less that of the second in one cell, seed by seed, in points."""
    return _differences(folder, scope, (first, second), kept, [tuple(cell)])


def mean_difference(folder: Folder, scope: str, first: str, second: str, kept: int = 200) -> Evidence:
    """The same, the mean over the cells that all seeds have: one number for each seed."""
    by_seed = [_drops(folder, scope, rule, kept) for rule in (first, second)]
    common = set.intersection(*(set(cells) for drops in by_seed for cells in drops.values()))
    return _differences(folder, scope, (first, second), kept, sorted(common))


def _differences(folder: Folder, scope: str, rules: tuple[str, str], kept: int,
                 cells: list[tuple[float, ...]]) -> Evidence:
    first, second = (_drops(folder, scope, rule, kept) for rule in rules)
    values = [np.mean([first[seed][cell] - second[seed][cell] for cell in cells]) for seed in sorted(first)
              if all(cell in first[seed] and cell in second.get(seed, {}) for cell in cells)]
    if not values:
        raise NotReached("no network separates in this cell")
    return hypotheses.t_evidence(np.array(values))


def cell_order(folder: Folder, scope: str, against: str = "paper", sign: int = 1) -> Evidence:
    """Rank correlation over cells of the smallest margins' drops with the paper's or a column, one for each seed."""
    values = []
    for seed, cells in sorted(_drops(folder, scope, "smallest", 200).items()):
        pairs = [(drop, sign * _other(folder, scope, seed, cell, against)) for cell, drop in cells.items()]
        pairs = [pair for pair in pairs if np.isfinite(pair).all()]
        values.append(float(ranking.spearman(*np.array(pairs).T)) if len(pairs) > 2 else np.nan)
    return hypotheses.correlation_evidence(np.array(values))


def _other(folder: Folder, scope: str, seed: str, cell: tuple[float, ...], against: str) -> float:
    if against == "paper":
        drop = paper.table1_drop("convnet", "sgd", cell[0], int(cell[1]))
        return np.nan if drop is None else drop
    return _cells(folder)[scope, "smallest", 200, seed, cell].get(against, np.nan)


def cells_of(folder: Folder, scope: str) -> list[tuple[float, float]]:
    """The cells (learning rate, batch size) of a grid of which some network has a drop, in the order of the table."""
    cells = {cell for by_cell in _drops(folder, scope, "smallest", 200).values() for cell in by_cell}
    return sorted(cells, key=lambda cell: (-cell[1], -cell[0]))


def rise(folder: Folder, kept: int, init_std: float, rule: str = "smallest") -> Evidence:
    """Test error at a count kept less that before the first removal, in points, by seed."""
    start, end = {}, {}
    for row in table(folder / "removals.csv"):
        if row["rule"] == rule and math.isclose(float(row["init_std"]), init_std):
            if row["step"] == "0":
                start[row["seed"]] = float(row["test_error"])
            elif int(row["kept"]) == kept:
                end[row["seed"]] = float(row["test_error"])
    return hypotheses.t_evidence(np.array([end[seed] - start[seed] for seed in sorted(end)]))


def _drops(folder: Folder, scope: str, rule: str, kept: int) -> dict[str, dict[tuple[float, ...], float]]:
    drops: dict[str, dict[tuple[float, ...], float]] = defaultdict(dict)
    for (at, by, count, seed, cell), row in _cells(folder).items():
        if (at, by, count) == (scope, rule, kept) and np.isfinite(row["drop"]):
            drops[seed][cell] = row["drop"]
    return drops


@functools.cache
def _cells(folder: Folder) -> dict[tuple[Any, ...], dict[str, float]]:
    numbers = ("drop", "moved", "updates", "loss_start", "loss_end")
    return {(row["scope"], row["rule"], int(row["kept"]), row["seed"],
             (float(row["learning_rate"]), float(row["batch_size"]))):
            {name: float(row[name]) if row[name] else np.nan for name in numbers}
            for row in table(folder / "cells.csv")}


# How early the smallest margins can be told: support.json of each seed.


def support_share(folder: Folder, moment: str, k: int) -> Evidence:
    """Share in percent of the final k smallest margins that are among the k smallest at a moment."""
    hits = support_hits(folder, moment, k)
    return _percent(proportions.share_evidence(hits, np.full(hits.size, k)))


def support_hits(folder: Folder, moment: str, k: int) -> np.ndarray:
    """How many they are in each seed, (S,) int."""
    files = [_json(path) for path in sorted(folder.glob("seed_*/support.json"))]
    return np.array([round(file["moments"][moment]["overlap_percent"][str(k)]["value"] * k / 100) for file in files])


# Appendix B: deletion.csv has the gradient that a deletion leaves, relative to the size of its terms.


def deletion(folder: Folder, equation: int, minimum: str) -> Evidence:
    """The largest relative residual over all deletions at a minimum: one network, checked and not estimated."""
    sizes = [float(row["relative"]) for row in table(folder / "deletion.csv")
             if row["equation"] == str(equation) and row["minimum"] == minimum]
    return _alone(max(sizes), 1)


def deletion_change(folder: Folder, choice: str, removed: int) -> Evidence:
    """The largest relative change of a layer's sum in equation (5), in percent: one network."""
    sizes = [float(row["change"]) for row in table(folder / "deletion.csv")
             if (row["equation"], row["choice"], row["removed"]) == ("5", choice, str(removed))]
    return _alone(100 * max(sizes), 1)


def _percent(share: Evidence) -> Evidence:
    return hypotheses.mapped(share, lambda percent: percent / 100, lambda part: 100 * part)


def moment_rows(folder: Folder, moment: str) -> list[dict[str, str]]:
    """The networks of a sweep at a moment."""
    return [row for row in table(folder / "moments.csv") if row["moment"] == moment]


def column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    """A column of such rows (R,) float, NaN where empty."""
    return np.array([float(row[name]) if row[name] else np.nan for row in rows])


@functools.cache
def table(path: Folder) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@functools.cache
def _json(path: Folder) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


QUANTITIES = {function.__name__: function for function in (
    nothing, single, correlation, test_error, network_overlap, pair_overlap, labels, first_bin, weakest_rank,
    flattening, flattening_over, cell_drop, cell_difference, mean_difference, cell_order, rise, support_share, deletion,
    deletion_change)}
