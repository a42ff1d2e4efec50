"""Schedules of removals: each step, its record, and what an interruption leaves."""

import numpy as np
import pytest
from helpers.interruptions import cells_of, compression, dying_in_turn, same_tables

from margin_jax.experiments import train
from margin_jax.experiments.compress import compress
from margin_jax.run_folder import read as records
from margin_jax.run_folder import tables as columns

CONTINUOUS = {"compress__mode": "continuous", "compress__schedule": ((10, 10), (4, 3), (1, 1)),
              "compress__batch_size": 0, "compress__keeps": (4,), "compress__init_stds": (0.3,),
              "compress__controls": ("random", "full", "scratch"), "compress__epochs": 4,
              "model__batch_norm": True}


@pytest.fixture(name="scheduled", scope="module")
def _scheduled(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("scheduled") / "run"
    compress(compression(data, **CONTINUOUS), path)
    return path


def test_a_schedule_removes_step_by_step_and_says_where_it_did_not_separate(scheduled):
    rows = columns.rows_of(columns.read_table(scheduled, "removals.csv"))
    smallest = [row for row in rows if row["rule"] == "smallest"]
    assert [row["kept"] for row in smallest] == [30, 20, 10, 7, 4, 3, 2, 1]
    assert [row["step"] for row in smallest] == list(range(8))
    for row in smallest[1:]:
        assert 1 <= row["epochs"] <= 4 and (row["separated"] or row["epochs"] == 4)
    metrics = records.read_metrics(scheduled / "std_0.3_seed_0" / "smallest")
    for row in smallest:
        at = np.flatnonzero(metrics["epoch"] == row["epoch"])[0]
        assert row["separated"] == (metrics["train_error"][at] == 0) and row["test_error"] == metrics["test_error"][at]
    # Each removal takes the largest margins of those that were left, measured when training on them ended.
    stored, mask = (read(scheduled / "std_0.3_seed_0" / "smallest") for read in (records.read_margins,
                                                                               records.read_mask))
    for row, following in zip(smallest, smallest[1:], strict=False):
        at = np.flatnonzero(stored.epochs == row["epoch"])[0]
        was = (mask["removed_epoch"] < 0) | (mask["removed_epoch"] >= row["epoch"])
        kept = (mask["removed_epoch"] < 0) | (mask["removed_epoch"] > row["epoch"])
        assert was.sum() == row["kept"] and kept.sum() == following["kept"]
        assert stored.margins[at][kept].max() <= stored.margins[at][was & ~kept].min()
    full = next(row for row in cells_of(scheduled) if row["rule"] == "full")
    assert full["epochs"] == sum(row["epochs"] for row in smallest)
    assert {(row["rule"], row["kept"]) for row in cells_of(scheduled) if row["scope"] == "scratch"} == {
        ("smallest", 4), ("random", 4)}


def test_a_schedule_killed_twice_ends_equal(data, scheduled, tmp_path, monkeypatch):
    config = compression(data, **CONTINUOUS, compress__base=str(scheduled / "base"))
    config.checkpoint_seconds = 0.0
    dying_in_turn([(train.TrainRun, "remove", 4), (train.TrainRun, "save", 6)], monkeypatch,
                  lambda: compress(config, tmp_path / "run"))
    assert not (tmp_path / "run" / "summary.json").exists()
    config.checkpoint_seconds = 1e9  # may differ, and many checkpoints take time
    compress(config, tmp_path / "run")
    same_tables(scheduled, tmp_path / "run")


def test_networks_of_several_initial_weights_and_optimisers_have_their_own_controls(data, tmp_path):
    changes = {"compress__init_stds": (0.3, 0.5), "compress__optimizers": ("sgd", "adam"), "compress__seeds": (1,),
               "compress__schedule": ((4, 13),), "compress__controls": ("full", "frozen"), "compress__keeps": (),
               "compress__keep": 0, "optimizer__learning_rate": 0.01, "model__batch_norm": False, "compress__epochs": 2}
    compress(compression(data, **(CONTINUOUS | changes)), tmp_path / "run")
    rows = cells_of(tmp_path / "run")
    assert len({row["base"] for row in rows}) == 4
    for row in rows:
        full = records.read_metrics(next((tmp_path / "run" / "base").glob(f"{row['base']}_full_*")))
        at = full["epoch"][0] + (row["epochs"] if row["rule"] == "smallest" else 0)
        if row["rule"] == "smallest":
            error = full["test_error"][np.flatnonzero(full["epoch"] == at)[0]]
            np.testing.assert_allclose(row["drop"], row["test_error"] - error)
            assert row["updates"] == row["epochs"]  # full gradient descent
        np.testing.assert_allclose(row["drop_frozen"], row["test_error"] - full["test_error"][0])
    config = records.read_json(tmp_path / "run" / "base" / "adam_std_0.5_seed_1", "config.json")["config"]
    assert config["optimizer"]["name"] == "adam" and config["model"]["init_std"] == 0.5
