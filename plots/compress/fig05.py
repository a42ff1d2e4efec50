"""Removal in one step at data separation: test error before and after, and how far each rule went (fig. 5, 10).

Two rows of panels have one y axis: the lower zooms on what matters, the upper goes on from where it ends. The table
below them says what each rule cost, and whether it did anything.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from margin_jax.run_folder.tables import Table, rows
from margin_jax.statistics.estimates import Estimate, t_interval
from plots import paper, style, tables
from plots.compress import read
from plots.compress.read import BASE, FINISHED, Aligned, Summary, align, losses, number_text, summarise
from plots.style import band, ends
from plots.tables import Column, TextRow

Key = tuple[str, int, str]  # rule, kept, scope
COLUMNS = (Column("kept by", 0.022, "left"), Column("kept", 0.25), Column("test error (%)", 0.375),
           Column("drop (points)", 0.5), Column("paper", 0.565), Column("moved", 0.64), Column("updates", 0.725),
           Column("loss, start \N{RIGHTWARDS ARROW} end", 0.905), Column("seeds", 0.995))


def ordered(keys: Iterable[Key]) -> list[Key]:
    """In the order of every legend, larger counts first, fresh networks last."""
    keys = list(keys)
    order = read.rules_in_order(key[0] for key in keys)
    return sorted(keys, key=lambda key: (key[2] == read.SCRATCH, order.index(key[0]), -key[1]))


def build(summaries: Mapping[Key, Summary], model: str) -> tuple[list[TextRow], list[str]]:
    """The rows and the notes of the table.

    Args:
      summaries: keyed by (rule, kept, scope).
      model: "convnet" or "densenet", whose numbers in the paper stand beside those of the rule "smallest".
    """
    keys = ordered(summaries)
    counts = sorted({kept for rule, kept, _ in keys if rule not in (read.FULL, read.FROZEN)}, reverse=True)
    table = [_row(key, summaries[key], model, counts) for key in keys]
    notes = ["Means over seeds \N{PLUS-MINUS SIGN} half the 95% Student t interval. Drop: test error minus that of "
             "full data of the same seed. Moved: distance from the weights at the removal over their norm. Loss in "
             "nats, on the kept examples."]
    before = next((s.error for (rule, _, _), s in summaries.items() if rule == read.FROZEN), None)
    if before is not None:
        stated = paper.IMMEDIATE_ACCURACY.get(model)
        accuracy = tables.interval_text(Estimate(*(100 - end for end in (before.value, before.high, before.low)),
                                                 before.n))
        notes.append(f"Test accuracy at the removal: {accuracy}%" + (f"; paper: {stated}%." if stated else "."))
    failed = Counter({reason: 0 for s in summaries.values() for reason, _ in s.reasons})
    for summary in summaries.values():
        failed.update(dict(summary.reasons))
    notes += [f"Failed, {count} in all: {reason}" for reason, count in failed.items()]
    return table, tables.wrapped(notes)


def _row(key: Key, summary: Summary, model: str, counts: list[int]) -> TextRow:
    rule, kept, scope = key
    stated = paper.IMMEDIATE_DROP[model].get(kept) if model in paper.IMMEDIATE_DROP else None
    in_paper = f"+{stated:.2f}" if stated is not None and (rule, scope) == (read.MAIN, "after") else ""
    seeds = f"{summary.seeds - summary.failed}" + (f", {summary.failed} failed" if summary.failed else "")
    drop = "" if rule == read.FULL else tables.interval_text(summary.drop, sign=True)
    texts = (read.name(rule, scope), "" if rule == read.FROZEN else f"{kept:,}",
             tables.interval_text(summary.error), drop, in_paper, number_text(summary.moved.value),
             number_text(summary.updates), losses(summary), seeds)
    return TextRow(texts, read.look(rule), kept not in counts[1:])


def limits(near: Sequence[np.ndarray], everything: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Bottom and top of the zoom, and the top of the upper panels, for values that are not negative.

    Args:
      near: what the zoom should hold, arrays of any shape; NaN is left out.
      everything: all that is drawn; the zoom reaches down to its smallest value.
    """
    values, whole = _finite(near), _finite(everything)
    if not whole.size:
        return 0.0, 1.0, 2.0
    values = values if values.size else whole
    low, high = min(whole.min(), values.min()), values.max()
    pad = 0.06 * (high - low) or 0.5
    # Errors are not negative, whatever the end of an interval.
    return max(low - pad, -0.03 * high), high + 2 * pad, max(whole.max(), high + 2 * pad)


def _finite(arrays: Sequence[np.ndarray]) -> np.ndarray:
    values = np.concatenate([np.ravel(array) for array in arrays]) if len(arrays) else np.zeros(0)
    return values[np.isfinite(values)]


def frame(panels: np.ndarray, zoom: tuple[float, float, float]) -> None:
    """Sets the y limits of panels (2, ...), upper row first, that share y by rows; dots mark the change of scale."""
    low, high, top = zoom
    panels[1, 0].set_ylim(low, high)
    panels[0, 0].set_ylim(high, top + (0.06 * (top - high) or 1.0))
    for axes in panels[0]:
        axes.spines["bottom"].set_linestyle((0, (1, 2)))
        axes.tick_params(bottom=False)
    for axes in panels[:, 1:].ravel():
        axes.tick_params(left=False)
        axes.grid(axis="y", linewidth=0.3, alpha=0.5)


Curves = Mapping[Key, Aligned]
_DASHES = ("-", (0, (4, 1.5)), (0, (2, 1)), (0, (6, 1, 1, 1)))
_DOTTED = (0, (1, 1.2))


@style.styled
def draw_figure(cells: Table, curves: Table, model: str, title: str = "") -> Figure:
    """Draws test error against epoch around a removal, the final errors of every rule, and a table of the cells.

    The lower panels zoom on what happens after the removal; the upper ones go on from where they end.

    Args:
      cells: columns of cells.csv of one setting, each (R,); may be empty while the job goes on.
      curves: columns of curves.csv, each (Q,).
      model: "convnet" or "densenet", for the paper's numbers.
      title: above the figure.

    Returns:
      The figure. Its axes: before, after and final errors of the upper row, the same of the lower one, the table. Mean
      lines have the gid "rule-kept-scope".
    """
    aligned = align(curves)
    cells = rows(cells, scope=("after", read.SCRATCH))
    cells["kept"] = np.nan_to_num(cells["kept"]).astype(int)
    summaries = summarise(cells, ("rule", "kept", "scope"))
    counts = sorted({kept for rule, kept, _ in (*aligned, *summaries)
                     if rule not in (BASE, read.FULL, read.FROZEN)}, reverse=True)
    table, notes = build(summaries, model)
    below = tables.height(len(table), len(notes))
    fig = style.new_figure(style.DOUBLE, 3.4 + below)
    grid = fig.add_gridspec(2, 1, height_ratios=(3.2, below))
    panels = grid[0].subgridspec(2, 3, height_ratios=(0.8, 2), width_ratios=(0.7, 2.2, 2.1)).subplots(
        sharex="col", sharey="row")
    zoom = _zoom(aligned, cells)
    for (before, after, final), floor in zip(panels, (zoom[1], -np.inf)):
        _before(before, aligned)
        _after(after, aligned, summaries, counts)
        _final(final, cells, summaries, counts, floor)
    frame(panels, zoom)
    for axes, label, most in zip(panels[1], ("epochs before", "epochs after the removal"), (3, 6)):
        axes.set_xlabel(label)
        axes.set_xticks(style.whole_ticks(*axes.get_xlim(), most=most))
    panels[1, 0].set_ylabel("test error (%)")
    tables.draw(fig.add_subplot(grid[1]), COLUMNS, table, notes)
    fig.legend(handles=_legend(aligned, summaries, counts), loc="outside upper center", ncols=6, title=title or None,
               title_fontsize=8)
    return fig


def _before(axes: Axes, aligned: Curves) -> None:
    for (rule, _, _), group in aligned.items():
        if rule == BASE:
            axes.plot(group.epochs, group.values.T, color="black", linewidth=0.5, alpha=0.6)
    axes.set_xlim(right=0.5)


def _after(axes: Axes, aligned: Curves, summaries: Mapping[Key, Summary], counts: Sequence[int]) -> None:
    for key in ordered(key for key in aligned if key[0] != BASE):
        rule, kept, scope = key
        group, colour = _from_removal(aligned[key]), read.look(rule).colour
        mean = t_interval(group.values).value
        main = rule in (read.MAIN, read.FULL) and scope != read.SCRATCH
        axes.plot(group.epochs, mean, color=colour, linewidth=1.3 if main else 0.7, zorder=3 if main else 2,
                  linestyle=_dash(kept, scope, counts), gid=f"{rule}-{kept}-{scope}",
                  marker="o" if group.epochs.size == 1 else "", markersize=2)
        if main:  # bands of every rule would hide one another; their intervals are at the right
            axes.fill_between(group.epochs, *band(group.values), color=colour, alpha=0.18, linewidth=0)
    for (rule, _, _), summary in summaries.items():
        if rule == read.FROZEN:
            axes.axhline(summary.error.value, color=style.GREY, linewidth=0.8, zorder=1)


def _from_removal(group: Aligned) -> Aligned:
    """Without what a fresh network did in the epochs that the others trained before the removal."""
    later = group.epochs >= 0
    return Aligned(group.epochs[later], group.values[:, later])


def _final(axes: Axes, cells: Table, summaries: Mapping[Key, Summary], counts: Sequence[int], floor: float) -> None:
    """Test error of every seed and its mean; what lies below `floor` is left out, lest half a marker shows above it."""
    keys = ordered(summaries)
    places = {pair: place for place, pair in enumerate(dict.fromkeys((rule, scope) for rule, _, scope in keys))}
    for rule, kept, scope in keys:
        look, filled = read.look(rule), _filled(kept, counts)
        same = len({k for r, k, s in keys if (r, s) == (rule, scope)})
        place = places[rule, scope] + (0.24 * (counts.index(kept) - (same - 1) / 2) if kept in counts else 0.0)
        group = rows(cells, rule=rule, kept=kept, scope=scope, status=FINISHED)["test_error"]
        if not (group > floor).any():
            continue
        axes.plot(np.full(group.size, place - 0.09), group, ".", color=look.colour, markersize=2, alpha=0.6)
        error = summaries[rule, kept, scope].error
        axes.errorbar(place + 0.03, error.value, error.half if np.isfinite(error.half) else 0.0, color=look.colour,
                      marker=look.marker, markersize=3.5, markerfacecolor=look.colour if filled else "white",
                      capsize=1.5, linewidth=0.8, markeredgewidth=0.8, gid=f"{rule}-{kept}-{scope}")
    axes.set_xticks(list(places.values()), [read.name(*pair) for pair in places], rotation=45, ha="right",
                    rotation_mode="anchor")
    axes.set_xlim(-0.6, max(len(places), 1) - 0.4)


def _dash(kept: int, scope: str, counts: Sequence[int]) -> object:
    return _DOTTED if scope == read.SCRATCH else _DASHES[counts.index(kept) % len(_DASHES)] if kept in counts else "-"


def _filled(kept: int, counts: Sequence[int]) -> bool:
    return kept not in counts[1:]


def _zoom(aligned: Curves, cells: Table) -> tuple[float, float, float]:
    """Zooms on the paper's rule, full data and the frozen network."""
    good = rows(cells, status=FINISHED)
    shown = {read.MAIN, read.FULL, read.FROZEN}
    if read.MAIN not in good["rule"]:
        shown |= set(good["rule"].tolist())
    near = [np.array(ends(rows(good, rule=rule, scope="after", kept=kept)["test_error"])) for rule, kept in
            set(zip(good["rule"].tolist(), good["kept"].tolist())) if rule in shown]
    near += [t_interval(_from_removal(group).values).value for (rule, _, scope), group in aligned.items()
             if rule in shown and scope != read.SCRATCH]
    return limits(near, [good["test_error"], *(group.values for group in aligned.values())])


def _legend(aligned: Curves, summaries: Mapping[Key, Summary], counts: Sequence[int]) -> list[Line2D]:
    keys = [key for key in (*aligned, *summaries) if key[0] != BASE]
    handles = [Line2D([], [], color=read.look(rule).colour, marker=read.look(rule).marker, markersize=3.2,
                      label=read.name(rule)) for rule in read.rules_in_order(key[0] for key in keys)]
    handles += [Line2D([], [], color="black", linewidth=0.8, linestyle=_dash(kept, "after", counts), marker="o",
                       markersize=3.2, markerfacecolor="black" if _filled(kept, counts) else "white",
                       label=f"{kept:,} kept") for kept in counts]
    if any(scope == read.SCRATCH for _, _, scope in keys):
        handles.append(Line2D([], [], color="black", linewidth=0.8, linestyle=_DOTTED, label="from scratch"))
    return handles
