"""The results of a sweep, from the run folders of its networks: tables, the audit, overlaps, the summary."""

import pathlib
from typing import Any

import numpy as np

from margin_jax import records, results, tables
from margin_jax.audit import audit
from margin_jax.measures import MEASURES, sign
from margin_jax.runs.design import KINDS, VARIED, Member
from margin_jax.runs.members import member_path
from margin_jax.runs.moments import Moment, Row, identity, overlaps, read_moment

FEWEST = 5  # networks: fewer cannot be ranked with an interval
OVERLAPS = (20, 200)


def merge(config: Any, chosen: list[Member], folder: results.RunFolder) -> Row:
    """Writes networks.csv, moments.csv, audit.csv and overlap.npz; returns what summary.json holds."""
    found = {name: moment for name in tables.MOMENTS if (moment := read_moment(config, chosen, folder.path, name)).rows}
    ends = {row["network"]: row for row in found["end"].rows} if "end" in found else {}
    statuses = {member.number: _status(member_path(folder.path, member)) for member in chosen}
    for moment in found.values():
        for row in moment.rows:
            row["status"] = statuses[row["network"]]
    measures = tuple(dict.fromkeys(key for moment in found.values() for row in moment.rows for key in row
                                   if key not in (*tables.NETWORKS, "moment")))
    last = [ends.get(m.number, identity(m) | {"status": statuses[m.number]}) for m in chosen]
    folder.write_table("networks.csv", last, (*tables.NETWORKS, *measures))
    folder.write_table("moments.csv", [row for moment in found.values() for row in moment.rows],
                       ("moment", *tables.NETWORKS, *measures))
    verdicts, warnings = [], []
    for name, moment in found.items():
        rows, said = _audit(config, name, moment, measures)
        verdicts, warnings = verdicts + rows, warnings + said + _gamma_warnings(config, name, moment)
    folder.write_table("audit.csv", verdicts)
    shared = {f"{name}_{k}": overlaps(moment, k) for name, moment in found.items() for k in OVERLAPS
              if k <= moment.ids.size}
    with open(folder.path / "overlap.npz", "wb") as file:
        np.savez(file, **shared, **{f"{name}_networks": np.array([row["network"] for row in moment.rows])
                                    for name, moment in found.items()})
    return _summary(chosen, found, statuses, shared, warnings)


def _status(path: pathlib.Path) -> str:
    summary = records.read_json(path, "summary.json")
    if summary["status"] == "diverged":
        return "diverged"
    return "finished" if summary["separation_epoch"] is not None else "not separated"


def _audit(config: Any, name: str, moment: Moment, measures: tuple[str, ...]) -> tuple[list[Row], list[str]]:
    """Rows of audit.csv for one moment, of the separated networks alone, and warnings."""
    rows = [row for row in moment.rows if row["train_error"] == 0]
    judged = [key for key in measures if key.rpartition(":")[2].partition("@")[0] in MEASURES]
    if len(rows) < FEWEST:
        return [], [f"{name}: no audit, {len(rows)} separated networks are fewer than {FEWEST}"]
    several = [key for key in KINDS if len({row[key] for row in rows}) > 1]
    if several:  # their errors or their rho are not those of one kind, and no measure is to rank the kinds
        return [], [f"{name}: no audit, the networks are of several kinds, which differ in {', '.join(several)}"]
    column = {key: np.array([row.get(key, np.nan) for row in rows]) for key in (
        *judged, *VARIED, "train_loss", "test_loss", "test_error")}
    varied = [key for key in VARIED if len(set(column[key].tolist())) > 1]
    strata = np.array(["|".join(str(row[key]) for key in varied) for row in rows])
    verdicts = audit({key: column[key].astype(np.float64) for key in judged},
                     {key: sign(key.rpartition(":")[2]) for key in judged},
                     {"test_error": column["test_error"], "loss_gap": column["test_loss"] - column["train_loss"]},
                     {key: column[key] for key in varied}, {key: column[key] for key in (*varied, "train_loss")},
                     strata, config.sweep.resamples)
    return [row | {"moment": name} for row in verdicts], []


def _gamma_warnings(config: Any, name: str, moment: Moment) -> list[str]:
    """Where an absolute gamma lies outside the curve, as `recorder.describe_distribution` says it of one network."""
    curves = moment.margins.astype(np.float64) / np.array([[row["rho"]] for row in moment.rows])
    said = []
    for gamma in config.gamma.absolute:
        above, below = int((curves.max(1) < gamma).sum()), int((curves.min(1) > gamma).sum())
        if above:
            said.append(f"{name}: gamma {gamma:.3g} exceeds the largest normalised margin of {above} of {len(curves)} "
                        "networks, whose auc_ramp_absolute is linear over the whole curve and whose tail is all of it")
        if below:
            said.append(f"{name}: gamma {gamma:.3g} is below the smallest normalised margin of {below} of "
                        f"{len(curves)} networks, whose auc_ramp_absolute is 1")
    return said


def _summary(chosen: list[Member], found: dict[str, Moment], statuses: dict[int, str],
             shared: dict[str, np.ndarray], warnings: list[str]) -> Row:
    counted = {status: [n for n, own in statuses.items() if own == status] for status in sorted(set(statuses.values()))}
    pairs: Row = {}
    for key, matrix in shared.items():
        name, _, k = key.rpartition("_")
        above = matrix[np.triu_indices(len(matrix), 1)]
        pairs[key] = {"pairs": above.size, "mean": float(above.mean()) if above.size else None,
                      "chance": int(k) / found[name].ids.size}
    left = {status: numbers for status, numbers in counted.items() if status != "finished"}
    return {"status": "finished", "networks": len(chosen), "separated": len(counted.get("finished", [])),
            "left_out": left, "moments": {name: len(moment.rows) for name, moment in found.items()},
            "overlap": pairs, "warnings": warnings + [f"{len(numbers)} networks {status}: {numbers}"
                                                      for status, numbers in left.items()]}
