"""The audit of a sweep as ranking tables in Markdown: every measure, by test error and by the gap of the losses."""

from margin_jax import tables
from margin_jax.tables import Table
from plots import judged, measure_names, verdicts
from plots.judged import Measure, Statistic
from plots.sweep_folder import WHEN, Lacking, Moment, Sweep
from plots.table_text import Grid, markdown

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
    found = {target: verdicts.verdicts(audit, moment.name, target) for target in TARGETS if target in targets}
    if not found:
        raise Lacking(f"{sweep.workdir}: audit.csv has no row of the moment {moment.name!r}: too few networks had "
                      f"separated at {WHEN[moment.name]}, or they are of several kinds, which are not ranked against "
                      "one another; train more, or for longer")
    grids = [_ranking(judged.measures(one), judged.statistics(one), target, moment, data)
             for target, one in found.items()]
    first = next(iter(found))
    grids += _other_norms(judged.measures(found[first], modes=True), first, moment)
    separated = tables.rows(sweep.networks, status="finished")["network"].size
    return (f"# What ranks the networks at {WHEN[moment.name]}\n\n{sweep.networks['network'].size} networks on {data}, "
            f"{separated} of them separated in training, {moment.separated['network'].size} with training error 0 at "
            f"this moment. {_reading()}\n\n{markdown(grids)}")


def _reading() -> str:
    return ("Signs are taken so that right orders count for a measure: above 0 supports it, for the sign error below "
            "0.5. (+) and (−): the 95% interval lies wholly on the side that supports the measure, or on the other. "
            "The corrected conditional mutual information has no direction of its own and takes that of Kendall's τ. "
            "Of as many intervals as there are here, about one in 20 leaves the line by chance.")


def _ranking(rows: list[Measure], columns: list[Statistic], target: str, moment: Moment, data: str) -> Grid:
    columns = [columns[0], _SPEARMAN, *columns[1:]]
    lines = [[row.name.label, f"`{row.key}`", *(_cell(row, column) for column in columns),
              str(row.of(judged.KENDALL).networks)] for row in rows]
    mode = measure_names.MODES.get(moment.mode, moment.mode)
    notes = [measure_names.UNITS_NOTE + (f" Margins are normalised with ρ of {mode}." if mode else ""),
             "–: not defined, such as where all networks have one value."]
    return Grid(f"Ranking by {TARGETS[target]} on {data}, at {WHEN[moment.name]}",
                ["measure", "key", *(column.heading for column in columns), "networks"], lines, notes)


def _cell(row: Measure, column: Statistic) -> str:
    return verdicts.text(row.of(column.key)) + _MARK[judged.verdict_of(row, column)]


def _other_norms(rows: list[Measure], target: str, moment: Moment) -> list[Grid]:
    """One table, or none where margins were normalised in one way alone."""
    modes = list(dict.fromkeys(row.name.mode for row in rows if row.name.mode))
    if not modes:
        return []
    kendall = Statistic(judged.KENDALL, "", 0.0, 1)
    by_key = {row.key: row for row in rows}
    lines = []
    for row in (row for row in rows if not row.name.mode):
        others = [by_key.get(f"{mode}:{row.key}") for mode in modes]
        if any(others):
            lines.append([row.name.label, *(_cell(one, kendall) if one else "–" for one in (row, *others))])
    own = measure_names.MODES.get(moment.mode, "the config's ρ")
    return [Grid(f"Kendall's τ by {TARGETS[target]} under other norms, at {WHEN[moment.name]}",
                 ["measure", own, *(measure_names.MODES.get(mode, mode) for mode in modes)], lines, [])]
