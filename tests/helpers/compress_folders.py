"""Work folders of compressions with invented numbers, as launch/compress.py writes them."""

import csv
import json
import math

import numpy as np
from scipy import stats

from margin_jax.data.dataset import digest
from margin_jax.data.load import load_data
from margin_jax.run_folder.tables import COLUMNS

# Points of test error that a rule costs at 200 kept, and how far it moves the weights.
COSTS = {"smallest": (2.6, 0.04), "random": (0.4, 0.002), "largest": (0.05, 0.0002), "balanced": (2.1, 0.035)}
BEFORE, TOTAL = 32.0, 50_000


def write_table(workdir, name, rows):
    """Rows are dictionaries; columns that they lack are empty cells."""
    with open(workdir / name, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS[name], restval="")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(workdir, name):
    """The rows of a table as dictionaries of text, read without the library."""
    with open(workdir / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_config(workdir, mode, model="convnet", **compress):
    dataset = load_data("digits")
    data = {"name": "digits", "dir": "", "cache_dir": "", "classes": [], "random_fraction": 0.0, "random_seed": 0}
    config = {"data": data, "model": {"name": model}, "optimizer": {"name": "sgd"},
              "compress": {"mode": mode, **compress}}
    names = list(dataset.class_names)
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps({
        "job": "compress", "config": config, "data": {"name": "digits", "class_names": names, "train": TOTAL,
                                                      "test": 10_000, "digest": digest(dataset)}}))
    return dataset


def cell(rule, seed, scope, error, full, frozen, moved="", updates=200, kept=200, status="finished", reason="",
         settings=("sgd", 0.01, 50), losses=(0.0021, 1.4e-4)):
    finished = status == "finished"
    numbers = {"test_error": error, "drop": error - full, "drop_frozen": error - frozen, "moved": moved,
               "updates": updates, "epochs": 50, "loss_start": losses[0], "loss_end": losses[1], "train_error": 0.0}
    return {**dict(zip(("optimizer", "learning_rate", "batch_size"), settings)), "rule": rule, "seed": seed,
            "scope": scope, "kept": kept, "status": status, "reason": reason, **(numbers if finished else {})}


def curve(rule, seed, kept, scope, epochs, errors, init_std=""):
    return [{"optimizer": "sgd", "init_std": init_std, "seed": seed, "rule": rule, "kept": kept, "scope": scope,
             "epoch": epoch, "train_loss": 0.1, "train_error": 0.0, "test_loss": 1.0, "test_error": error}
            for epoch, error in zip(epochs, errors)]


def base_curve(seed, last, init_std="", rng=np.random.default_rng(7)):
    epochs = np.arange(1, last + 1)
    errors = BEFORE + 33 * np.exp(-epochs / 4) + rng.normal(0, 0.3, last)
    errors[-1] = BEFORE + 0.1 * seed
    return curve("base", seed, TOTAL, "base", epochs, errors, init_std)


def write_immediate(workdir, seeds=5, keeps=(200, 100), rules=tuple(COSTS), controls=True, model="convnet"):
    """Test errors of 32%; `smallest` costs most and moves most; `controls` are full, frozen and scratch."""
    write_config(workdir, "immediate", model)
    rng, cells, curves = np.random.default_rng(1), [], []
    after = np.arange(1, 51)
    for seed in range(seeds):
        last, frozen, full = 20 + seed, BEFORE + 0.1 * seed, BEFORE - 0.4 + rng.normal(0, 0.15)
        curves += base_curve(seed, last)
        if controls:
            cells.append(cell("frozen", seed, "after", frozen, full, frozen, 0, 0, TOTAL))
            cells.append(cell("full", seed, "after", full, full, frozen, 0.21, 50_000, TOTAL, losses=(0.02, 1e-5)))
            curves += curve("full", seed, TOTAL, "after", last + after,
                            full + (frozen - full) * np.exp(-after / 8) + rng.normal(0, 0.08, 50))
        for rule in rules:
            for kept in keeps:
                cost, moved = COSTS[rule]
                error = frozen + cost * 200 / kept * (1 + rng.normal(0, 0.2))
                cells.append(cell(rule, seed, "after", error, full, frozen, moved, 200, kept))
                curves += curve(rule, seed, kept, "after", last + after,
                                error + (frozen - error) * np.exp(-after / 6) + rng.normal(0, 0.1, 50))
                if controls and rule in ("smallest", "random"):
                    error = {"smallest": 80, "random": 66}[rule] + 600 / kept + rng.normal(0, 1)
                    cells.append(cell(rule, seed, "scratch", error, full, frozen, kept=kept, losses=(2.31, 1e-3)))
                    curves += curve(rule, seed, kept, "scratch", range(last + 51),
                                    error + (90 - error) * np.exp(-np.arange(last + 51) / 6))
    write_table(workdir, "cells.csv", cells)
    write_table(workdir, "curves.csv", curves)
    return workdir


def write_continuous(workdir, seeds=3, stds=(0.01, 0.09), rules=("smallest", "random", "largest")):
    """From 50,000 to 1 by the paper's schedule; the error rises below 100 kept, more at the larger std."""
    dataset = write_config(workdir, "continuous")
    kepts = [*range(50_000, 10_000, -5_000), *range(10_000, 1_000, -1_000), *range(1_000, 100, -100),
             *range(100, 10, -10), *range(10, 0, -1)]
    rng, removals, curves, ids = np.random.default_rng(2), [], [], []
    for std in stds:
        for seed in range(seeds):
            last, start = 50 + 3 * seed, BEFORE + 0.1 * seed
            curves += base_curve(seed, last, std)
            for rule in rules:
                rise = {"smallest": 60 * std + 0.4, "random": 0.25, "largest": 0.02}[rule]
                epoch = last
                for step, kept in enumerate(kepts):
                    epochs = 0 if step == 0 else 1 + int(rng.poisson(0.4 if rule == "smallest" else 0.01))
                    epoch += epochs
                    error = start + rise * (100 / kept) ** 0.7 * (1 + rng.normal(0, 0.1)) * (step > 0)
                    removals.append({"step": step, "kept": kept, "epochs": epochs, "test_error": min(error, 90.0),
                                     "separated": int(kept != 7), "rule": rule, "seed": seed, "optimizer": "sgd",
                                     "init_std": std, "epoch": epoch, "loss": 1e-3, "moved": rise * step / 100})
                    curves += curve(rule, seed, kept, "after", [epoch] if step else [], [min(error, 90.0)], std)
                    if rule == "smallest" and kept <= 20:
                        chosen = np.random.default_rng(seed).permutation(dataset.train.ids)[:kept]
                        ids.append({"optimizer": "sgd", "init_std": std, "seed": seed, "rule": rule, "scope": "after",
                                    "kept": kept, "ids": chosen.tolist()})
            curves += curve("full", seed, TOTAL, "after", range(last + 1, last + 90),
                            start - 0.4 * (1 - np.exp(-np.arange(89) / 20)), std)
    write_table(workdir, "removals.csv", removals)
    write_table(workdir, "curves.csv", curves)
    (workdir / "kept_ids.json").write_text(json.dumps(ids))
    return workdir


def write_grid(workdir, seeds=3, scope="after", optimizers=("sgd",), model="convnet", rules=tuple(COSTS)):
    """Drops grow with the batch size, as the paper's do; lr 0.1 at batch 200 diverges for some seeds."""
    write_config(workdir, "grid", model)
    rng, cells = np.random.default_rng(3), []
    for seed in range(seeds):
        frozen, full = BEFORE + 0.1 * seed, BEFORE - 0.4
        for optimizer in optimizers:
            for number, rate in enumerate((0.1, 0.01, 0.001)):
                for batch in (200, 100, 50, 20, 10, 1):
                    settings, moved = (optimizer, rate, batch), rate * 2
                    if scope == "whole_run" or (number, batch) == (1, 50):
                        cells.append(cell("frozen", seed, scope, frozen, full, frozen, 0, 0, TOTAL, settings=settings))
                        cells.append(cell("full", seed, scope, full, full, frozen, 0.2, 5000, TOTAL,
                                          settings=settings))
                    for rule in rules:
                        error = full + COSTS[rule][0] * (1 + number) * batch**0.4 / 4 * (1 + rng.normal(0, 0.1))
                        failed = number == 0 and batch == 200 and (seed == 1 or rule == "smallest")
                        outcome = {"status": "diverged", "reason": "the loss is not finite in epoch 3 & later"}
                        cells.append(cell(rule, seed, scope, error, full, frozen, moved, 50 * 200 // batch,
                                          settings=settings, **(outcome if failed else {})))
                        if rule in ("smallest", "random"):
                            error = {"smallest": 78, "random": 64}[rule] + rng.normal(0, 1)
                            cells.append(cell(rule, seed, "scratch", error, full, frozen, settings=settings,
                                              losses=(2.31, 1e-3)))
    write_table(workdir, "cells.csv", cells)
    return workdir


def expected(values):
    """Mean and half width by scipy's one-sample t test."""
    if len(values) < 2:
        return (values[0] if values else math.nan), math.nan
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    return (low + high) / 2, (high - low) / 2


def by_gid(axes, gid):
    return next(line for line in axes.lines if line.get_gid() == gid)
