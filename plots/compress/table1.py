"""Table 1 of the paper beside ours: the drop for every learning rate and batch size, controls, what training did.

The cells of a grid over seeds as tables, as CSV and as a figure, and how their order compares with the paper's.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from margin_jax.errors import InputError
from margin_jax.run_folder.tables import Table
from margin_jax.statistics.estimates import Estimate, agreement
from plots import paper, style, tables
from plots.compress import read
from plots.compress.read import Summary, losses, number_text, summarise
from plots.tables import Grid

BY = ("optimizer", "learning_rate", "batch_size", "rule", "scope")
Cells = Mapping[tuple[str, float, float, str, str], Summary]  # keyed by BY
_COLUMNS = (*BY, "n", "failed", "drop_mean", "drop_half", "drop_frozen_mean",
            "drop_frozen_half", "moved_mean", "updates", "loss_start", "loss_end", "paper_drop")


def summaries(cells: Table) -> Cells:
    """One summary per optimiser, learning rate, batch size, rule and scope; without the runs on full data.

    Raises:
      InputError: rules that kept different numbers, which one table cannot show, or no rule at all.
    """
    counts = np.unique(cells["kept"][~np.isin(cells["rule"], read.UNCOMPRESSED)])
    if counts.size != 1:
        raise InputError(f"table 1 expects one count kept, got {', '.join(f'{k:g}' for k in counts) or 'no rule yet'}; "
                         "run a grid for each compress.keep in a folder of its own, or wait for the first cell")
    return {key: summary for key, summary in summarise(cells, BY).items() if key[3] != read.FULL}


def chosen(grid: Cells, optimizer: str, rule: str, scope: str) -> dict[tuple[float, int], Summary]:
    """The cells of one rule, keyed by (learning_rate, batch_size)."""
    return {(rate, int(batch)): summary for (name, rate, batch, by, where), summary in grid.items()
            if (name, by, where) == (optimizer, rule, scope)}


def paper_order(grid: Cells, model: str, scope: str, optimizer: str | None = None) -> Estimate:
    """Whether the rule "smallest" orders the cells of a scope by their mean drop as the paper does.

    Args:
      grid: all cells.
      model: "convnet" or "densenet".
      scope: whose cells.
      optimizer: whose cells; None for those of every optimiser.
    """
    pairs = [(_paper(model, key), summary.drop.value) for key, summary in grid.items()
             if key[3] == read.MAIN and key[4] == scope and optimizer in (None, key[0])]
    return _agreement(pairs)


def moved_order(grid: Cells, rule: str, scope: str, optimizer: str) -> Estimate:
    """Whether the cells of a rule whose networks moved farther lost more: mean drop against mean distance moved."""
    pairs = [(summary.moved.value, summary.drop.value) for key, summary in grid.items()
             if (key[0], *key[3:]) == (optimizer, rule, scope)]
    return _agreement(pairs)


def loss_order(grid: Cells, rule: str, scope: str, optimizer: str) -> Estimate:
    """Whether the cells of a rule lost more whose examples had more loss left at the removal: mean drop against it."""
    return _agreement([(summary.loss_start, summary.drop.value) for key, summary in grid.items()
                       if (key[0], *key[3:]) == (optimizer, rule, scope)])


def _agreement(pairs: list[tuple[float, float]]) -> Estimate:
    columns = np.array(pairs, np.float64).reshape(-1, 2)
    return agreement(columns[:, 0], columns[:, 1])


def _paper(model: str, key: tuple) -> float:
    drop = paper.table1_drop(model, *key[:3])
    return math.nan if drop is None else drop


def to_csv(grid: Cells, model: str) -> str:
    """All cells in long form, a line each; drops in points, losses in nats, empty where there is no number.

    `n` counts the seeds that enter the drop. The paper's drop stands beside the rule "smallest", its X as X.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for (optimizer, rate, batch, rule, scope), summary in grid.items():
        ours = rule == read.MAIN and scope != read.SCRATCH
        stated = paper.table1_drop(model, optimizer, rate, batch) if ours else None
        numbers = (summary.drop.value, summary.drop_half, summary.drop_frozen.value, summary.drop_frozen_half,
                   summary.moved.value, summary.updates, summary.loss_start, summary.loss_end)
        writer.writerow((optimizer, f"{rate:g}", f"{batch:g}", rule, scope, summary.drop.n, summary.failed,
                         *map(_number, numbers), "" if stated is None else "X" if math.isnan(stated) else stated))
    return file.getvalue()


def _number(value: float) -> str:
    return f"{value:.8g}" if np.isfinite(value) else ""


Settings = tuple[float, int]  # learning rate, batch size
Chosen = Mapping[Settings, Summary]
_SCOPES = {"after": "settings after the removal", "whole_run": "settings in the whole run",
           read.SCRATCH: "fresh networks"}
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
    grid = summaries(cells)
    kept = int(cells["kept"][~np.isin(cells["rule"], read.UNCOMPRESSED)][0])
    order = sorted(read.rules_in_order(key[3] for key in grid), key=lambda rule: rule != read.MAIN)
    grids = []
    for optimizer in optimizers(grid):
        for scope in scopes(grid):
            where = f"{paper.MODELS.get(model, model)}, {optimizer}, {kept:,} kept, {_SCOPES.get(scope, scope)}"
            for rule in order:
                settings = chosen(grid, optimizer, rule, scope)
                if not settings or (rule, scope) == (read.FROZEN, "after"):  # one network for all settings: a note
                    continue
                caption, main = f"Drop by rule {read.name(rule)}; {where}", rule == read.MAIN
                stated = {at: paper.table1_drop(model, optimizer, *at) for at in settings} if main else {}
                notes = [_LEGEND] * (main or not grids) + (_main_notes(grid, model, optimizer, scope) if main else [])
                if main and kept != paper.TABLE1_KEPT:
                    notes.append(f"The paper kept {paper.TABLE1_KEPT}, this grid {kept:,}.")
                grids.append(_drops(caption, settings, stated if scope != read.SCRATCH else {}, notes))
                grids += _what_training_did(settings, where) if main else []
    return grids


def optimizers(grid: Cells) -> list[str]:
    """Those of the rules; the frozen network may have that from before the removal."""
    return list(dict.fromkeys(key[0] for key in grid if key[3] != read.FROZEN))


def scopes(grid: Cells) -> list[str]:
    """Scopes in the order of the tables: fresh networks last."""
    known = {key[4] for key in grid}
    return [scope for scope in _SCOPES if scope in known] + sorted(known - set(_SCOPES))


def _main_notes(grid: Cells, model: str, optimizer: str, scope: str) -> list[str]:
    notes = [paper.TABLE1_NOTES[model, optimizer]] if (model, optimizer) in paper.TABLE1_NOTES else []
    notes = notes if scope != read.SCRATCH else []
    frozen = [s for key, s in grid.items() if key[3:] == (read.FROZEN, "after")] if scope == "after" else []
    notes += [f"Frozen at the removal: drop {ours(summary)}." for summary in frozen]
    notes += [f"Without {count} of {summary.seeds} networks, which did not get to the removal: {reason}."
              for summary in frozen for reason, count in summary.reasons]
    order = f"Order of the cells, paper against ours: {order_text(paper_order(grid, model, scope, optimizer))}"
    if len(optimizers(grid)) > 1:
        order += f"; of all optimisers: {order_text(paper_order(grid, model, scope))}"
    if scope != read.SCRATCH:
        moved = order_text(moved_order(grid, read.MAIN, scope, optimizer))
        notes.append(f"Drop against distance moved, cell by cell: {moved}.")
    if scope == "whole_run":  # after the removal alone all cells of a seed start from one network, with one loss
        left = order_text(loss_order(grid, read.MAIN, scope, optimizer))
        notes.append(f"Drop against the loss of the kept examples at the removal, cell by cell: {left}.")
    return [*notes, f"{order}."]


def order_text(order: Estimate) -> str:
    """Such as "Spearman's ρ = 0.91, 95% bootstrap interval 0.70 to 0.98, 17 cells"."""
    if not math.isfinite(order.value):
        return f"{order.n} cells with a number in both, too few or all equal"
    rho, low, high = (tables.interval_text(Estimate(value, math.nan, math.nan, 1)) for value in order[:3])
    return f"Spearman's \N{GREEK SMALL LETTER RHO} = {rho}, 95% bootstrap interval {low} to {high}, {order.n} cells"


def _drops(caption: str, settings: Chosen, stated: Mapping[Settings, float | None], notes: Sequence[str]) -> Grid:
    """Drops by batch size and learning rate; the paper's in a column before ours where it has one."""
    rates, batches = _axes(settings)
    beside = any(value is not None for value in stated.values())
    reasons: dict[str, list[str]] = {}
    lines = []
    for batch in batches:
        line = [_batch(batch)]
        for rate in rates:
            if beside:
                drop = stated.get((rate, batch))
                line.append("" if drop is None else "X" if math.isnan(drop) else f"{drop:.2f}")
            summary = settings.get((rate, batch))
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
    drop = tables.interval_text(summary.drop)
    return f"{drop} ({summary.drop.n})" if summary.drop.n else drop


def _what_training_did(settings: Chosen, where: str) -> list[Grid]:
    columns: dict[str, Callable[[Summary], str]] = {
        "Test error minus that of the network frozen at the removal": lambda s: tables.interval_text(s.drop_frozen),
        "Distance moved over the norm of the weights at the removal": lambda s: number_text(s.moved.value),
        "Updates": lambda s: number_text(s.updates),
        "Loss on the kept examples, start to end (nats)": losses,
    }
    rates, batches = _axes(settings)
    return [Grid(f"{caption}; rule {read.name(read.MAIN)}; {where}",
                 ["batch size", *(f"learning rate {rate:g}" for rate in rates)],
                 [[_batch(batch), *(text(settings[rate, batch]) if (rate, batch) in settings else "" for rate in rates)]
                  for batch in batches], [])
            for caption, text in columns.items() if not {text(s) for s in settings.values()} <= {"\N{EN DASH}"}]


def _axes(settings: Chosen) -> tuple[list[float], list[int]]:
    """Learning rates and batch sizes as the paper lists them: falling, full gradient descent first."""
    return (sorted({rate for rate, _ in settings}, reverse=True),
            sorted({batch for _, batch in settings}, key=lambda batch: -batch if batch else -math.inf))


def _batch(batch: int) -> str:
    return f"{batch}" if batch else "all kept"


_PAPER = "#AAAAAA"
_TICKS = (0, 0.3, 1, 3, 10, 30, 100)
_LINEAR = 0.3  # points around zero on a linear scale, where a log scale ends
_SPREAD = 0.5  # of the room between two batch sizes that the bars of one take


@style.styled
def draw_figure(cells: Table, model: str, title: str = "") -> Figure:
    """Draws mean drops with 95% bars; a row of panels for each optimiser.

    Args:
      cells: columns of cells.csv of a grid, each (R,).
      model: "convnet" or "densenet", for the paper's numbers.
      title: above the figure.

    Returns:
      The figure; the lines of a panel have the gid "rule-scope", the paper's "paper".

    Raises:
      InputError: no rule yet, or rules that kept different numbers.
    """
    grid = summaries(cells)
    names = optimizers(grid)
    rates = sorted({key[1] for key in grid if key[3] != read.FROZEN}, reverse=True)
    batches = sorted({int(key[2]) for key in grid if key[3] != read.FROZEN}, key=lambda size: size or math.inf)
    lines = _lines(grid)
    fig = style.new_figure(style.DOUBLE, 0.7 + 2.1 * len(names))
    panels = fig.subplots(len(names), len(rates), squeeze=False, sharex=True, sharey=True)
    for name, row in zip(names, panels):
        for rate, axes in zip(rates, row):
            _panel(axes, grid, name, rate, batches, lines)
            _draw_paper(axes, model, name, rate, batches)
            axes.set_title(f"{name}, learning rate {rate:g}")
        row[0].set_ylabel(f"drop (points, log above {_LINEAR:g})")
    _scale(panels, grid, batches)
    fig.supxlabel("batch size")
    fig.legend(handles=_legend(grid, lines), loc="outside upper center", ncols=5, title=title or None,
               title_fontsize=8)
    return fig


def _lines(grid: Cells) -> list[tuple[str, str]]:
    """Rule and scope of each line: fresh networks last."""
    known = {(key[3], key[4]) for key in grid if (key[3], key[4]) != (read.FROZEN, "after")}
    order = read.rules_in_order(rule for rule, _ in known)
    return sorted(known, key=lambda pair: (scopes(grid).index(pair[1]), order.index(pair[0])))


def _panel(axes: Axes, grid: Cells, optimizer: str, rate: float, batches: Sequence[int],
           lines: Sequence[tuple[str, str]]) -> None:
    for number, (rule, scope) in enumerate(lines):
        settings = chosen(grid, optimizer, rule, scope)
        drawn = [(place, settings[rate, size]) for place, size in enumerate(batches) if (rate, size) in settings]
        if not drawn:
            continue
        shift, look = _SPREAD * (number / max(len(lines) - 1, 1) - 0.5), read.look(rule)
        mean = np.array([summary.drop.value for _, summary in drawn])
        half = np.nan_to_num(np.array([summary.drop.half for _, summary in drawn]))
        axes.errorbar(np.array([place for place, _ in drawn]) + shift, mean, half, color=look.colour,
                      marker=look.marker, markersize=3, capsize=1, linewidth=1.0 if rule == read.MAIN else 0.6,
                      elinewidth=0.6, markeredgewidth=0.6, linestyle=":" if scope == read.SCRATCH else "-", zorder=3,
                      markerfacecolor="white" if scope == read.SCRATCH else look.colour, gid=f"{rule}-{scope}")
        if not (failed := [place + shift for place, summary in drawn if summary.failed]):
            continue  # an empty line that is not clipped would take the whole figure's room
        axes.plot(failed, np.full(len(failed), 0.985), "x", color=look.colour, markersize=3.5, markeredgewidth=0.9,
                  transform=axes.get_xaxis_transform(), clip_on=False, gid=f"failed-{rule}-{scope}")
    for summary in (s for key, s in grid.items() if key[3:] == (read.FROZEN, "after")):
        axes.axhline(summary.drop.value, color=read.look(read.FROZEN).colour, linewidth=0.7, linestyle="--", zorder=1)


def _draw_paper(axes: Axes, model: str, optimizer: str, rate: float, batches: Sequence[int]) -> None:
    drops = [paper.table1_drop(model, optimizer, rate, size) for size in batches]
    if any(drop is not None for drop in drops):
        axes.plot(range(len(batches)), [math.nan if drop is None else drop for drop in drops], color=_PAPER,
                  linewidth=2.5, marker="o", markersize=4, zorder=1, gid="paper")


def _scale(panels: np.ndarray, grid: Cells, batches: Sequence[int]) -> None:
    """Drops from hundredths to tens of points: a log scale, linear around zero."""
    for axes in panels.ravel():
        axes.set_yscale("symlog", linthresh=_LINEAR, linscale=0.5)
        axes.yaxis.set_major_locator(FixedLocator([*(-tick for tick in _TICKS[:0:-1]), *_TICKS]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: style.signed(f"{value:g}"))
        axes.grid(axis="y", linewidth=0.3, alpha=0.5)
        axes.axhline(0, color="black", linewidth=0.4, zorder=0)
        axes.set_xticks(range(len(batches)), [f"{size}" if size else "all" for size in batches])
    drops = [summary.drop for summary in grid.values()]
    # No further than from zero to twice the mean: bars of two seeds would take all the room.
    ends = [drop.value + sign * min(np.nan_to_num(drop.half), abs(drop.value)) for drop in drops for sign in (-1, 1)]
    ends = [end for end in ends if np.isfinite(end)]
    panels[0, 0].set_ylim(min([-0.3, *(1.2 * end for end in ends)]), max([40, *(1.5 * end for end in ends)]))


def _legend(grid: Cells, lines: Sequence[tuple[str, str]]) -> list[Line2D]:
    handles = [Line2D([], [], color=_PAPER, linewidth=2.5, marker="o", markersize=4, label="paper (smallest)")]
    for rule, scope in lines:
        look, fresh = read.look(rule), scope == read.SCRATCH
        handles.append(Line2D([], [], color=look.colour, marker=look.marker, markersize=3, linewidth=0.8,
                              linestyle=":" if fresh else "-", markerfacecolor="white" if fresh else look.colour,
                              label=read.name(rule, scope)))
    if any(key[3:] == (read.FROZEN, "after") for key in grid):
        handles.append(Line2D([], [], color=read.look(read.FROZEN).colour, linewidth=0.7, linestyle="--",
                              label=read.name(read.FROZEN)))
    if any(summary.failed for summary in grid.values()):
        handles.append(Line2D([], [], color="black", marker="x", linestyle="", markersize=3.5, label="a seed failed"))
    return handles
