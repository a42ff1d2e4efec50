"""What ranks networks by their test error: every measure with its statistics and their intervals, as a forest plot."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plots import judged, measure_names, scales, style
from plots.judged import CMI, Measure, Statistic
from plots.sweep_folder import WHEN, Lacking
from plots.verdicts import Verdicts

_ROW, _HEAD = 0.15, 1.5  # inches
_COLOURS = {1: style.BLUE, -1: style.VERMILLION, 0: style.GREY}
_LINE = 140  # characters of a note that fit below


@style.styled
def figure(found: Verdicts, moment: str, data: str) -> Figure:
    """Draws a row per measure, grouped by kind, and a column per statistic.

    Args:
      found: verdicts of one moment and target, by measure and statistic.
      moment: one of `tables.MOMENTS`.
      data: the name of the data set.

    Returns:
      The figure, with an axes for each of `judged.statistics`. Each point has its measure's key for a gid; the line
      that says nothing has the gid "nothing".

    Raises:
      Lacking: no measure has an order there.
    """
    rows, others = judged.shown(judged.measures(found))
    if not rows:
        raise Lacking(f"no measure orders the networks at {WHEN[moment]}: all are equal in it or in test error; train "
                      "networks that differ")
    kinds, columns = judged.by_kind(rows), judged.statistics(found)
    rows = [row for here in kinds.values() for row in here]
    notes = [line for note in _notes(rows, others, columns) for line in textwrap.wrap(note, _LINE)]
    count = len(rows) + len(kinds)
    fig = style.new_figure(style.DOUBLE, _HEAD + _ROW * count + 0.1 * len(notes))
    panels = np.atleast_1d(fig.subplots(1, len(columns), sharey=True))
    places = _places(kinds)
    for axes, statistic in zip(panels, columns):
        _panel(axes, statistic, rows, places)
    _labels(panels, kinds, rows, places)
    networks = max(row.of(judged.KENDALL).networks for row in rows)
    fig.legend(handles=_legend(), loc="outside upper center", ncols=3, title_fontsize=8, title=(
        f"What ranks {networks} networks on {data} by test error, at {WHEN[moment]}"))
    fig.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=6, color=style.GREY)
    return fig


def _places(kinds: dict[str, list[Measure]]) -> dict[str, int]:
    """Places from the top on, by key; a kind's heading stands above its first measure."""
    places, place = {}, 0
    for rows in kinds.values():
        for row in rows:
            place += 1
            places[row.key] = place
        place += 1
    return places


def _panel(axes: Axes, statistic: Statistic, rows: list[Measure], places: dict[str, int]) -> None:
    axes.axvline(statistic.line, color="black", linewidth=0.6, zorder=1, gid="nothing")
    ends = [statistic.line]
    for row in rows:
        value, verdict = row.of(statistic.key), judged.verdict_of(row, statistic)
        if not np.isfinite(value.value):
            continue
        place, colour = places[row.key], _COLOURS[verdict]
        whole = np.isfinite(value.low) and np.isfinite(value.high)
        if whole:
            axes.plot((value.low, value.high), (place, place), color=colour, linewidth=1.4 if verdict else 0.7,
                      solid_capstyle="butt", zorder=2)
        axes.plot(value.value, place, "o", color=colour, markersize=3.6 if verdict else 2.8, zorder=3, gid=row.key,
                  markerfacecolor=colour if whole else "white", markeredgewidth=0.7)
        ends += [value.value, *((value.low, value.high) if whole else ())]
    low, high = _limits(statistic, min(ends), max(ends))
    axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter(lambda value, _: scales.signed(f"{round(value, 9) + 0.0:g}"))
    axes.set_title("\n".join(textwrap.wrap(statistic.heading, 22)), fontsize=7)
    supports = "> 0 supports, if τ > 0 does" if statistic.key == CMI else (
        f"{'>' if statistic.side > 0 else '<'} {statistic.line:g} supports")
    axes.set_xlabel(supports, fontsize=6.5)
    axes.grid(axis="x", linewidth=0.3, alpha=0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _limits(statistic: Statistic, low: float, high: float) -> tuple[float, float]:
    """The whole range of a correlation or an error, with room for markers; information fits to what there is."""
    if statistic.key == CMI:
        return -0.04 * max(high, 0.1), 1.06 * max(high, 0.1)
    whole = (0.0, 1.0) if statistic.key == "sign_error" else (-1.0, 1.0)
    pad = 0.04 * (whole[1] - whole[0])
    return whole[0] - pad, whole[1] + pad


def _labels(panels: np.ndarray, kinds: dict[str, list[Measure]], rows: list[Measure], places: dict[str, int]) -> None:
    first, kendall = panels[0], judged.Statistic(judged.KENDALL, "", 0.0, 1)
    most = max(row.of(judged.KENDALL).networks for row in rows)
    told = []
    for row in rows:
        networks = row.of(judged.KENDALL).networks
        told.append(row.name.label + (f" ({networks})" if networks < most else ""))
    first.set_yticks([places[row.key] for row in rows], told, fontsize=6.5)
    for label, row in zip(first.get_yticklabels(), rows):
        if verdict := judged.verdict_of(row, kendall):
            label.set(fontweight="bold", color=_COLOURS[verdict])
    for kind, here in kinds.items():
        top = places[here[0].key] - 1
        first.annotate(kind, (0, top), xycoords=("axes fraction", "data"), xytext=(-3, 0), textcoords="offset points",
                       ha="right", va="center", fontsize=6.5, fontstyle="italic", annotation_clip=False)
        for axes in panels:
            axes.axhline(top, color=style.GREY, linewidth=0.3, zorder=0)
    panels[0].set_ylim(max(places.values()) + 0.8, -0.8)


def _legend() -> list[Line2D]:
    names = {1: "95% interval supports the measure", -1: "speaks against it", 0: "leaves it open"}
    return [Line2D([], [], color=_COLOURS[verdict], marker="o", markersize=3.6 if verdict else 2.8, label=name,
                   linewidth=1.4 if verdict else 0.7) for verdict, name in names.items()]


def _notes(rows: list[Measure], others: list[Measure], columns: list[Statistic]) -> list[str]:
    notes = [f"Signs are taken so that right orders count for a measure. With {len(rows)} measures, about one interval "
             "in 20 leaves the line by chance. " + measure_names.UNITS_NOTE]
    undefined = [row.name.label for row in others if not np.isfinite(row.of(judged.KENDALL).value)]
    if undefined:
        notes.append(f"Equal or not defined in all networks, left out: {'; '.join(undefined)}.")
    if len(undefined) < len(others):
        notes.append(f"{len(others) - len(undefined)} other gammas stand in the table of the audit.")
    return notes
