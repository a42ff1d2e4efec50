"""The networks of a sweep at one moment: what was measured of each, completed now that all are known."""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from margin_jax import norms, records, tables
from margin_jax.margin_measures import gamma_measures
from margin_jax.runs.design import Member
from margin_jax.runs.measuring import gammas_of
from margin_jax.runs.members import MOMENTS_FILE, member_path

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


def identity(member: Member) -> Row:
    """The columns of networks.csv that say which network it is."""
    row = member._asdict()
    std = row.pop("init_std")
    return {"network": row.pop("number"), "init_std": "" if std is None else std} | row | {
        "batch_norm": int(member.batch_norm)}


def read_moment(config: Any, chosen: list[Member], workdir: pathlib.Path, name: str) -> Moment:
    """Reads what the networks were at a moment; the pooled measures are added, now that all are known."""
    rows, margins, ids = [], [], np.empty(0, np.int64)
    for member in chosen:
        path = member_path(workdir, member)
        file = path / MOMENTS_FILE
        moments = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        here = moments.get(name)
        if here is None:
            continue
        stored = records.read_margins(path)
        ids = stored.ids
        margins.append(np.asarray(stored.margins[np.flatnonzero(stored.epochs == here["epoch"])[0]]))
        summary = records.read_json(path, "summary.json")
        rows.append(identity(member) | {"moment": name, **{k: here[k] for k in tables.NETWORKS if k in here}} | {
            "separation_epoch": _number(summary["separation_epoch"]),
            "convergence_epoch": _number(moments.get("convergence", {}).get("epoch"))} | {"found": here})
    moment = Moment(rows, np.stack(margins) if margins else np.empty((0, 0), np.float32), ids)
    for kind in sorted({row["batch_norm"] for row in rows}):  # another architecture has another rho
        here = np.array([row["batch_norm"] == kind for row in rows])
        _add_measures(config, [row for row, own in zip(rows, here, strict=True) if own], moment.margins[here])
    return moment


def _number(value: int | None) -> float:
    return float("nan") if value is None else value


def _add_measures(config: Any, rows: list[Row], margins: np.ndarray) -> None:
    """Completes the rows of networks of one architecture, whose raw margins (R, N) are pooled for the median."""
    here = [row.pop("found") for row in rows]
    default = default_mode(config, here[0])
    for mode in here[0]["margins"]:
        normalised = margins.astype(np.float64) / np.exp([[one["log_rho"][mode]] for one in here])
        pooled = float(np.median(normalised))
        prefix = "" if mode == default else f"{mode}:"
        for row, one, curve in zip(rows, here, normalised, strict=True):
            of_pooled = {key: value for key, value in gamma_measures(curve, gammas_of(config), pooled).items()
                         if "_pooled@" in key}
            row |= {prefix + key: value for key, value in (one["margins"][mode] | of_pooled).items()
                    if mode == default or key not in ("training_loss", "inverse_margin")}
    for row, one in zip(rows, here, strict=True):
        row |= one["norms"] | {f"log_rho:{mode}": value for mode, value in one["log_rho"].items()}


def overlaps(moment: Moment, k: int) -> np.ndarray:
    """(R, R) float32: overlap@k of every two networks."""
    order = np.lexsort((np.broadcast_to(moment.ids, moment.margins.shape), moment.margins))[:, :k]
    member = np.zeros(moment.margins.shape, np.float32)
    np.put_along_axis(member, order, 1, axis=1)
    return member @ member.T / k
