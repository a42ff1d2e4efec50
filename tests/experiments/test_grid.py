"""The grid: every cell as if alone, in both scopes, restartable, failures kept."""

import contextlib
import math
import signal

import numpy as np
import pytest
from helpers.interruptions import SEPARATED, dying_in_turn, same_tables
from helpers.runs import run_config

from margin_jax import signals
from margin_jax.errors import InputError
from margin_jax.experiments import grid
from margin_jax.experiments.compress import compress
from margin_jax.experiments.train import train
from margin_jax.run_folder import read as records
from margin_jax.run_folder import tables as columns

GRID = SEPARATED | {"checkpoint_seconds": 1e9, "compress__mode": "grid", "compress__keep": 6, "compress__epochs": 2,
                    "compress__seeds": (0, 1), "compress__grid_learning_rates": (0.02, 1e38),
                    "compress__grid_batch_sizes": (6, 4), "compress__controls": ("frozen", "full", "scratch"),
                    "model__batch_norm": True}
CLOSE = ("test_error", "drop", "drop_frozen", "moved", "loss_start", "loss_end", "train_error")


def cells_by_key(path):
    names = ("rule", "scope", "seed", "learning_rate", "batch_size")
    return {tuple(row[name] for name in names): row
            for row in columns.rows_of(columns.read_table(path, "cells.csv"))}


@pytest.fixture(name="done", scope="module")
def _done(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("done") / "run"
    compress(run_config(data, **GRID), path)
    return path


def test_a_grid_has_every_cell_and_keeps_those_that_fail(done):
    cells = cells_by_key(done)
    wanted = {("smallest", scope, seed, rate, batch) for scope in ("after", "scratch") for seed in (0, 1)
              for rate in (0.02, 1e38) for batch in (6, 4)}
    assert set(cells) == wanted | {(rule, "after", seed, 0.02, 7) for rule in ("frozen", "full") for seed in (0, 1)}
    for (_, _, _, rate, _), row in cells.items():
        assert row["status"] == ("diverged" if rate > 1 else "finished")
        assert (row["reason"] != "") == (rate > 1) and math.isnan(row["test_error"]) == (rate > 1)
    assert records.read_json(done, "summary.json")["failed"] == 8


def test_a_cell_equals_the_same_cell_run_alone(data, done, tmp_path):
    changes = {"compress__mode": "immediate", "compress__seeds": (1,), "compress__batch_size": 4,
               "compress__base": str(done / "base"), "compress__controls": ("full", "frozen", "scratch")}
    compress(run_config(data, **(GRID | changes)), tmp_path / "alone")
    alone, together = cells_by_key(tmp_path / "alone"), cells_by_key(done)
    for key in (("smallest", "after", 1, 0.02, 4), ("smallest", "scratch", 1, 0.02, 4), ("full", "after", 1, 0.02, 7)):
        for name in CLOSE:
            np.testing.assert_allclose(alone[key][name], together[key][name], rtol=1e-4, atol=1e-6, err_msg=name)
        assert all(alone[key][name] == together[key][name] for name in ("updates", "epochs", "kept", "status"))


def test_a_grid_killed_twice_ends_equal(data, done, tmp_path, monkeypatch):
    config = run_config(data, **(GRID | {"compress__base": str(done / "base")}))
    for at in (1, 4):
        dying_in_turn([(grid.Rows, "add", at)], monkeypatch, lambda: compress(config, tmp_path / "run"))
        assert 0 < len(cells_by_key(tmp_path / "run")) < 20
    compress(config, tmp_path / "run")
    same_tables(done, tmp_path / "run")


WHOLE = GRID | {"compress__grid_scope": "whole_run", "compress__seeds": (1,), "compress__grid_batch_sizes": (7,),
                "compress__grid_learning_rates": (0.02, 1e-7, 1e38), "epochs": 25, "record__every": 1}


@pytest.fixture(name="whole", scope="module")
def _whole(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    compress(run_config(data, **WHOLE), path)
    return path


def test_a_cell_of_a_whole_run_equals_one_training_with_a_removal(data, whole, tmp_path):
    changes = {"compress__mode": "immediate", "seed": 1, "compress__controls": (), "compress__seeds": ()}
    summary = train(run_config(data, **(WHOLE | changes)), tmp_path / "single")
    cell, frozen = (cells_by_key(whole)[rule, "whole_run", 1, 0.02, 7] for rule in ("smallest", "frozen"))
    assert frozen["test_error"] == pytest.approx(summary["at_removal"]["test_error"])
    assert cell["test_error"] == pytest.approx(summary["final"]["test_error"])
    assert cell["loss_end"] == pytest.approx(summary["final"]["train_loss"], rel=1e-3)
    assert cells_by_key(whole)["smallest", "scratch", 1, 0.02, 7]["epochs"] == summary["separation_epoch"] + 2


def test_networks_of_a_whole_run_that_never_get_there_are_told(whole):
    cells = cells_by_key(whole)
    assert cells["smallest", "whole_run", 1, 1e-7, 7]["status"] == "not separated"
    assert cells["smallest", "whole_run", 1, 1e38, 7]["status"] == "diverged"
    assert "before the removal" in cells["smallest", "whole_run", 1, 1e38, 7]["reason"]


def test_a_whole_run_killed_midway_ends_equal(data, whole, tmp_path, monkeypatch):
    config = run_config(data, **WHOLE)
    config.checkpoint_seconds = 0.0
    dying_in_turn([(grid.ManyRun, "save", 3)], monkeypatch, lambda: compress(config, tmp_path / "run"))
    compress(config, tmp_path / "run")
    same_tables(whole, tmp_path / "run")


class Shown:
    """A reporter that notes every epoch after a removal, and stands for a signal in one of them."""

    def __init__(self, epochs, at, *_):
        self.epochs, self.at = epochs, at

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def show(self, epoch, fields):
        self.epochs.append((*fields.values(), epoch))
        if len(self.epochs) == self.at:
            signals._watch.number = signal.SIGTERM


@pytest.mark.parametrize("scope", ["after", "whole_run"])
def test_a_grid_stopped_by_signals_repeats_no_epoch(data, tmp_path, monkeypatch, scope):
    """In the middle of a rule, at the end of one, in a fresh network, and, of a whole run, in the control "full"."""
    changes = {"compress__grid_scope": scope, "compress__grid_learning_rates": (0.02, 0.01)}
    config = run_config(data, **(WHOLE | changes))
    monkeypatch.setattr(signals._watch, "number", 0)  # and so again after the test
    seen, whole = [], []
    for at in (1, 2, 4, 7, 0):
        monkeypatch.setattr(grid, "Reporter", lambda *_, at=at: Shown(seen, at))
        with contextlib.nullcontext() if not at else pytest.raises(signals.Interrupted, match="same command goes on"):
            compress(config, tmp_path / "stopped")
        signals._watch.number = 0
        assert len(seen) == at or not at
    monkeypatch.setattr(grid, "Reporter", lambda *_: Shown(whole, 0))
    compress(config, tmp_path / "whole")
    assert seen == whole and len(seen) == len(set(seen)) > 7
    same_tables(tmp_path / "whole", tmp_path / "stopped")


def test_a_grid_of_several_counts_is_refused(data, tmp_path):
    with pytest.raises(InputError, match="does not use it"):
        compress(run_config(data, **(GRID | {"compress__keeps": (6, 3)})), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_seed_that_does_not_get_to_the_removal_fails_in_every_cell(data, tmp_path):
    config = run_config(data, **(GRID | {"epochs": 1, "optimizer__learning_rate": 1e-7, "compress__seeds": (5,)}))
    compress(config, tmp_path / "run")
    cells = cells_by_key(tmp_path / "run")
    assert set(cells) == {("smallest", scope, 5, rate, batch) for rate in (0.02, 1e38) for batch in (6, 4)
                          for scope in ("after", "scratch")}
    assert {row["status"] for row in cells.values()} == {"not separated"}
