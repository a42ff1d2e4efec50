"""Work folders of sweeps with invented numbers, as launch/sweep.py writes them."""

import csv
import json
import math

import numpy as np

from margin_jax.run_folder.read import METRICS
from margin_jax.run_folder.tables import AUDIT, NETWORKS

STATISTICS = ("spearman", "kendall", "sign_error", "partial_init_std", "partial_train_loss", "partial_all", "cmi",
              "cmi_corrected")
MEASURES = ("auc_mean", "margin_median", "auc_ramp_pooled@0.5", "small_margin_count_pooled@0.1",
            "small_margin_count_pooled@0.5", "small_margin_count_absolute@0.01", "log_path_norm",
            "log_path_norm_over_margin", "conv:auc_mean", "conv:small_margin_count_absolute@0.01")
EXAMPLES, LAST = 240, 10


def write_csv(path, columns, rows):
    """Rows are dictionaries; None and what they lack are empty cells."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path):
    """The rows of a table as dictionaries of text, read without the library."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_sweep(workdir, stds=(0.01, 0.03, 0.05), seeds=4, moments=("separation", "end"), lost=(), audited=True,
                kept=(2, 4, 6, 8, 10), scale=1.0, change=None):
    """Networks by std and seed; those of `lost` do not separate. Margins at the epochs `kept`, and at 6 or 8.

    `scale` multiplies normalised margins, about 0.001; `change` may edit the rows of moments.csv. Returns normalised
    margins by network and epoch.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(stds) + seeds)
    ids = np.sort(rng.choice(5 * EXAMPLES, EXAMPLES, replace=False))
    labels = (np.arange(EXAMPLES) % 2).astype(np.int32)
    images = rng.integers(0, 17, (EXAMPLES, 5, 5, 1), dtype=np.uint8)
    np.savez(workdir.parent / "data.npz", train_images=images, train_labels=labels, train_ids=ids, test_images=images,
             test_labels=labels)
    data = {"name": "npz", "dir": str(workdir.parent / "data.npz"), "cache_dir": "", "classes": [],
            "random_fraction": 0.0, "random_seed": 0}
    described = {"config": {"data": data, "seed": 0}, "data": {"class_names": ["bird", "car"]}}
    (workdir / "config.json").write_text(json.dumps(described | {"job": "sweep"}))
    networks, rows, curves = [], [], {}
    for number, (std, _seed) in enumerate((std, seed) for std in stds for seed in range(seeds)):
        separation = None if number in lost else 6 + 2 * (number % 2)
        epochs = sorted({*kept, *([separation] if separation else []), LAST})
        rho = 1000.0 + number
        raw = {epoch: (rng.gamma(2.0, scale * (1 + 10 * std) / 2000, EXAMPLES) * rho - (epoch < 6)).astype(np.float32)
               for epoch in epochs}
        curves |= {(number, epoch): values.astype(np.float64) / rho for epoch, values in raw.items()}
        error = 3 + 40 * std + rng.normal(0, 0.2)
        _write_network(workdir / "networks" / f"{number:03d}", described, ids, labels, raw, rho, separation, error)
        row = {"network": number, "init_std": std, "seed": number, "learning_rate": 0.01, "weight_decay": 0.0,
               "random_fraction": 0.0, "status": "finished" if separation else "not separated",
               "separation_epoch": separation, "train_error": 0.0 if separation else 1.5, "test_error": error,
               "train_loss": 0.01 * (number + 1), "test_loss": 0.3, "rho": rho}
        for moment in moments:
            epoch = LAST if moment == "end" else separation
            if epoch:
                rows.append(row | {"moment": moment, "epoch": epoch, "log_rho:all": math.log(rho),
                                   "log_rho:conv": math.log(rho / 5)} | _measures(curves[number, epoch]))
        networks.append(row | {"epoch": LAST})
    rows.sort(key=lambda row: moments.index(row["moment"]))
    if change:
        change(rows)
    columns = (*NETWORKS, *MEASURES, "log_rho:all", "log_rho:conv")
    write_csv(workdir / "networks.csv", columns, networks)
    write_csv(workdir / "moments.csv", ("moment", *columns), rows)
    write_csv(workdir / "audit.csv", AUDIT, _audit(rng, rows, moments) if audited else [])
    np.savez(workdir / "overlap.npz", **_overlaps(rows, moments, curves, ids))
    (workdir / "summary.json").write_text(json.dumps({"status": "finished"}))
    return curves


def _write_network(folder, described, ids, labels, raw, rho, separation, error):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(described | {"job": "train"}))
    summary = {"status": "finished", "separation_epoch": separation, "removal": None}
    (folder / "summary.json").write_text(json.dumps(summary))
    np.savez(folder / "mask.npz", ids=ids, labels=labels, true_labels=labels, mask=np.ones(ids.size, bool),
             removed_epoch=np.full(ids.size, -1, np.int32))
    np.savez(folder / "margins.npz", epochs=np.array(list(raw)), ids=ids, labels=labels,
             margins=np.stack(list(raw.values())), rho=np.full(len(raw), rho))
    metrics = [{"epoch": epoch, "train_loss": 1 / epoch, "test_loss": 0.3, "rho": rho, "kept": ids.size, "seconds": 1,
                "train_error": 0.0 if separation and epoch >= separation else 50 / epoch,
                "test_error": error + 40 / epoch - 40 / LAST, "margin_auc": 0.0,
                "margin_min": raw[epoch].min() / rho if epoch in raw else 0.0}
               for epoch in range(1, LAST + 1)]
    write_csv(folder / "metrics.csv", METRICS, metrics)


def _measures(curve):
    median = float(np.median(curve))  # a median of its own in place of the pooled one: what counts is the column

    def count(values, gamma):
        return float(sum(value <= min(values) + gamma for value in values.tolist()))

    return {"auc_mean": float(np.mean(curve)), "margin_median": median, "margin_auc": float(np.mean(curve)),
            "auc_ramp_pooled@0.5": float(np.mean(np.clip(curve / (0.5 * median), 0, 1))),
            "small_margin_count_pooled@0.1": count(curve, 0.1 * median),
            "small_margin_count_pooled@0.5": count(curve, 0.5 * median),
            "small_margin_count_absolute@0.01": count(curve, 0.01), "log_path_norm": median * 3,
            "log_path_norm_over_margin": median * 2, "conv:auc_mean": float(np.mean(5 * curve)),
            "conv:small_margin_count_absolute@0.01": count(5 * curve, 0.01)}


def _audit(rng, rows, moments):
    audit = []
    for moment in moments:
        networks = sum(row["moment"] == moment and row["train_error"] == 0 for row in rows)
        for measure in MEASURES if networks >= 5 else ():
            for target in ("test_error", "loss_gap"):
                for statistic in STATISTICS:
                    middle = 0.5 if statistic == "sign_error" else 0.0
                    value, half = middle + rng.uniform(-0.4, 0.4), rng.uniform(0.05, 0.3)
                    cells = {"value": value, "low": value - half, "high": value + half}
                    if measure.startswith("small_margin_count_absolute"):
                        cells = {}  # one count for all networks
                    audit.append({"measure": measure, "target": target, "statistic": statistic, "networks": networks,
                                  "moment": moment, **cells})
    return audit


def _overlaps(rows, moments, curves, ids):
    overlaps = {}
    for moment in moments:
        keys = [(row["network"], row["epoch"]) for row in rows if row["moment"] == moment]
        overlaps[f"{moment}_networks"] = np.array([number for number, _ in keys])
        for k in (20, 200):
            sets = [set(smallest(curves[key], ids, k)) for key in keys]
            overlaps[f"{moment}_{k}"] = np.array([[len(a & b) / k for b in sets] for a in sets], np.float32).reshape(
                len(keys), len(keys))
    return overlaps


def smallest(curve, ids, k):
    """Ids of the k smallest margins, ties by id, by a plain sort."""
    return [number for _, number in sorted(zip(curve.tolist(), ids.tolist()))[:k]]


def told(workdir, measure, statistic, moment="separation", target="test_error"):
    """Value, low and high of one row of audit.csv."""
    wanted = {"measure": measure, "statistic": statistic, "moment": moment, "target": target}
    row = next(row for row in read_rows(workdir / "audit.csv") if wanted.items() <= row.items())
    return [float(row[name] or "nan") for name in ("value", "low", "high")]
