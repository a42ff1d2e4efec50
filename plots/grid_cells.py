"""The cells of a grid over seeds, and how their order compares with the paper's table 1."""

import csv
import io
import math
from collections.abc import Mapping

import numpy as np

from margin_jax.errors import InputError
from margin_jax.tables import Table
from plots import paper, rules
from plots.cell_stats import Summary, summarise
from plots.intervals import Interval
from plots.order import Agreement, agreement

BY = ("optimizer", "learning_rate", "batch_size", "rule", "scope")
Cells = Mapping[tuple[str, float, float, str, str], Summary]  # keyed by BY
_COLUMNS = (*BY, "n", "failed", "drop_mean", "drop_half", "drop_frozen_mean",
            "drop_frozen_half", "moved_mean", "updates", "loss_start", "loss_end", "paper_drop")


def summaries(cells: Table) -> Cells:
    """One summary per optimiser, learning rate, batch size, rule and scope; without the runs on full data.

    Raises:
      InputError: rules that kept different numbers, which one table cannot show, or no rule at all.
    """
    counts = np.unique(cells["kept"][~np.isin(cells["rule"], (rules.FULL, rules.FROZEN))])
    if counts.size != 1:
        raise InputError(f"table 1 expects one count kept, got {', '.join(f'{k:g}' for k in counts) or 'no rule yet'}; "
                         "run a grid for each compress.keep in a folder of its own, or wait for the first cell")
    return {key: summary for key, summary in summarise(cells, BY).items() if key[3] != rules.FULL}


def chosen(found: Cells, optimizer: str, rule: str, scope: str) -> dict[tuple[float, int], Summary]:
    """The cells of one rule, keyed by (learning_rate, batch_size)."""
    return {(rate, int(batch)): summary for (name, rate, batch, by, where), summary in found.items()
            if (name, by, where) == (optimizer, rule, scope)}


def paper_order(found: Cells, model: str, scope: str, optimizer: str | None = None) -> Agreement:
    """Whether the rule "smallest" orders the cells of a scope by their mean drop as the paper does.

    Args:
      found: all cells.
      model: "convnet" or "densenet".
      scope: whose cells.
      optimizer: whose cells; None for those of every optimiser.
    """
    pairs = [(_paper(model, key), summary.drop.mean) for key, summary in found.items()
             if key[3] == rules.MAIN and key[4] == scope and optimizer in (None, key[0])]
    columns = np.array(pairs, np.float64).reshape(-1, 2)
    return agreement(columns[:, 0], columns[:, 1])


def moved_order(found: Cells, rule: str, scope: str, optimizer: str) -> Agreement:
    """Whether the cells of a rule whose networks moved farther lost more: mean drop against mean distance moved."""
    pairs = [(summary.moved.mean, summary.drop.mean) for key, summary in found.items()
             if (key[0], *key[3:]) == (optimizer, rule, scope)]
    return _agreement(pairs)


def loss_order(found: Cells, rule: str, scope: str, optimizer: str) -> Agreement:
    """Whether the cells of a rule lost more whose examples had more loss left at the removal: mean drop against it."""
    return _agreement([(summary.loss_start, summary.drop.mean) for key, summary in found.items()
                       if (key[0], *key[3:]) == (optimizer, rule, scope)])


def _agreement(pairs: list[tuple[float, float]]) -> Agreement:
    columns = np.array(pairs, np.float64).reshape(-1, 2)
    return agreement(columns[:, 0], columns[:, 1])


def _paper(model: str, key: tuple) -> float:
    drop = paper.table1_drop(model, *key[:3])
    return math.nan if drop is None else drop


def to_csv(found: Cells, model: str) -> str:
    """All cells in long form, a line each; drops in points, losses in nats, empty where there is no number.

    `n` counts the seeds that enter the drop. The paper's drop stands beside the rule "smallest", its X as X.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for (optimizer, rate, batch, rule, scope), summary in found.items():
        ours = rule == rules.MAIN and scope != rules.SCRATCH
        said = paper.table1_drop(model, optimizer, rate, batch) if ours else None
        numbers = (*_two(summary.drop), *_two(summary.drop_frozen), summary.moved.mean, summary.updates,
                   summary.loss_start, summary.loss_end)
        writer.writerow((optimizer, f"{rate:g}", f"{batch:g}", rule, scope, summary.drop.n, summary.failed,
                         *map(_number, numbers), "" if said is None else "X" if math.isnan(said) else said))
    return file.getvalue()


def _two(interval: Interval) -> tuple[float, float]:
    return interval.mean, interval.half


def _number(value: float) -> str:
    return f"{value:.8g}" if np.isfinite(value) else ""
