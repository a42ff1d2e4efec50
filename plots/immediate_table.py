"""The table below the figure of an immediate removal: what each rule cost, and whether it did anything."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from plots import intervals, paper, rules, scales, text_table
from plots.cell_stats import Summary
from plots.text_table import Column, Row

Key = tuple[str, int, str]  # rule, kept, scope
COLUMNS = (Column("kept by", 0.022, "left"), Column("kept", 0.25), Column("test error (%)", 0.375),
           Column("drop (points)", 0.5), Column("paper", 0.565), Column("moved", 0.64), Column("updates", 0.725),
           Column("loss, start \N{RIGHTWARDS ARROW} end", 0.905), Column("seeds", 0.995))


def ordered(keys: Iterable[Key]) -> list[Key]:
    """In the order of every legend, larger counts first, fresh networks last."""
    keys = list(keys)
    order = rules.in_order(key[0] for key in keys)
    return sorted(keys, key=lambda key: (key[2] == rules.SCRATCH, order.index(key[0]), -key[1]))


def build(summaries: Mapping[Key, Summary], model: str) -> tuple[list[Row], list[str]]:
    """The rows and the notes of the table.

    Args:
      summaries: keyed by (rule, kept, scope).
      model: "convnet" or "densenet", whose numbers in the paper stand beside those of the rule "smallest".
    """
    keys = ordered(summaries)
    counts = sorted({kept for rule, kept, _ in keys if rule not in (rules.FULL, rules.FROZEN)}, reverse=True)
    table = [_row(key, summaries[key], model, counts) for key in keys]
    notes = ["Means over seeds \N{PLUS-MINUS SIGN} half the 95% Student t interval. Drop: test error minus that of "
             "full data of the same seed. Moved: distance from the weights at the removal over their norm. Loss in "
             "nats, on the kept examples."]
    before = next((s.error for (rule, _, _), s in summaries.items() if rule == rules.FROZEN), None)
    if before is not None:
        said = paper.IMMEDIATE_ACCURACY.get(model)
        accuracy = intervals.text(before._replace(mean=100 - before.mean))
        notes.append(f"Test accuracy at the removal: {accuracy}%" + (f"; paper: {said}%." if said else "."))
    failed = Counter({reason: 0 for s in summaries.values() for reason, _ in s.reasons})
    for summary in summaries.values():
        failed.update(dict(summary.reasons))
    notes += [f"Failed, {count} in all: {reason}" for reason, count in failed.items()]
    return table, text_table.wrapped(notes)


def _row(key: Key, summary: Summary, model: str, counts: list[int]) -> Row:
    rule, kept, scope = key
    said = paper.IMMEDIATE_DROP[model].get(kept) if model in paper.IMMEDIATE_DROP else None
    theirs = f"+{said:.2f}" if said is not None and (rule, scope) == (rules.MAIN, "after") else ""
    seeds = f"{summary.seeds - summary.failed}" + (f", {summary.failed} failed" if summary.failed else "")
    drop = "" if rule == rules.FULL else intervals.text(summary.drop, sign=True)
    texts = (rules.name(rule, scope), "" if rule == rules.FROZEN else f"{kept:,}", intervals.text(summary.error), drop,
             theirs, number(summary.moved.mean), number(summary.updates), losses(summary), seeds)
    return Row(texts, rules.look(rule), kept not in counts[1:])


def number(value: float) -> str:
    """Three digits at most, whole from a thousand on; "–" for NaN."""
    if not np.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else scales.signed(f"{value:.3g}")


def losses(summary: Summary) -> str:
    """Loss on the kept examples at the removal and at the end."""
    if not np.isfinite(summary.loss_start + summary.loss_end):
        return "–"
    return scales.signed(f"{summary.loss_start:.2g} \N{RIGHTWARDS ARROW} {summary.loss_end:.2g}")
