"""The table below the figure of a continuous removal: the rise of the test error beside the paper's."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from margin_jax.tables import Table, rows
from plots import intervals, paper, rules, text_table
from plots.immediate_table import number
from plots.intervals import Interval, t_interval
from plots.networks import Network
from plots.removal_steps import full_steps, main_rule, removal_rules, steps
from plots.text_table import Column, Row

COUNTS = (100, 20)


class Built(NamedTuple):
    """What `plots.text_table.draw` takes."""

    columns: list[Column]
    rows: list[Row]
    notes: list[str]


def build(networks: Sequence[Network]) -> Built:
    """Rise of the test error since before the first removal, in points, at the counts for which the paper tells it.

    Args:
      networks: of the job, each over seeds.
    """
    columns = [Column("rise of the test error (points)", 0.022, "left"), *(
        Column(f"{kept} kept", 0.46 + 0.19 * place) for place, kept in enumerate(COUNTS)),
        Column(f"moved at {COUNTS[-1]}", 0.82), Column(f"epochs to {COUNTS[-1]}", 0.995)]
    table: list[Row] = []
    for name, std, mine, theirs in networks:
        said = next((rise for at, rise in paper.CONTINUOUS_RISE.items() if math.isclose(at, std)), {})
        if said:
            table.append(Row((f"{name}: paper", *(said.get(kept, "") for kept in COUNTS), "", "")))
        table += [_row(mine, rule, name) for rule in removal_rules(mine)]
        table += _full(mine, theirs, name)
        table += [row for rule in removal_rules(mine) for row in _scratch(mine, theirs, rule, name)]
    return Built(columns, table, text_table.wrapped([
        "Means \N{PLUS-MINUS SIGN} half the 95% Student t interval (seeds), since before the first removal. Full "
        "data: at the epochs at which the first rule of its network had so many left. Moved: distance from the weights "
        "before the first removal over their norm."]))


def _row(removals: Table, rule: str, name: str) -> Row:
    mine = steps(removals, rule)
    epochs = t_interval(mine.at("epoch", COUNTS[-1]) - mine.epoch[:, 0]).mean
    moved = t_interval(mine.at("moved", COUNTS[-1])).mean
    return Row((f"{name}: {rules.name(rule)}", *(_rise(mine.rise(kept)) for kept in COUNTS), number(moved),
                number(epochs)), rules.look(rule))


def _full(removals: Table, curves: Table, name: str) -> list[Row]:
    errors = full_steps(curves, removals, main_rule(removals))
    if errors is None:
        return []
    mine = steps(removals, main_rule(removals))
    rises = []
    for kept in COUNTS:
        place = np.flatnonzero(mine.kept == kept)
        rises.append(t_interval(errors[:, place[0]] - mine.error[:, 0] if place.size else np.array([])))
    return [Row((f"{name}: full data", *map(_rise, rises), "", ""), rules.look(rules.FULL))]


def _scratch(removals: Table, curves: Table, rule: str, name: str) -> list[Row]:
    """Fresh networks on what the rule kept, at their last epoch, against the network before the first removal."""
    mine, rises = steps(removals, rule), []
    seeds = np.unique(rows(removals, rule=rule)["seed"])
    for kept in COUNTS:
        fresh = rows(curves, rule=rule, scope=rules.SCRATCH, kept=float(kept))
        last = [rows(fresh, seed=float(seed)) for seed in seeds]
        ends = [run["test_error"][np.argmax(run["epoch"])] if run["epoch"].size else math.nan for run in last]
        rises.append(t_interval(np.array(ends) - mine.error[:, 0]))
    if not any(rise.n for rise in rises):
        return []
    return [Row((f"{name}: {rules.name(rule, rules.SCRATCH)}", *map(_rise, rises), "", ""), rules.look(rule), False)]


def _rise(rise: Interval) -> str:
    return intervals.text(rise, sign=True) + (f" ({rise.n})" if rise.n else "")
