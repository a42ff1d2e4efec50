"""Every measure of every committed audit, its p-values corrected together: what is left of the best of many measures.

A family is one setting, moment and statistic, with all measures that are defined there. Networks are drawn from all of
them, not within the strata of audit.csv, whose intervals are narrower (results/coverage).
"""

import csv
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from margin_jax.statistics import hypotheses, ranking
from margin_jax.statistics.bootstrap import DRAWS
from plots.verdicts import evidence

FILE = "audit.csv"
COLUMNS = ("folder", "moment", "statistic", "measure", "value", "low", "high", "networks", "tests", "p_value",
           "p_adjusted")
GIVEN = {"spearman": (), "partial_all": ("init_std", "train_loss")}
# The later moment of each setting: where all networks are at one stage of training, see results/README.md.
MOMENTS = {"sweep100": "convergence", "sweep40_candidate": "convergence", "sweep15_250": "end", "sweep20_bn": "end",
           "sweep20_bn_250": "end"}


def write(results: pathlib.Path) -> pathlib.Path:
    """Writes verdicts/audit.csv; returns its path."""
    path = results / "verdicts" / FILE
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for folder, later in MOMENTS.items():
            for moment in ("separation", later):
                for statistic in GIVEN:
                    writer.writerows(family(results / folder, moment, statistic))
    return path


def family(folder: pathlib.Path, moment: str, statistic: str, resamples: int = DRAWS) -> list[dict[str, Any]]:
    """Rows with the keys COLUMNS, one for each defined measure, the smallest p-value first."""
    rows = []
    for measure, predicted, errors, covariates in _measures(folder, moment, statistic):
        data = evidence.correlation_of(predicted, errors, covariates, resamples)
        if np.isfinite(data.estimate.low):
            rows.append({"folder": folder.name, "moment": moment, "statistic": statistic, "measure": measure,
                         **data.estimate._asdict(), "p_value": data.p_value(0.0)})
    for row, adjusted in zip(rows, hypotheses.holm([row["p_value"] for row in rows]), strict=True):
        row |= {"networks": row.pop("n"), "tests": len(rows), "p_adjusted": adjusted}
    shown = [{name: f"{row[name]:.4g}" if isinstance(row[name], float) else row[name] for name in COLUMNS}
             for row in rows]
    return sorted(shown, key=lambda row: float(row["p_value"]))


def _measures(folder: pathlib.Path, moment: str, statistic: str) -> Iterator[tuple[str, np.ndarray, np.ndarray, list]]:
    """Each measure turned so that above 0 supports it, with the errors and covariates of networks that have it."""
    table = evidence.moment_rows(folder, moment)
    errors = evidence.column(table, "test_error")
    covariates = [evidence.column(table, name) for name in GIVEN[statistic]]
    for row in evidence.table(folder / FILE):
        if (row["moment"], row["target"], row["statistic"]) != (moment, "test_error", "spearman"):
            continue
        values = evidence.column(table, row["measure"])
        keep = np.isfinite(values) & np.isfinite(errors)
        # audit.csv has the correlation in the direction of the measure, and with it the direction.
        raw = float(ranking.spearman(values[keep], errors[keep])) if keep.sum() > 2 else np.nan
        if np.isfinite(raw):
            sign = np.sign(raw * float(row["value"]))
            yield row["measure"], sign * values[keep], errors[keep], [column[keep] for column in covariates]
