"""The audit of a sweep: every measure with its statistics and their intervals, as tables in Markdown and as a forest.

Measures have the names and kinds by which tables and figures call them, and are ranked by Kendall's tau with the test
error or with the gap of the losses. An interval wholly beyond the value that says nothing speaks for or against one.
"""

import pathlib
import textwrap
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from margin_jax.run_folder import tables as columns
from margin_jax.run_folder.tables import Table, rows
from margin_jax.statistics.estimates import UNDEFINED, Estimate
from plots import paper, style
from plots.style import Lacking
from plots.sweeps.read import VARIED, WHEN, Moment, Sweep
from plots.tables import Grid, markdown

Verdicts = Mapping[str, Mapping[str, Estimate]]  # over networks, by measure, then by statistic


def read_audit(workdir: pathlib.Path) -> Table:
    """Columns of audit.csv, each (Q,); Q = 0 where no moment had networks enough; InputError without the file."""
    return columns.read_table(workdir, "audit.csv", required=not (workdir / "audit.csv").is_file())


def verdicts(audit: Table, moment: str, target: str) -> Verdicts:
    """The rows of one moment and target.

    Args:
      audit: columns of audit.csv, each (Q,).
      moment: one of `tables.MOMENTS`.
      target: "test_error" or "loss_gap".

    Raises:
      Lacking: there is none, because too few networks had separated.
    """
    chosen = rows(audit, moment=moment, target=target)
    by_measure: dict[str, dict[str, Estimate]] = {}
    columns = (chosen[name].tolist() for name in ("measure", "statistic", "value", "low", "high", "networks"))
    for measure, statistic, value, low, high, networks in zip(*columns):
        by_measure.setdefault(measure, {})[statistic] = Estimate(value, low, high, int(networks))
    if not by_measure:
        raise Lacking(f"audit.csv has no row of the moment {moment!r} and the target {target!r}: too few networks had "
                      f"separated at {WHEN.get(moment, moment)}, or they are of several kinds, which are not ranked "
                      "against one another; train more, or for longer")
    return by_measure


def partial(judged: Verdicts) -> tuple[str, list[str]]:
    """The partial correlation given all covariates that an audit has, and the names of these."""
    names = [name.removeprefix("partial_") for statistics in judged.values() for name in statistics
             if name.startswith("partial_")]
    covariates = [name for name in dict.fromkeys(names) if name != "all"]
    return ("partial_all" if "all" in names else f"partial_{covariates[0]}" if covariates else ""), covariates


def verdict_text(verdict: Estimate, digits: int = 2) -> str:
    """Such as "0.28 [−0.35, 0.75]", "0.28" without an interval, "–" where undefined."""
    if not np.isfinite(verdict.value):
        return "–"
    value, low, high = (style.signed(f"{round(number, digits) + 0.0:.{digits}f}") for number in verdict[:3])
    return f"{value} [{low}, {high}]" if np.isfinite(verdict.low) and np.isfinite(verdict.high) else value


AREA, COUNT, MARGIN, LOSS, NORM, OVER = ("area under the margin curve", "small-margin count", "margins", "loss",
                                         "norms", "norms over margin")
KINDS = (AREA, COUNT, MARGIN, LOSS, NORM, OVER)
OTHER = "other"
_NAMES = {
    "auc_mean": ("AUC mean", AREA), "auc_ramp": ("AUC ramp", AREA), "auc_tail": ("AUC tail", AREA),
    "small_margin_count": ("count", COUNT), "margin_smallest": ("smallest margin", MARGIN),
    "margin_p10": ("10th percentile", MARGIN), "margin_median": ("median margin", MARGIN),
    "inverse_margin": ("1 / (raw 10th percentile)²", MARGIN), "training_loss": ("training loss", LOSS),
    "normalised_loss_excess": ("loss of normalised net", LOSS), "log_frobenius_product": ("Frobenius product", NORM),
    "frobenius_sum": ("Frobenius sum", NORM), "log_spectral_product": ("spectral product", NORM),
    "log_spectral_complexity": ("spectral complexity", NORM), "log_path_norm": ("path norm", NORM),
    "parameter_norm": ("parameter norm", NORM), "distance_from_init": ("distance from start", NORM),
    "relative_distance_from_init": ("relative distance from start", NORM),
}
_UNITS = {"absolute": "", "pooled": " pooled", "own": " own"}
MODES = {"all": "all layers", "conv": "convolutional layers", "batch_norm": "BatchNorm and dense layers",
         "operator": "spectral norms of all layers"}
UNITS_NOTE = ("γ pooled: in multiples of the median over all networks; own: of each network's own median; else "
              "absolute.")


class Name(NamedTuple):
    """A key such as "conv:auc_ramp_own@0.5" in its parts.

    Attributes:
      label: "AUC ramp, γ 0.5 own".
      kind: one of `KINDS`, or `OTHER`.
      mode: of rho where it is not that of the config: "conv", else "".
      family: the key without mode and gamma: "auc_ramp_own".
      gamma: 0.5; None without one.
    """

    label: str
    kind: str
    mode: str
    family: str
    gamma: float | None


def parse(key: str) -> Name:
    """Names a measure by its key in networks.csv or audit.csv; one that is unknown is called by its key."""
    mode, _, rest = key.rpartition(":")
    family, _, gamma = rest.partition("@")
    base, _, unit = family.rpartition("_")
    if gamma and unit in _UNITS and base in _NAMES:
        label, kind = _NAMES[base]
        return Name(f"{label}, γ {gamma}{_UNITS[unit]}", kind, mode, family, float(gamma))
    if family.endswith("_over_margin"):
        label, kind = _NAMES.get(family.removesuffix("_over_margin"), (family, OTHER))
        # Frobenius and path norms are named as the root or the square of what the source has: the order is the same.
        known = kind == NORM
        return Name(f"{label} / margin" if known else family, OVER if known else OTHER, mode, family, None)
    label, kind = _NAMES.get(family, (family, OTHER))
    return Name(label, kind, mode, family, None)


MOST = 46  # rows that fit on a page
KENDALL, CMI = "kendall", "cmi_corrected"


class Statistic(NamedTuple):
    """One column: its key in audit.csv, heading, the value that says nothing, and the side of it that supports."""

    key: str
    heading: str
    line: float
    side: int


class Judged(NamedTuple):
    """One row: the key in audit.csv, its name, what each statistic says of it."""

    key: str
    name: Name
    statistics: dict[str, Estimate]

    def of(self, statistic: str) -> Estimate:
        """What one statistic says of it, NaN where there is none."""
        return self.statistics.get(statistic, UNDEFINED)


def statistics(judged: Verdicts) -> list[Statistic]:
    """The columns: Kendall's tau, the partial correlation given all covariates of the audit, sign error, CMI."""
    key, covariates = partial(judged)
    given = ", ".join({"train_loss": "training loss", **VARIED}.get(name, name) for name in covariates)
    return [Statistic(KENDALL, "Kendall's τ", 0.0, 1),
            *([Statistic(key, f"partial Spearman, given {given}", 0.0, 1)] if key else []),
            Statistic("sign_error", "sign error", 0.5, -1), Statistic(CMI, "CMI, corrected", 0.0, 1)]


def verdict_of(measure: Judged, statistic: Statistic) -> int:
    """1 where the interval lies beyond the line on the side that supports the measure, -1 on the other, else 0.

    The corrected information has no direction: it takes that of Kendall's tau.
    """
    value = measure.of(statistic.key)
    side = int(value.low > statistic.line) - int(value.high < statistic.line)  # NaN gives 0
    if statistic.key == CMI:
        return side * int(np.sign(np.nan_to_num(measure.of(KENDALL).value)))
    return side * statistic.side


def measures(judged: Verdicts, modes: bool = False) -> list[Judged]:
    """Measures by descending Kendall's tau, undefined ones last, ties by key.

    Args:
      judged: by measure and statistic.
      modes: whether those under another rho than that of the config are wanted too.
    """
    rows = [Judged(key, parse(key), dict(statistics)) for key, statistics in judged.items()]
    rows = [row for row in rows if modes or not row.name.mode]
    return sorted(rows, key=lambda row: (-np.nan_to_num(row.of(KENDALL).value, nan=-2.0), row.key))


def by_kind(rows: list[Judged]) -> dict[str, list[Judged]]:
    """The same measures by their kinds, in the order of `KINDS`."""
    kinds = {kind: [row for row in rows if row.name.kind == kind] for kind in (*KINDS, OTHER)}
    return {kind: alike for kind, alike in kinds.items() if alike}


def shown(rows: list[Judged]) -> tuple[list[Judged], list[Judged]]:
    """Splits measures into those for a page and the others, which have no order or other gammas.

    Of more than `MOST`, those with a gamma are cut down to one per family: half a median, or the paper's.
    """
    defined = [row for row in rows if np.isfinite(row.of(KENDALL).value)]
    if len(defined) > MOST:
        best = {row.name.family: row for row in sorted(defined, key=_distance, reverse=True)}
        defined = [row for row in defined if row.name.gamma is None or best[row.name.family] is row]
    return defined, [row for row in rows if row not in defined]


def _distance(row: Judged) -> float:
    """How far a gamma is from the one that stands for its family."""
    if row.name.gamma is None:
        return 0.0
    role = "count" if row.name.family.startswith("small_margin_count") else "auc"
    wanted = paper.FIG02_GAMMAS[role] if row.name.family.endswith("_absolute") else 0.5
    return abs(float(np.log(row.name.gamma / wanted)))


TARGETS = {"test_error": "test error", "loss_gap": "gap of the losses (test minus training)"}
_MARK = {1: " (+)", -1: " (−)", 0: ""}
_SPEARMAN = Statistic("spearman", "Spearman", 0.0, 1)


def text(sweep: Sweep, moment: Moment, audit: Table, data: str) -> str:
    """Two rankings of one moment, and Kendall's tau of the margins' measures under every rho.

    Args:
      sweep: the work folder.
      moment: where networks are compared.
      audit: columns of audit.csv, each (Q,).
      data: the name of the data set.

    Raises:
      Lacking: no row for the moment.
    """
    targets = set(audit["target"][audit["moment"] == moment.name].tolist())
    judged = {target: verdicts(audit, moment.name, target) for target in TARGETS if target in targets}
    if not judged:
        raise Lacking(f"{sweep.workdir}: audit.csv has no row of the moment {moment.name!r}: too few networks had "
                      f"separated at {WHEN[moment.name]}, or they are of several kinds, which are not ranked against "
                      "one another; train more, or for longer")
    grids = [_ranking(measures(by_measure), statistics(by_measure), target, moment, data)
             for target, by_measure in judged.items()]
    first = next(iter(judged))
    grids += _other_norms(measures(judged[first], modes=True), first, moment)
    separated = columns.rows(sweep.networks, status="finished")["network"].size
    return (f"# What ranks the networks at {WHEN[moment.name]}\n\n{sweep.networks['network'].size} networks on {data}, "
            f"{separated} of them separated in training, {moment.separated['network'].size} with training error 0 at "
            f"this moment. {_reading()}\n\n{markdown(grids)}")


def _reading() -> str:
    return ("Signs are taken so that right orders count for a measure: above 0 supports it, for the sign error below "
            "0.5. (+) and (−): the 95% interval lies wholly on the side that supports the measure, or on the other. "
            "The corrected conditional mutual information has no direction of its own and takes that of Kendall's τ. "
            "Of as many intervals as there are here, about one in 20 leaves the line by chance.")


def _ranking(rows: list[Judged], columns: list[Statistic], target: str, moment: Moment, data: str) -> Grid:
    columns = [columns[0], _SPEARMAN, *columns[1:]]
    lines = [[row.name.label, f"`{row.key}`", *(_cell(row, column) for column in columns),
              str(row.of(KENDALL).n)] for row in rows]
    mode = MODES.get(moment.mode, moment.mode)
    notes = [UNITS_NOTE + (f" Margins are normalised with ρ of {mode}." if mode else ""),
             "–: not defined, such as where all networks have one value."]
    return Grid(f"Ranking by {TARGETS[target]} on {data}, at {WHEN[moment.name]}",
                ["measure", "key", *(column.heading for column in columns), "networks"], lines, notes)


def _cell(row: Judged, column: Statistic) -> str:
    return verdict_text(row.of(column.key)) + _MARK[verdict_of(row, column)]


def _other_norms(rows: list[Judged], target: str, moment: Moment) -> list[Grid]:
    """One table, or none where margins were normalised in one way alone."""
    modes = list(dict.fromkeys(row.name.mode for row in rows if row.name.mode))
    if not modes:
        return []
    kendall = Statistic(KENDALL, "", 0.0, 1)
    by_key = {row.key: row for row in rows}
    lines = []
    for row in (row for row in rows if not row.name.mode):
        others = [by_key.get(f"{mode}:{row.key}") for mode in modes]
        if any(others):
            lines.append([row.name.label, *(_cell(measure, kendall) if measure else "–" for measure in (row, *others))])
    default = MODES.get(moment.mode, "the config's ρ")
    return [Grid(f"Kendall's τ by {TARGETS[target]} under other norms, at {WHEN[moment.name]}",
                 ["measure", default, *(MODES.get(mode, mode) for mode in modes)], lines, [])]


_ROW, _HEAD = 0.15, 1.5  # inches
_COLOURS = {1: style.BLUE, -1: style.VERMILLION, 0: style.GREY}
_LINE = 140  # characters of a note that fit below


@style.styled
def draw_forest(judged: Verdicts, moment: str, data: str) -> Figure:
    """Draws a row per measure, grouped by kind, and a column per statistic.

    Args:
      judged: of one moment and target, by measure and statistic.
      moment: one of `tables.MOMENTS`.
      data: the name of the data set.

    Returns:
      The figure, with an axes for each of `statistics`. Each point has its measure's key for a gid; the line
      that says nothing has the gid "nothing".

    Raises:
      Lacking: no measure has an order there.
    """
    rows, others = shown(measures(judged))
    if not rows:
        raise Lacking(f"no measure orders the networks at {WHEN[moment]}: all are equal in it or in test error; train "
                      "networks that differ")
    kinds, columns = by_kind(rows), statistics(judged)
    rows = [row for alike in kinds.values() for row in alike]
    notes = [line for note in _notes(rows, others, columns) for line in textwrap.wrap(note, _LINE)]
    count = len(rows) + len(kinds)
    fig = style.new_figure(style.DOUBLE, _HEAD + _ROW * count + 0.1 * len(notes))
    panels = np.atleast_1d(fig.subplots(1, len(columns), sharey=True))
    places = _places(kinds)
    for axes, statistic in zip(panels, columns):
        _panel(axes, statistic, rows, places)
    _labels(panels, kinds, rows, places)
    networks = max(row.of(KENDALL).n for row in rows)
    fig.legend(handles=_legend(), loc="outside upper center", ncols=3, title_fontsize=8, title=(
        f"What ranks {networks} networks on {data} by test error, at {WHEN[moment]}"))
    fig.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=6, color=style.GREY)
    return fig


def _places(kinds: dict[str, list[Judged]]) -> dict[str, int]:
    """Places from the top on, by key; a kind's heading stands above its first measure."""
    places, place = {}, 0
    for measures in kinds.values():
        for row in measures:
            place += 1
            places[row.key] = place
        place += 1
    return places


def _panel(axes: Axes, statistic: Statistic, rows: list[Judged], places: dict[str, int]) -> None:
    axes.axvline(statistic.line, color="black", linewidth=0.6, zorder=1, gid="nothing")
    ends = [statistic.line]
    for row in rows:
        value, verdict = row.of(statistic.key), verdict_of(row, statistic)
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
    axes.xaxis.set_major_formatter(lambda value, _: style.signed(f"{round(value, 9) + 0.0:g}"))
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


def _labels(panels: np.ndarray, kinds: dict[str, list[Judged]], rows: list[Judged], places: dict[str, int]) -> None:
    first, kendall = panels[0], Statistic(KENDALL, "", 0.0, 1)
    most = max(row.of(KENDALL).n for row in rows)
    labels = []
    for row in rows:
        networks = row.of(KENDALL).n
        labels.append(row.name.label + (f" ({networks})" if networks < most else ""))
    first.set_yticks([places[row.key] for row in rows], labels, fontsize=6.5)
    for label, row in zip(first.get_yticklabels(), rows):
        if verdict := verdict_of(row, kendall):
            label.set(fontweight="bold", color=_COLOURS[verdict])
    for kind, alike in kinds.items():
        top = places[alike[0].key] - 1
        first.annotate(kind, (0, top), xycoords=("axes fraction", "data"), xytext=(-3, 0), textcoords="offset points",
                       ha="right", va="center", fontsize=6.5, fontstyle="italic", annotation_clip=False)
        for axes in panels:
            axes.axhline(top, color=style.GREY, linewidth=0.3, zorder=0)
    panels[0].set_ylim(max(places.values()) + 0.8, -0.8)


def _legend() -> list[Line2D]:
    names = {1: "95% interval supports the measure", -1: "speaks against it", 0: "leaves it open"}
    return [Line2D([], [], color=_COLOURS[verdict], marker="o", markersize=3.6 if verdict else 2.8, label=name,
                   linewidth=1.4 if verdict else 0.7) for verdict, name in names.items()]


def _notes(rows: list[Judged], others: list[Judged], columns: list[Statistic]) -> list[str]:
    notes = [f"Signs are taken so that right orders count for a measure. With {len(rows)} measures, about one interval "
             "in 20 leaves the line by chance. " + UNITS_NOTE]
    undefined = [row.name.label for row in others if not np.isfinite(row.of(KENDALL).value)]
    if undefined:
        notes.append(f"Equal or not defined in all networks, left out: {'; '.join(undefined)}.")
    if len(undefined) < len(others):
        notes.append(f"{len(others) - len(undefined)} other gammas stand in the table of the audit.")
    return notes
