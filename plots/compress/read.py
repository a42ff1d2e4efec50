"""What figures need of the tables of a compression: its seeds brought together, and the look of each removal rule.

Cells become means with intervals and counts of what failed; curves are laid over one another by the epochs since the
removal, which each seed reaches in its own; removals by network, rule and count kept.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from margin_jax.errors import InputError
from margin_jax.run_folder.tables import Table, rows
from margin_jax.statistics.estimates import Estimate, half_width, t_interval
from plots import style

FINISHED = "finished"


class Summary(NamedTuple):
    """The seeds of one cell; failed ones are counted and enter no mean.

    Attributes:
      seeds: rows in all.
      failed: of these, how many did not finish.
      reasons: why, with how many seeds each.
      error: test error in percent.
      drop: test error minus that on full data, in points.
      drop_frozen: test error minus that of the network at the removal, in points.
      moved: distance from the weights at the removal over their norm.
      updates: mean number of optimiser steps.
      loss_start: mean loss on the kept examples at the removal, in nats.
      loss_end: the same at the end.
      drop_half, drop_frozen_half: half the widths of their intervals, as tables hold them.
    """

    seeds: int
    failed: int
    reasons: tuple[tuple[str, int], ...]
    error: Estimate
    drop: Estimate
    drop_frozen: Estimate
    moved: Estimate
    updates: float
    loss_start: float
    loss_end: float
    drop_half: float
    drop_frozen_half: float


def summarise(cells: Table, by: Sequence[str]) -> dict[tuple, Summary]:
    """One summary per combination of the columns `by`, in the order of their first rows.

    Args:
      cells: columns of cells.csv, each (R,).
      by: columns that name a group; the rows of a group are its seeds.

    Returns:
      Keyed by the values of `by`: numbers as float, text as str.
    """
    keys = list(zip(*(cells[column].tolist() for column in by)))
    groups: dict[tuple, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    return {key: _summary({column: values[places] for column, values in cells.items()})
            for key, places in groups.items()}


def _summary(group: Table) -> Summary:
    good = group["status"] == FINISHED
    reasons = Counter(str(reason) or str(status) for reason, status in
                      zip(group["reason"][~good], group["status"][~good]))

    def over_seeds(column: str) -> Estimate:
        return t_interval(group[column][good])

    return Summary(good.size, int(np.sum(~good)), tuple(sorted(reasons.items())), over_seeds("test_error"),
                   over_seeds("drop"), over_seeds("drop_frozen"), over_seeds("moved"), over_seeds("updates").value,
                   over_seeds("loss_start").value, over_seeds("loss_end").value, half_width(group["drop"][good]),
                   half_width(group["drop_frozen"][good]))


BASE = "base"  # rule and scope of the epochs before the removal


class Aligned(NamedTuple):
    """Curves over one another.

    Attributes:
      epochs: (T,) since the removal, ascending: all that some seed recorded.
      values: (S, T), straight lines between a seed's own records, NaN outside them.
    """

    epochs: np.ndarray
    values: np.ndarray


def align(curves: Table, column: str = "test_error") -> dict[tuple[str, int, str], Aligned]:
    """Lays the curves of all seeds over one another.

    Args:
      curves: columns of curves.csv, each (R,); of networks with the same settings.
      column: the values, in their own unit.

    Returns:
      Keyed by (rule, kept, scope). Epochs are 0 and below before the removal. Fresh networks train for as many epochs
      in all as the others, so that they start where these did and end where these end.
    """
    base = rows(curves, rule=BASE)
    removal = {seed: base["epoch"][base["seed"] == seed].max() for seed in np.unique(base["seed"])}
    kept = np.nan_to_num(curves["kept"]).astype(int)
    groups: dict[tuple[str, int, str], list[int]] = {}
    for row, key in enumerate(zip(curves["rule"].tolist(), kept.tolist(), curves["scope"].tolist())):
        groups.setdefault(key, []).append(row)
    since = curves["epoch"] - np.array([removal.get(seed, 0.0) for seed in curves["seed"]])
    return {key: _align(since[places], curves["seed"][places], curves[column][places])
            for key, places in groups.items()}


def _align(epochs: np.ndarray, seeds: np.ndarray, values: np.ndarray) -> Aligned:
    at, column = np.unique(epochs, return_inverse=True)
    names, row = np.unique(seeds, return_inverse=True)
    # Seeds that reached the removal at different epochs record at different ones after it: a mean over those that
    # happen to have a record would jump from seed to seed.
    laid = np.full((names.size, at.size), np.nan)
    for seed in range(names.size):
        places = np.sort(column[row == seed])
        recorded = np.empty(at.size)
        recorded[column[row == seed]] = values[row == seed]
        laid[seed, places[0]:places[-1] + 1] = np.interp(at[places[0]:places[-1] + 1], at[places], recorded[places])
    return Aligned(at, laid)


Key = tuple[str, float]  # optimiser, std of the initial weights; NaN where these are not normal


class RemovalNetwork(NamedTuple):
    """One network, over seeds: its name in the figure, its std, and its rows of removals.csv and curves.csv."""

    name: str
    init_std: float
    removals: Table
    curves: Table


def in_order(keys: Iterable[Key]) -> list[Key]:
    """Distinct networks: by optimiser, then ascending std, weights that are not normal last."""
    distinct = {(optimizer, None if math.isnan(std) else std) for optimizer, std in keys}
    ordered = sorted(distinct, key=lambda key: (key[0], math.inf if key[1] is None else key[1]))
    return [(optimizer, math.nan if std is None else std) for optimizer, std in ordered]


def names(keys: list[Key]) -> list[str]:
    """Such as "A, init std 0.01"; the letter and the optimiser only where they tell networks apart."""
    several = len({optimizer for optimizer, _ in keys}) > 1
    return [", ".join([*[chr(ord("A") + place)] * (len(keys) > 1), *[optimizer] * several,
                       "default initial weights" if math.isnan(std) else f"init std {std:g}"])
            for place, (optimizer, std) in enumerate(keys)]


def split(removals: Table, curves: Table) -> list[RemovalNetwork]:
    """The networks of a job.

    Args:
      removals: columns of removals.csv, each (R,).
      curves: columns of curves.csv, each (Q,); may be empty.
    """
    keys = in_order(zip(removals["optimizer"].tolist(), removals["init_std"].tolist()))
    # Alone, an optimiser may have followed another one, that of the epochs before the removals.
    several = np.unique(removals["optimizer"]).size > 1
    return [RemovalNetwork(name, std, rows(removals, optimizer=optimizer, init_std=std),
                           rows(curves, init_std=std, **({"optimizer": optimizer} if several else {})))
            for name, (optimizer, std) in zip(names(keys), keys)]


FULL, FROZEN, FULL_UPDATES = "full", "frozen", "full_updates"
UNCOMPRESSED = (FULL, FROZEN, FULL_UPDATES)
MAIN = "smallest"  # the paper's rule; every other one is a control or a rival
SCRATCH = "scratch"
BALANCED = "+balanced"
_PURPLE, _SKY = "#CC79A7", "#56B4E9"  # Okabe and Ito


class Look(NamedTuple):
    """A rule's colour and marker; colours repeat after eight, with other markers."""

    colour: str
    marker: str


_LOOKS = {
    FULL: Look("black", "s"), FULL_UPDATES: Look("black", "8"), FROZEN: Look(style.GREY, "X"),
    MAIN: Look(style.VERMILLION, "o"),
    "random": Look(style.BLUE, "v"), "largest": Look(style.ORANGE, "^"), "balanced": Look(style.GREEN, "D"),
    "el2n": Look(_PURPLE, "P"), "grand": Look(_SKY, "*"), "forgetting": Look(style.BLUE, "<"),
    "aum": Look(style.ORANGE, ">"), "ids": Look(style.GREEN, "h"),
}
_NAMES = {FULL: "full data", FULL_UPDATES: "full data, as many updates",
          "el2n": "EL2N", "grand": "GraNd", "aum": "AUM", "ids": "given ids"}


def look(rule: str) -> Look:
    """The look of a rule; one made class by class has its rule's colour and a marker of its own."""
    plain = _LOOKS.get(rule.removesuffix(BALANCED), Look(_PURPLE, "p"))
    return plain._replace(marker="d") if rule.endswith(BALANCED) else plain


def name(rule: str, scope: str = "") -> str:
    """What a legend calls a rule, such as "EL2N, balanced" or "scratch: random"."""
    plain = rule.removesuffix(BALANCED)
    text = _NAMES.get(plain, plain) + (", balanced" if rule.endswith(BALANCED) else "")
    return f"scratch: {text}" if scope == SCRATCH else text


def rules_in_order(rules: Iterable[str]) -> list[str]:
    """Distinct rules in the order of every legend: full data and the frozen network first, unknown ones last."""
    places = list(_LOOKS)

    def place(rule: str) -> tuple[int, str]:
        plain = rule.removesuffix(BALANCED)
        return (places.index(plain) if plain in places else len(places), rule)

    return sorted(set(rules), key=place)


class Steps(NamedTuple):
    """One rule on one network over seeds; (S, K) over seeds and counts kept, NaN where a seed has none.

    Attributes:
      kept: (K,) counts, falling; the first is N, before any removal.
      error: (S, K) test error in percent at the end of the training with that count.
      epoch: (S, K) the last epoch with that count.
      separated: (S, K) 1 where the kept were all classified correctly then, else 0.
      moved: (S, K) distance from the weights before the first removal over their norm.
    """

    kept: np.ndarray
    error: np.ndarray
    epoch: np.ndarray
    separated: np.ndarray
    moved: np.ndarray

    def at(self, column: str, kept: int) -> np.ndarray:
        """Values (S,) of one column at a count kept; NaN where it was not reached."""
        place = np.flatnonzero(self.kept == kept)
        return getattr(self, column)[:, place[0]] if place.size else np.full(self.error.shape[0], np.nan)

    def rise(self, kept: int) -> Estimate:
        """Test error at a count kept minus that before the first removal, in points, over seeds."""
        return t_interval(self.at("error", kept) - self.error[:, 0])


def removal_rules(removals: Table) -> list[str]:
    """The rules whose removals a table holds, in the order of every legend."""
    return [rule for rule in rules_in_order(removals["rule"].tolist()) if rule not in (FULL, FROZEN)]


def main_rule(removals: Table) -> str:
    """The paper's rule if the job has it, else the first; raises InputError where there is none."""
    if not (rules := removal_rules(removals)):
        raise InputError("removals.csv names no rule that removes examples; wait until a network has")
    return MAIN if MAIN in rules else rules[0]


def steps(removals: Table, rule: str) -> Steps:
    """Lays the removals of all seeds over one another by the count kept.

    Args:
      removals: columns of removals.csv, each (R,), of one network.
      rule: whose rows.
    """
    chosen = rows(removals, rule=rule)
    seeds, row = np.unique(chosen["seed"], return_inverse=True)
    falling, column = np.unique(-chosen["kept"], return_inverse=True)

    def laid(name: str) -> np.ndarray:
        values = np.full((seeds.size, falling.size), np.nan)
        values[row, column] = chosen[name]
        return values

    return Steps((-falling).astype(int), laid("test_error"), laid("epoch"), laid("separated"), laid("moved"))


def full_steps(curves: Table, removals: Table, rule: str) -> np.ndarray | None:
    """Test error of full data at the epochs of a rule's removals, for a comparison after as many epochs.

    Args:
      curves: columns of curves.csv, each (Q,), of the same network.
      removals: columns of removals.csv, each (R,), of one network.
      rule: whose epochs.

    Returns:
      (S, K) in the order of `steps`, from the last epoch recorded by then; NaN beyond the run on full data. None
      without such a run.
    """
    at, seeds = steps(removals, rule).epoch, np.unique(rows(removals, rule=rule)["seed"])
    if FULL not in curves["rule"]:
        return None
    aligned = np.full(at.shape, np.nan)
    for place, seed in enumerate(seeds):
        run = rows(curves, rule=(FULL, BASE), seed=float(seed))
        order = np.argsort(run["epoch"])
        epochs, errors = run["epoch"][order], run["test_error"][order]
        if FULL in run["rule"]:
            last = np.searchsorted(epochs, np.nan_to_num(at[place], nan=-1.0), side="right") - 1
            aligned[place] = np.where((last >= 0) & (at[place] <= epochs[-1]), errors[np.maximum(last, 0)], np.nan)
    return aligned


def number_text(value: float) -> str:
    """Three digits at most, whole from a thousand on; "–" for NaN."""
    if not np.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else style.signed(f"{value:.3g}")


def losses(summary: Summary) -> str:
    """Loss on the kept examples at the removal and at the end."""
    if not np.isfinite(summary.loss_start + summary.loss_end):
        return "–"
    return style.signed(f"{summary.loss_start:.2g} \N{RIGHTWARDS ARROW} {summary.loss_end:.2g}")
