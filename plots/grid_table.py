"""Table 1 of the paper beside ours: the drop for every learning rate and batch size, controls, what training did."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from margin_jax.tables import Table
from plots import grid_cells, intervals, paper, rules
from plots.cell_stats import Summary
from plots.grid_cells import Cells
from plots.immediate_table import losses, number
from plots.order import Agreement
from plots.table_text import Grid

Settings = tuple[float, int]  # learning rate, batch size
Chosen = Mapping[Settings, Summary]
_SCOPES = {"after": "settings after the removal", "whole_run": "settings in the whole run",
           rules.SCRATCH: "fresh networks"}
_LEGEND = ("Mean \N{PLUS-MINUS SIGN} half the 95% Student t interval (seeds). Drop: test error minus that on full data "
           "of the same seed, in points; positive is worse. X: no seed finished.")


def build(cells: Table, model: str) -> list[Grid]:
    """The tables of each optimiser and scope: ours beside the paper's, what training did, then the controls.

    Args:
      cells: columns of cells.csv of a grid, each (R,).
      model: "convnet" or "densenet", for the paper's numbers.

    Raises:
      InputError: no rule yet, or rules that kept different numbers.
    """
    found = grid_cells.summaries(cells)
    kept = int(cells["kept"][~np.isin(cells["rule"], (rules.FULL, rules.FROZEN))][0])
    order = sorted(rules.in_order(key[3] for key in found), key=lambda rule: rule != rules.MAIN)
    grids = []
    for optimizer in optimizers(found):
        for scope in scopes(found):
            where = f"{paper.MODELS.get(model, model)}, {optimizer}, {kept:,} kept, {_SCOPES.get(scope, scope)}"
            for rule in order:
                mine = grid_cells.chosen(found, optimizer, rule, scope)
                if not mine or (rule, scope) == (rules.FROZEN, "after"):  # one network for all settings: a note
                    continue
                caption, main = f"Drop by rule {rules.name(rule)}; {where}", rule == rules.MAIN
                said = {at: paper.table1_drop(model, optimizer, *at) for at in mine} if main else {}
                notes = [_LEGEND] * (main or not grids) + (_main_notes(found, model, optimizer, scope) if main else [])
                if main and kept != paper.TABLE1_KEPT:
                    notes.append(f"The paper kept {paper.TABLE1_KEPT}, this grid {kept:,}.")
                grids.append(_drops(caption, mine, said if scope != rules.SCRATCH else {}, notes))
                grids += _what_training_did(mine, where) if main else []
    return grids


def optimizers(found: Cells) -> list[str]:
    """Those of the rules; the frozen network may have that from before the removal."""
    return list(dict.fromkeys(key[0] for key in found if key[3] != rules.FROZEN))


def scopes(found: Cells) -> list[str]:
    """Scopes in the order of the tables: fresh networks last."""
    there = {key[4] for key in found}
    return [scope for scope in _SCOPES if scope in there] + sorted(there - set(_SCOPES))


def _main_notes(found: Cells, model: str, optimizer: str, scope: str) -> list[str]:
    notes = [paper.TABLE1_NOTES[model, optimizer]] if (model, optimizer) in paper.TABLE1_NOTES else []
    notes = notes if scope != rules.SCRATCH else []
    frozen = [s for key, s in found.items() if key[3:] == (rules.FROZEN, "after")] if scope == "after" else []
    notes += [f"Frozen at the removal: drop {ours(summary)}." for summary in frozen]
    notes += [f"Without {count} of {summary.seeds} networks, which did not get to the removal: {reason}."
              for summary in frozen for reason, count in summary.reasons]
    order = f"Order of the cells, paper against ours: {said(grid_cells.paper_order(found, model, scope, optimizer))}"
    if len(optimizers(found)) > 1:
        order += f"; of all optimisers: {said(grid_cells.paper_order(found, model, scope))}"
    if scope != rules.SCRATCH:
        moved = said(grid_cells.moved_order(found, rules.MAIN, scope, optimizer))
        notes.append(f"Drop against distance moved, cell by cell: {moved}.")
    if scope == "whole_run":  # after the removal alone all cells of a seed start from one network, with one loss
        left = said(grid_cells.loss_order(found, rules.MAIN, scope, optimizer))
        notes.append(f"Drop against the loss of the kept examples at the removal, cell by cell: {left}.")
    return [*notes, f"{order}."]


def said(found: Agreement) -> str:
    """Such as "Spearman's ρ = 0.91, 95% bootstrap interval 0.70 to 0.98, 17 cells"."""
    if not math.isfinite(found.rho):
        return f"{found.pairs} cells with a number in both, too few or all equal"
    rho, low, high = (intervals.text(intervals.Interval(value, math.nan, 1)) for value in found[:3])
    return f"Spearman's \N{GREEK SMALL LETTER RHO} = {rho}, 95% bootstrap interval {low} to {high}, {found.pairs} cells"


def _drops(caption: str, mine: Chosen, theirs: Mapping[Settings, float | None], notes: Sequence[str]) -> Grid:
    """Drops by batch size and learning rate; the paper's in a column before ours where it has one."""
    rates, batches = _axes(mine)
    beside = any(value is not None for value in theirs.values())
    reasons: dict[str, list[str]] = {}
    lines = []
    for batch in batches:
        line = [_batch(batch)]
        for rate in rates:
            if beside:
                drop = theirs.get((rate, batch))
                line.append("" if drop is None else "X" if math.isnan(drop) else f"{drop:.2f}")
            summary = mine.get((rate, batch))
            text = "" if summary is None else ours(summary)
            for reason, count in summary.reasons if summary else ():
                reasons.setdefault(reason, []).append(
                    f"{count} of {summary.seeds} at batch size {_batch(batch)}, learning rate {rate:g}")
                text += f" [{list(reasons).index(reason) + 1}]"
            line.append(text)
        lines.append(line)
    headings = ["batch size"] + [text for rate in rates for text in
                                 ([f"{rate:g}, paper", f"{rate:g}, ours"] if beside else [f"learning rate {rate:g}"])]
    failures = [f"[{place}] Failed, {reason}: {'; '.join(where)}." for place, (reason, where) in
                enumerate(reasons.items(), 1)]
    return Grid(f"{caption}{'; columns by learning rate' if beside else ''}", headings, lines, [*notes, *failures])


def ours(summary: Summary) -> str:
    """Drop with its interval and number of seeds; X where every seed failed, a dash where its full run is missing."""
    if summary.failed == summary.seeds:
        return "X"
    drop = intervals.text(summary.drop)
    return f"{drop} ({summary.drop.n})" if summary.drop.n else drop


def _what_training_did(mine: Chosen, where: str) -> list[Grid]:
    columns: dict[str, Callable[[Summary], str]] = {
        "Test error minus that of the network frozen at the removal": lambda s: intervals.text(s.drop_frozen),
        "Distance moved over the norm of the weights at the removal": lambda s: number(s.moved.mean),
        "Updates": lambda s: number(s.updates),
        "Loss on the kept examples, start to end (nats)": losses,
    }
    rates, batches = _axes(mine)
    return [Grid(f"{caption}; rule {rules.name(rules.MAIN)}; {where}",
                 ["batch size", *(f"learning rate {rate:g}" for rate in rates)],
                 [[_batch(batch), *(text(mine[rate, batch]) if (rate, batch) in mine else "" for rate in rates)]
                  for batch in batches], [])
            for caption, text in columns.items() if not {text(s) for s in mine.values()} <= {"\N{EN DASH}"}]


def _axes(mine: Chosen) -> tuple[list[float], list[int]]:
    """Learning rates and batch sizes as the paper lists them: falling, full gradient descent first."""
    return (sorted({rate for rate, _ in mine}, reverse=True),
            sorted({batch for _, batch in mine}, key=lambda batch: -batch if batch else -math.inf))


def _batch(batch: int) -> str:
    return f"{batch}" if batch else "all kept"
