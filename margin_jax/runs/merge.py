"""The results of a sweep, from the run folders of its networks: tables, the audit, overlaps, the summary."""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from margin_jax import norms, records, results, tables
from margin_jax.audit import audit
from margin_jax.margin_measures import gamma_measures
from margin_jax.measures import MEASURES, sign
from margin_jax.runs.design import VARIED, Member
from margin_jax.runs.measuring import gammas_of
from margin_jax.runs.members import MOMENTS_FILE, member_path

FEWEST = 5  # networks: fewer cannot be ranked with an interval
OVERLAPS = (20, 200)
Row = dict[str, Any]


class Moment(NamedTuple):
    """The networks that got to one moment.

    Attributes:
      rows: of moments.csv.
      margins: (R, N) float32, raw.
      ids: (N,) int64.
    """

    rows: list[Row]
    margins: np.ndarray
    ids: np.ndarray


def default_mode(config: Any, row: Row) -> str:
    """The rho that names without a mode stand for: that of the config, where the networks have it with L2 norms."""
    wanted = config.rho.mode
    if wanted == "default":
        wanted = "batch_norm" if "batch_norm" in row["log_rho"] else "all"
    return wanted if wanted in norms.MODES else "all"


def merge(config: Any, chosen: list[Member], folder: results.RunFolder) -> Row:
    """Writes networks.csv, moments.csv, audit.csv and overlap.npz; returns what summary.json holds."""
    found = {name: moment for name in tables.MOMENTS if (moment := _moment(config, chosen, folder.path, name)).rows}
    ends = {row["network"]: row for row in found["end"].rows} if "end" in found else {}
    statuses = {member.number: _status(member_path(folder.path, member)) for member in chosen}
    for moment in found.values():
        for row in moment.rows:
            row["status"] = statuses[row["network"]]
    measures = tuple(dict.fromkeys(key for moment in found.values() for row in moment.rows for key in row
                                   if key not in (*tables.NETWORKS, "moment")))
    last = [ends.get(m.number, _identity(m) | {"status": statuses[m.number]}) for m in chosen]
    folder.write_table("networks.csv", last, (*tables.NETWORKS, *measures))
    folder.write_table("moments.csv", [row for moment in found.values() for row in moment.rows],
                       ("moment", *tables.NETWORKS, *measures))
    verdicts, warnings = [], []
    for name, moment in found.items():
        rows, said = _audit(config, name, moment, measures)
        verdicts, warnings = verdicts + rows, warnings + said
    folder.write_table("audit.csv", verdicts)
    overlaps = {f"{name}_{k}": _overlaps(moment, k) for name, moment in found.items() for k in OVERLAPS
                if k <= moment.ids.size}
    with open(folder.path / "overlap.npz", "wb") as file:
        np.savez(file, **overlaps, **{f"{name}_networks": np.array([row["network"] for row in moment.rows])
                                      for name, moment in found.items()})
    return _summary(chosen, found, statuses, overlaps, warnings)


def _identity(member: Member) -> Row:
    row = member._asdict()
    std = row.pop("init_std")
    return {"network": row.pop("number"), "init_std": "" if std is None else std} | row


def _status(path: pathlib.Path) -> str:
    summary = records.read_json(path, "summary.json")
    if summary["status"] == "diverged":
        return "diverged"
    return "finished" if summary["separation_epoch"] is not None else "not separated"


def _moment(config: Any, chosen: list[Member], workdir: pathlib.Path, name: str) -> Moment:
    """Reads what the networks were at a moment; the pooled measures are added, now that all are known."""
    rows, margins, ids = [], [], np.empty(0, np.int64)
    for member in chosen:
        path = member_path(workdir, member)
        file = path / MOMENTS_FILE
        here = json.loads(file.read_text(encoding="utf-8")).get(name) if file.is_file() else None
        if here is None:
            continue
        stored = records.read_margins(path)
        ids = stored.ids
        margins.append(np.asarray(stored.margins[np.flatnonzero(stored.epochs == here["epoch"])[0]]))
        summary, moments = records.read_json(path, "summary.json"), json.loads(file.read_text(encoding="utf-8"))
        rows.append(_identity(member) | {"moment": name, **{k: here[k] for k in tables.NETWORKS if k in here}} | {
            "separation_epoch": _number(summary["separation_epoch"]),
            "convergence_epoch": _number(moments.get("convergence", {}).get("epoch"))} | {"found": here})
    moment = Moment(rows, np.stack(margins) if margins else np.empty((0, 0), np.float32), ids)
    _add_measures(config, moment)
    return moment


def _number(value: int | None) -> float:
    return float("nan") if value is None else value


def _add_measures(config: Any, moment: Moment) -> None:
    if not moment.rows:
        return
    here = [row.pop("found") for row in moment.rows]
    default = default_mode(config, here[0])
    for mode in here[0]["margins"]:
        normalised = moment.margins.astype(np.float64) / np.exp([[one["log_rho"][mode]] for one in here])
        pooled = float(np.median(normalised))
        prefix = "" if mode == default else f"{mode}:"
        for row, one, curve in zip(moment.rows, here, normalised, strict=True):
            of_pooled = {key: value for key, value in gamma_measures(curve, gammas_of(config), pooled).items()
                         if "_pooled@" in key}
            row |= {prefix + key: value for key, value in (one["margins"][mode] | of_pooled).items()
                    if mode == default or key not in ("training_loss", "inverse_margin")}
    for row, one in zip(moment.rows, here, strict=True):
        row |= one["norms"] | {f"log_rho:{mode}": value for mode, value in one["log_rho"].items()}


def _audit(config: Any, name: str, moment: Moment, measures: tuple[str, ...]) -> tuple[list[Row], list[str]]:
    """Rows of audit.csv for one moment, of the separated networks alone, and warnings."""
    rows = [row for row in moment.rows if row["train_error"] == 0]
    judged = [key for key in measures if key.rpartition(":")[2].partition("@")[0] in MEASURES]
    if len(rows) < FEWEST:
        return [], [f"{name}: no audit, {len(rows)} separated networks are fewer than {FEWEST}"]
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


def _overlaps(moment: Moment, k: int) -> np.ndarray:
    """(R, R) float32: overlap@k of every two networks."""
    order = np.lexsort((np.broadcast_to(moment.ids, moment.margins.shape), moment.margins))[:, :k]
    member = np.zeros(moment.margins.shape, np.float32)
    np.put_along_axis(member, order, 1, axis=1)
    return member @ member.T / k


def _summary(chosen: list[Member], found: dict[str, Moment], statuses: dict[int, str],
             overlaps: dict[str, np.ndarray], warnings: list[str]) -> Row:
    counted = {status: [n for n, own in statuses.items() if own == status] for status in sorted(set(statuses.values()))}
    pairs: Row = {}
    for key, matrix in overlaps.items():
        name, _, k = key.rpartition("_")
        above = matrix[np.triu_indices(len(matrix), 1)]
        pairs[key] = {"pairs": above.size, "mean": float(above.mean()) if above.size else None,
                      "chance": int(k) / found[name].ids.size}
    left = {status: numbers for status, numbers in counted.items() if status != "finished"}
    return {"status": "finished", "networks": len(chosen), "separated": len(counted.get("finished", [])),
            "left_out": left, "moments": {name: len(moment.rows) for name, moment in found.items()},
            "overlap": pairs, "warnings": warnings + [f"{len(numbers)} networks {status}: {numbers}"
                                                      for status, numbers in left.items()]}
