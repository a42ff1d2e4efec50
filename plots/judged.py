"""The statistics of an audit side by side: what speaks for a measure, and the order of measures within a kind."""

from typing import NamedTuple

import numpy as np

from plots import measure_names, paper
from plots.measure_names import KINDS, OTHER, Name
from plots.sweep_folder import VARIED
from plots.verdicts import NONE, Verdict, Verdicts, partial

MOST = 46  # rows that fit on a page
KENDALL, CMI = "kendall", "cmi_corrected"


class Statistic(NamedTuple):
    """One column: its key in audit.csv, heading, the value that says nothing, and the side of it that supports."""

    key: str
    heading: str
    line: float
    side: int


class Measure(NamedTuple):
    """One row: the key in audit.csv, its name, its verdicts by statistic."""

    key: str
    name: Name
    found: dict[str, Verdict]

    def of(self, statistic: str) -> Verdict:
        """Its verdict by one statistic, NaN where there is none."""
        return self.found.get(statistic, NONE)


def statistics(found: Verdicts) -> list[Statistic]:
    """The columns: Kendall's tau, the partial correlation given all covariates of the audit, sign error, CMI."""
    key, covariates = partial(found)
    given = ", ".join({"train_loss": "training loss", **VARIED}.get(name, name) for name in covariates)
    return [Statistic(KENDALL, "Kendall's τ", 0.0, 1),
            *([Statistic(key, f"partial Spearman, given {given}", 0.0, 1)] if key else []),
            Statistic("sign_error", "sign error", 0.5, -1), Statistic(CMI, "CMI, corrected", 0.0, 1)]


def verdict_of(measure: Measure, statistic: Statistic) -> int:
    """1 where the interval lies beyond the line on the side that supports the measure, -1 on the other, else 0.

    The corrected information has no direction: it takes that of Kendall's tau.
    """
    value = measure.of(statistic.key)
    side = int(value.low > statistic.line) - int(value.high < statistic.line)  # NaN gives 0
    if statistic.key == CMI:
        return side * int(np.sign(np.nan_to_num(measure.of(KENDALL).value)))
    return side * statistic.side


def measures(found: Verdicts, modes: bool = False) -> list[Measure]:
    """Measures by descending Kendall's tau, undefined ones last, ties by key.

    Args:
      found: by measure and statistic.
      modes: whether those under another rho than that of the config are wanted too.
    """
    rows = [Measure(key, measure_names.parse(key), dict(one)) for key, one in found.items()]
    rows = [row for row in rows if modes or not row.name.mode]
    return sorted(rows, key=lambda row: (-np.nan_to_num(row.of(KENDALL).value, nan=-2.0), row.key))


def by_kind(rows: list[Measure]) -> dict[str, list[Measure]]:
    """The same measures by their kinds, in the order of `KINDS`."""
    kinds = {kind: [row for row in rows if row.name.kind == kind] for kind in (*KINDS, OTHER)}
    return {kind: here for kind, here in kinds.items() if here}


def shown(rows: list[Measure]) -> tuple[list[Measure], list[Measure]]:
    """Splits measures into those for a page and the others, which have no order or other gammas.

    Of more than `MOST`, those with a gamma are cut down to one per family: half a median, or the paper's.
    """
    defined = [row for row in rows if np.isfinite(row.of(KENDALL).value)]
    if len(defined) > MOST:
        best = {row.name.family: row for row in sorted(defined, key=_distance, reverse=True)}
        defined = [row for row in defined if row.name.gamma is None or best[row.name.family] is row]
    return defined, [row for row in rows if row not in defined]


def _distance(row: Measure) -> float:
    """How far a gamma is from the one that stands for its family."""
    if row.name.gamma is None:
        return 0.0
    role = "count" if row.name.family.startswith("small_margin_count") else "auc"
    wanted = paper.FIG02_GAMMAS[role] if row.name.family.endswith("_absolute") else 0.5
    return abs(float(np.log(row.name.gamma / wanted)))
