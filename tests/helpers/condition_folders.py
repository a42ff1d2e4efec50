"""Work folders of sweeps that compare kinds of networks, with invented margins, as launch/sweep.py writes them."""

import json
import math

import numpy as np

from helpers.sweep_folders import _write_network, write_csv
from margin_jax.run_folder.tables import AUDIT, MOMENTS, NETWORKS

EXAMPLES = 40
EPOCHS = tuple(range(2, 22, 2))


def write_kinds(workdir, kinds, margins, seeds=3, separation=lambda kind, seed: 4, converged=True, status=None,
                columns=NETWORKS, classes=2, count=EXAMPLES):
    """One network for each kind, a dictionary of columns, and seed.

    `margins(kind, seed, epoch)` gives normalised margins (count,); `separation` the epoch or None; `converged` whether
    separated networks have converged at their last epoch; `status` overrides by number.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    ids, labels = np.arange(count) * 2 + 1, (np.arange(count) % classes).astype(np.int32)
    described = {"config": {"data": {"name": "digits", "dir": ""}, "seed": 0, "model": {"batch_norm": False}},
                 "data": {"class_names": [f"class {number}" for number in range(classes)]}}
    (workdir / "config.json").write_text(json.dumps(described | {"job": "sweep"}))
    networks, moments, curves = [], [], {}
    for number, (kind, seed) in enumerate((kind, seed) for kind in kinds for seed in range(seeds)):
        rho, separated = 100.0 + number, separation(kind, seed)
        curves[number] = {epoch: np.asarray(margins(kind, seed, epoch), np.float64) for epoch in EPOCHS}
        raw = {epoch: (values * rho).astype(np.float32) for epoch, values in curves[number].items()}
        _write_network(workdir / "networks" / f"{number:03d}", described, ids, labels, raw, rho, separated, 5.0)
        row = {"network": number, "seed": seed, "learning_rate": 0.01, "weight_decay": 0.0, "random_fraction": 0.0,
               "batch_norm": 0, "separation_epoch": separated, "rho": rho, "train_error": 0.0 if separated else 3.0,
               "status": (status or {}).get(number, "finished" if separated else "not separated")} | kind
        settled = EPOCHS[-1] if separated and converged else None
        for moment, epoch in (("separation", separated), ("convergence", settled), ("end", EPOCHS[-1])):
            if epoch and row["status"] != "diverged":
                moments.append(row | {"moment": moment, "epoch": epoch, "margin_min": curves[number][epoch].min(),
                                      "log_rho:all": math.log(rho), "log_rho:conv": math.log(rho / (seed + 2))})
        networks.append(row | {"epoch": EPOCHS[-1]})
    moments.sort(key=lambda row: MOMENTS.index(row["moment"]))
    write_csv(workdir / "networks.csv", columns, networks)
    write_csv(workdir / "moments.csv", ("moment", *columns, "log_rho:all", "log_rho:conv"), moments)
    write_csv(workdir / "audit.csv", AUDIT, [])
    np.savez(workdir / "overlap.npz", **{f"{name}_networks": np.array(
        [row["network"] for row in moments if row["moment"] == name]) for name in MOMENTS})
    (workdir / "summary.json").write_text(json.dumps({"status": "finished"}))
    return curves
