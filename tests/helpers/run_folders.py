"""Run folders with known margins, as plots read them."""

import csv
import json

import numpy as np

from margin_jax.run_folder.read import METRICS


def by_gid(axes, gid):
    return next(line for line in axes.lines if line.get_gid() == gid)


def write_run(folder, classes=10, epochs=12, count=300, separation=None, removal=None, finished=True, broken=0,
              channels=3, randomised=0.0):
    """A run folder as `margin_jax.run_folder.read` reads it, and its data set; returns normalised margins (E, N).

    `removal` is (epoch, kept); `broken` NaN margins stand in the last epoch.
    """
    (workdir := folder / "run").mkdir()
    rng = np.random.default_rng(classes + epochs)
    ids = np.sort(rng.choice(5 * count, count, replace=False))
    labels = (rng.permutation(count) % classes).astype(np.int32)
    true_labels = np.where(rng.random(count) < randomised, (labels + 1) % classes, labels).astype(np.int32)
    rho = np.linspace(40.0, 9000.0, epochs)
    values = rng.normal(np.linspace(-0.001, 0.002, epochs)[:, None], 0.001, (epochs, count))
    values[-1, :broken] = np.nan
    raw = (values * rho[:, None]).astype(np.float32)
    removed = np.full(count, -1, np.int32)
    if removal:
        removed[np.argsort(raw[removal[0] - 1], kind="stable")[removal[1]:]] = removal[0]
    np.savez(workdir / "mask.npz", ids=ids, labels=labels, true_labels=true_labels, mask=removed < 0,
             removed_epoch=removed)
    images = rng.integers(0, 17, (count, 6, 5, channels), dtype=np.uint8)
    np.savez(folder / "data.npz", train_images=images, train_labels=labels, train_ids=ids, test_images=images,
             test_labels=labels)
    write_texts(workdir, classes, rho, separation, removal, finished, "diverged" if broken else "finished")
    if finished:
        np.savez(workdir / "margins.npz", epochs=np.arange(epochs) + 1, ids=ids, labels=labels, margins=raw, rho=rho)
    else:
        epoch = (np.arange(epochs, dtype=np.int32) + 1).view(np.float32)
        np.column_stack([epoch, raw]).tofile(workdir / "margins.partial")
    return raw.astype(np.float64) / rho[:, None]


def write_texts(workdir, classes, rho, separation, removal, finished, status):
    """The files of a run folder that are text. The train loss reaches 0, which a log axis cannot show."""
    rows = [(epoch, max(1.2 - epoch / 5, 0.0), 0.0 if separation and epoch >= separation else 90 / epoch, 0.7, 40.0,
             norm, 0.0, 0.0, 9, 0) for epoch, norm in enumerate(rho, 1)]
    with open(workdir / "metrics.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([METRICS, *rows])
    data = {"name": "npz", "dir": str(workdir.parent / "data.npz"), "cache_dir": "", "classes": [],
            "random_fraction": 0.0, "random_seed": 0}
    names = [f"class ${k}" for k in range(classes)]  # a dollar sign must not start a formula
    (workdir / "config.json").write_text(json.dumps({"config": {"data": data}, "data": {"class_names": names}}))
    summary = {"status": status, "separation_epoch": separation,
               "removal": {"epoch": removal[0], "rule": "smallest", "kept": removal[1]} if removal else None}
    if finished:
        (workdir / "summary.json").write_text(json.dumps(summary))
