"""Removal in one step at data separation: test error before and after, and how far each rule went (fig. 5, 10)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from margin_jax.tables import Table, rows
from plots import immediate_table, rules, scales, style, text_table, two_scales
from plots.cell_stats import FINISHED, Summary, summarise
from plots.immediate_table import Key
from plots.intervals import band, ends, t_interval
from plots.since_removal import BASE, Aligned, align

Curves = Mapping[Key, Aligned]
_DASHES = ("-", (0, (4, 1.5)), (0, (2, 1)), (0, (6, 1, 1, 1)))
_DOTTED = (0, (1, 1.2))


@style.styled
def figure(cells: Table, curves: Table, model: str, title: str = "") -> Figure:
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
    cells = rows(cells, scope=("after", rules.SCRATCH))
    cells["kept"] = np.nan_to_num(cells["kept"]).astype(int)
    summaries = summarise(cells, ("rule", "kept", "scope"))
    counts = sorted({kept for rule, kept, _ in (*aligned, *summaries)
                     if rule not in (BASE, rules.FULL, rules.FROZEN)}, reverse=True)
    table, notes = immediate_table.build(summaries, model)
    below = text_table.height(len(table), len(notes))
    fig = style.new_figure(style.DOUBLE, 3.4 + below)
    grid = fig.add_gridspec(2, 1, height_ratios=(3.2, below))
    panels = grid[0].subgridspec(2, 3, height_ratios=(0.8, 2), width_ratios=(0.7, 2.2, 2.1)).subplots(
        sharex="col", sharey="row")
    zoom = _zoom(aligned, cells)
    for (before, after, final), floor in zip(panels, (zoom[1], -np.inf)):
        _before(before, aligned)
        _after(after, aligned, summaries, counts)
        _final(final, cells, summaries, counts, floor)
    two_scales.frame(panels, zoom)
    for axes, label, most in zip(panels[1], ("epochs before", "epochs after the removal"), (3, 6)):
        axes.set_xlabel(label)
        axes.set_xticks(scales.whole_ticks(*axes.get_xlim(), most=most))
    panels[1, 0].set_ylabel("test error (%)")
    text_table.draw(fig.add_subplot(grid[1]), immediate_table.COLUMNS, table, notes)
    fig.legend(handles=_legend(aligned, summaries, counts), loc="outside upper center", ncols=6, title=title or None,
               title_fontsize=8)
    return fig


def _before(axes: Axes, aligned: Curves) -> None:
    for (rule, _, _), group in aligned.items():
        if rule == BASE:
            axes.plot(group.epochs, group.values.T, color="black", linewidth=0.5, alpha=0.6)
    axes.set_xlim(right=0.5)


def _after(axes: Axes, aligned: Curves, summaries: Mapping[Key, Summary], counts: Sequence[int]) -> None:
    for key in immediate_table.ordered(key for key in aligned if key[0] != BASE):
        rule, kept, scope = key
        group, colour = _from_removal(aligned[key]), rules.look(rule).colour
        mean = t_interval(group.values).mean
        main = rule in (rules.MAIN, rules.FULL) and scope != rules.SCRATCH
        axes.plot(group.epochs, mean, color=colour, linewidth=1.3 if main else 0.7, zorder=3 if main else 2,
                  linestyle=_dash(kept, scope, counts), gid=f"{rule}-{kept}-{scope}",
                  marker="o" if group.epochs.size == 1 else "", markersize=2)
        if main:  # bands of every rule would hide one another; their intervals are at the right
            axes.fill_between(group.epochs, *band(group.values), color=colour, alpha=0.18, linewidth=0)
    for (rule, _, _), summary in summaries.items():
        if rule == rules.FROZEN:
            axes.axhline(summary.error.mean, color=style.GREY, linewidth=0.8, zorder=1)


def _from_removal(group: Aligned) -> Aligned:
    """Without what a fresh network did in the epochs that the others trained before the removal."""
    later = group.epochs >= 0
    return Aligned(group.epochs[later], group.values[:, later])


def _final(axes: Axes, cells: Table, summaries: Mapping[Key, Summary], counts: Sequence[int], floor: float) -> None:
    """Test error of every seed and its mean; what lies below `floor` is left out, lest half a marker shows above it."""
    keys = immediate_table.ordered(summaries)
    places = {pair: place for place, pair in enumerate(dict.fromkeys((rule, scope) for rule, _, scope in keys))}
    for rule, kept, scope in keys:
        look, filled = rules.look(rule), _filled(kept, counts)
        same = len({k for r, k, s in keys if (r, s) == (rule, scope)})
        place = places[rule, scope] + (0.24 * (counts.index(kept) - (same - 1) / 2) if kept in counts else 0.0)
        group = rows(cells, rule=rule, kept=kept, scope=scope, status=FINISHED)["test_error"]
        if not (group > floor).any():
            continue
        axes.plot(np.full(group.size, place - 0.09), group, ".", color=look.colour, markersize=2, alpha=0.6)
        error = summaries[rule, kept, scope].error
        axes.errorbar(place + 0.03, error.mean, error.half if np.isfinite(error.half) else 0.0, color=look.colour,
                      marker=look.marker, markersize=3.5, markerfacecolor=look.colour if filled else "white",
                      capsize=1.5, linewidth=0.8, markeredgewidth=0.8, gid=f"{rule}-{kept}-{scope}")
    axes.set_xticks(list(places.values()), [rules.name(*pair) for pair in places], rotation=45, ha="right",
                    rotation_mode="anchor")
    axes.set_xlim(-0.6, max(len(places), 1) - 0.4)


def _dash(kept: int, scope: str, counts: Sequence[int]) -> object:
    return _DOTTED if scope == rules.SCRATCH else _DASHES[counts.index(kept) % len(_DASHES)] if kept in counts else "-"


def _filled(kept: int, counts: Sequence[int]) -> bool:
    return kept not in counts[1:]


def _zoom(aligned: Curves, cells: Table) -> tuple[float, float, float]:
    """Zooms on the paper's rule, full data and the frozen network."""
    good = rows(cells, status=FINISHED)
    shown = {rules.MAIN, rules.FULL, rules.FROZEN}
    if rules.MAIN not in good["rule"]:
        shown |= set(good["rule"].tolist())
    near = [np.array(ends(rows(good, rule=rule, scope="after", kept=kept)["test_error"])) for rule, kept in
            set(zip(good["rule"].tolist(), good["kept"].tolist())) if rule in shown]
    near += [t_interval(_from_removal(group).values).mean for (rule, _, scope), group in aligned.items()
             if rule in shown and scope != rules.SCRATCH]
    return two_scales.limits(near, [good["test_error"], *(group.values for group in aligned.values())])


def _legend(aligned: Curves, summaries: Mapping[Key, Summary], counts: Sequence[int]) -> list[Line2D]:
    keys = [key for key in (*aligned, *summaries) if key[0] != BASE]
    handles = [Line2D([], [], color=rules.look(rule).colour, marker=rules.look(rule).marker, markersize=3.2,
                      label=rules.name(rule)) for rule in rules.in_order(key[0] for key in keys)]
    handles += [Line2D([], [], color="black", linewidth=0.8, linestyle=_dash(kept, "after", counts), marker="o",
                       markersize=3.2, markerfacecolor="black" if _filled(kept, counts) else "white",
                       label=f"{kept:,} kept") for kept in counts]
    if any(scope == rules.SCRATCH for _, _, scope in keys):
        handles.append(Line2D([], [], color="black", linewidth=0.8, linestyle=_DOTTED, label="from scratch"))
    return handles
