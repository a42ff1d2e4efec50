"""The results of a sweep: measures of each network, then tables, audit, overlaps and summary of all of them.

Networks are measured when they get to a moment at which they are compared. What needs all of them, such as the pooled
median, is added from their run folders when the last one is over.
"""

import itertools
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from margin_jax.data.dataset import Split
from margin_jax.experiments.job import Job
from margin_jax.experiments.many_networks import Measured
from margin_jax.experiments.sweep_members import MOMENTS_FILE, Member, member_path
from margin_jax.models.network import BatchStats, Params, geometry_of
from margin_jax.parallel import map_pieces
from margin_jax.run_folder import checksums, read, tables, write
from margin_jax.run_folder.tables import KINDS, VARIED, Row
from margin_jax.statistics.audit import Design, audit
from margin_jax.theory import norms
from margin_jax.theory.complexity import network_norms, norm_measures
from margin_jax.theory.distribution import normalised_margins, overlap, support_set
from margin_jax.theory.measures import (
    MEASURES,
    Gammas,
    gamma_measures,
    log_rhos,
    margin_measures,
    raw_margins,
    sign,
    tenth_percentile,
)
from margin_jax.training.state import Examples, standardised


def gammas_of(config: Any) -> Gammas:
    """The gammas that a config asks for."""
    return Gammas(tuple(config.gamma.absolute), tuple(config.gamma.relative))


def make_measure(config: Any, job: Job,
                 image_shape: tuple[int, ...]) -> Callable[[Measured, Params, Split], dict[str, Any]]:
    """Compiles what measures one network.

    Args:
      config: of the sweep.
      job: network and data.
      image_shape: (H, W, C).

    Returns:
      (record, initial weights, training set) -> "log_rho", ln rho by its mode; "norms", measures of the weights;
      "margins", by mode the measures of margins normalised with it, those of the pooled median NaN.
    """
    gammas, geometry = gammas_of(config), geometry_of(config.model)

    @jax.jit
    def all_logits(params: Params, batch_stats: BatchStats, train: Examples) -> jax.Array:
        return map_pieces(lambda rows: job.network.logits(params, batch_stats, standardised(rows, train)),
                          (train.images,), job.piece)

    def measure(record: Measured, initial: Params, split: Split) -> dict[str, Any]:
        logits = np.asarray(all_logits(record.params, record.batch_stats, job.train))
        with jax.debug_nans(False):  # NaN says that a norm is not defined for the architecture, or did not settle
            weights = network_norms(record.params, initial, record.batch_stats, tuple(image_shape), geometry)
        rhos = log_rhos(record.params, weights.spectral)
        return {"log_rho": rhos,
                "norms": norm_measures(weights, tenth_percentile(raw_margins(logits, split.labels))),
                "margins": {mode: margin_measures(logits, split.labels, log_rho, gammas)
                            for mode, log_rho in rhos.items()}}

    return measure


class Compared(NamedTuple):
    """The networks that got to one moment.

    Attributes:
      rows: of moments.csv.
      margins: (R, N) float32, raw.
      ids: (N,) int64.
    """

    rows: list[Row]
    margins: np.ndarray
    ids: np.ndarray


_MEASURED = "measured"  # the column of a row under which what was measured waits for the other networks


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


def read_moment(config: Any, chosen: list[Member], workdir: pathlib.Path, name: str) -> Compared:
    """Reads what the networks were at a moment; the pooled measures are added, now that all are known."""
    rows, margins, ids = [], [], np.empty(0, np.int64)
    for member in chosen:
        path = member_path(workdir, member)
        file = path / MOMENTS_FILE
        checksums.check_absent(file)
        moments = checksums.parsed(file, checksums.checked_bytes(file)) if file.is_file() else {}
        measured = moments.get(name)
        if measured is None:
            continue
        stored = read.read_margins(path)
        ids = stored.ids
        margins.append(np.asarray(stored.margins[np.flatnonzero(stored.epochs == measured["epoch"])[0]]))
        summary = read.read_json(path, "summary.json")
        known = {column: measured[column] for column in tables.NETWORKS if column in measured}
        rows.append(identity(member) | {"moment": name} | known | {
            "separation_epoch": _number(summary["separation_epoch"]),
            "convergence_epoch": _number(moments.get("convergence", {}).get("epoch")), _MEASURED: measured})
    moment = Compared(rows, np.stack(margins) if margins else np.empty((0, 0), np.float32), ids)
    for kind in sorted({row["batch_norm"] for row in rows}):  # another architecture has another rho
        alike = np.flatnonzero([row["batch_norm"] == kind for row in rows])
        _add_measures(config, [rows[place] for place in alike], moment.margins[alike])
    return moment


def _number(value: int | None) -> float:
    return float("nan") if value is None else value


def _add_measures(config: Any, rows: list[Row], margins: np.ndarray) -> None:
    """Completes the rows of networks of one architecture, whose raw margins (R, N) are pooled for the median.

    A norm that one of them lacks, such as that of the operators where the power iteration did not settle, is NaN there.
    """
    networks = [row.pop(_MEASURED) for row in rows]
    default = default_mode(config, networks[0])
    for mode in dict.fromkeys(mode for network in networks for mode in network["margins"]):
        keys = next(network["margins"][mode] for network in networks if mode in network["margins"])
        log_rhos = np.array([network["log_rho"].setdefault(mode, math.nan) for network in networks])
        normalised = normalised_margins(margins.astype(np.float64), np.exp(log_rhos)[:, None])
        pooled = float(np.median(normalised[~np.isnan(log_rhos)]))
        prefix = "" if mode == default else f"{mode}:"
        for row, network, curve in zip(rows, networks, normalised, strict=True):
            measured = network["margins"].get(mode, dict.fromkeys(keys, math.nan))
            of_pooled = {key: value for key, value in gamma_measures(curve, gammas_of(config), pooled).items()
                         if "_pooled@" in key}
            row |= {prefix + key: value for key, value in (measured | of_pooled).items()
                    if mode == default or key not in ("training_loss", "inverse_margin")}
    for row, network in zip(rows, networks, strict=True):
        row |= network["norms"] | {f"log_rho:{mode}": value for mode, value in network["log_rho"].items()}


def overlaps(moment: Compared, k: int) -> np.ndarray:
    """(R, R) float32: `overlap` of the k smallest margins of every two networks."""
    sets = [support_set(margins, moment.ids, k) for margins in moment.margins]
    shared = np.ones((len(sets), len(sets)), np.float32)
    for first, second in itertools.combinations(range(len(sets)), 2):
        shared[first, second] = shared[second, first] = overlap(sets[first], sets[second])
    return shared


FEWEST = 5  # networks: fewer cannot be ranked with an interval
OVERLAPS = (20, 200)


def merge(config: Any, chosen: list[Member], folder: write.RunFolder) -> Row:
    """Writes networks.csv, moments.csv, audit.csv and overlap.npz; returns what summary.json holds."""
    moments = {name: moment for name in tables.MOMENTS
               if (moment := read_moment(config, chosen, folder.path, name)).rows}
    ends = {row["network"]: row for row in moments["end"].rows} if "end" in moments else {}
    statuses = {member.number: _status(member_path(folder.path, member)) for member in chosen}
    for moment in moments.values():
        for row in moment.rows:
            row["status"] = statuses[row["network"]]
    measures = tuple(dict.fromkeys(key for moment in moments.values() for row in moment.rows for key in row
                                   if key not in (*tables.NETWORKS, "moment")))
    last = [ends.get(m.number, identity(m) | {"status": statuses[m.number]}) for m in chosen]
    folder.write_table("networks.csv", last, (*tables.NETWORKS, *measures))
    folder.write_table("moments.csv", [row for moment in moments.values() for row in moment.rows],
                       ("moment", *tables.NETWORKS, *measures))
    verdicts, warnings = [], []
    for name, moment in moments.items():
        rows, reasons = _judge(config, name, moment, measures)
        verdicts, warnings = verdicts + rows, warnings + reasons + _gamma_warnings(config, name, moment)
    folder.write_table("audit.csv", verdicts)
    shared = {f"{name}_{k}": overlaps(moment, k) for name, moment in moments.items() for k in OVERLAPS
              if k <= moment.ids.size}
    with open(folder.path / "overlap.npz", "wb") as file:
        np.savez(file, **shared, **{f"{name}_networks": np.array([row["network"] for row in moment.rows])
                                    for name, moment in moments.items()})
    return _summary(chosen, moments, statuses, shared, warnings)


def _status(path: pathlib.Path) -> str:
    summary = read.read_json(path, "summary.json")
    if summary["status"] == "diverged":
        return "diverged"
    return "finished" if summary["separation_epoch"] is not None else "not separated"


def _judge(config: Any, name: str, moment: Compared, measures: tuple[str, ...]) -> tuple[list[Row], list[str]]:
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
                     Design({key: column[key] for key in varied},
                            {key: column[key] for key in (*varied, "train_loss")}, strata), config.sweep.resamples)
    return [row | {"moment": name} for row in verdicts], []


def _gamma_warnings(config: Any, name: str, moment: Compared) -> list[str]:
    """Where an absolute gamma lies outside the curve, as `recording.describe_distribution` says it of one network."""
    curves = normalised_margins(moment.margins.astype(np.float64), np.array([[row["rho"]] for row in moment.rows]))
    warnings = []
    for gamma in config.gamma.absolute:
        above, below = int((curves.max(1) < gamma).sum()), int((curves.min(1) > gamma).sum())
        if above:
            warnings.append(f"{name}: gamma {gamma:.3g} exceeds the largest normalised margin of {above} of "
                            f"{len(curves)} networks, whose auc_ramp_absolute is linear over the whole curve and whose "
                            "tail is all of it")
        if below:
            warnings.append(f"{name}: gamma {gamma:.3g} is below the smallest normalised margin of {below} of "
                            f"{len(curves)} networks, whose auc_ramp_absolute is 1")
    return warnings


def _summary(chosen: list[Member], moments: dict[str, Compared], statuses: dict[int, str],
             shared: dict[str, np.ndarray], warnings: list[str]) -> Row:
    counted = {status: [number for number in statuses if statuses[number] == status]
               for status in sorted(set(statuses.values()))}
    pairs: Row = {}
    for key, matrix in shared.items():
        name, _, k = key.rpartition("_")
        above = matrix[np.triu_indices(len(matrix), 1)]
        pairs[key] = {"pairs": above.size, "mean": float(above.mean()) if above.size else None,
                      "chance": int(k) / moments[name].ids.size}
    left = {status: numbers for status, numbers in counted.items() if status != "finished"}
    return {"status": "finished", "networks": len(chosen), "separated": len(counted.get("finished", [])),
            "left_out": left, "moments": {name: len(moment.rows) for name, moment in moments.items()},
            "overlap": pairs, "warnings": warnings + [f"{len(numbers)} networks {status}: {numbers}"
                                                      for status, numbers in left.items()]}
