"""The grid: every cell as if alone, in both scopes, restartable, failures kept."""

import contextlib
import math
import signal

import jax
import numpy as np
import pytest
from helpers.interruptions import SEPARATED, dying_in_turn, same_tables
from helpers.runs import run_config

from margin_jax import signals
from margin_jax.errors import InputError
from margin_jax.experiments import grid
from margin_jax.experiments.compress import compress
from margin_jax.experiments.job import fresh_snapshot, load_dataset, make_job
from margin_jax.experiments.train import one_epoch, train
from margin_jax.run_folder import read as records
from margin_jax.run_folder import tables as columns
from margin_jax.run_folder.checkpoint import Checkpoints
from margin_jax.theory.selection import random_scores
from margin_jax.training.state import parameter_distance, seed_keys

GRID = SEPARATED | {"checkpoint_seconds": 1e9, "compress__mode": "grid", "compress__keep": 6, "compress__epochs": 2,
                    "compress__seeds": (0, 1), "compress__grid_learning_rates": (0.02, 1e38),
                    "compress__grid_batch_sizes": (6, 4), "model__batch_norm": True,
                    "compress__controls": ("frozen", "full", "full_updates", "scratch")}
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
    wanted |= {("full_updates", "after", seed, rate, batch) for seed in (0, 1) for rate in (0.02, 1e38)
               for batch in (6, 4)}
    assert set(cells) == wanted | {(rule, "after", seed, 0.02, 7) for rule in ("frozen", "full") for seed in (0, 1)}
    for (_, _, _, rate, _), row in cells.items():
        assert row["status"] == ("diverged" if rate > 1 else "finished")
        assert (row["reason"] != "") == (rate > 1) and math.isnan(row["test_error"]) == (rate > 1)
    assert records.read_json(done, "summary.json")["failed"] == 12


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
    assert any((tmp_path / "run" / "groups").iterdir())  # what is written already keeps its checkpoints
    compress(config, tmp_path / "run")
    same_tables(done, tmp_path / "run")
    assert not any((tmp_path / "run" / "groups").iterdir())


@pytest.mark.parametrize(("batch", "updates", "expected"), [(4, 0, (4, 2)), (6, 0, (2, 2)), (4, 9, (10, 5)),
                                                            (0, 3, (3, 3))])
def test_full_data_go_on_for_as_many_updates_as_what_is_kept(data, done, tmp_path, batch, updates, expected):
    """30 examples: 4, 2, 10 and 3 updates are a part of a pass, one, a pass and a part, and three passes."""
    config = run_config(data, **(GRID | {
        "compress__base": str(done / "base"), "compress__seeds": (1,), "compress__grid_learning_rates": (0.02,),
        "compress__grid_batch_sizes": (batch,), "compress__updates": updates,
        "compress__controls": ("full_updates",)}))
    compress(config, tmp_path / "run")
    cells = cells_by_key(tmp_path / "run")
    kept, full = (cells[rule, "after", 1, 0.02, batch] for rule in ("smallest", "full_updates"))
    assert (kept["updates"], kept["epochs"]) == expected and full["updates"] == expected[0]
    assert (kept["kept"], full["kept"]) == (6, 30)
    test_error, moved = alone_on_random_parts(config, done, expected[0])
    np.testing.assert_allclose((full["test_error"], full["moved"]), (test_error, moved), rtol=1e-4)


def alone_on_random_parts(config, done, updates):
    """Test error and distance moved of one network trained on by epochs of `training.epoch`, without the grid."""
    alone = config.copy_and_resolve_references()
    alone.seed, alone.batch_size = 1, config.compress.grid_batch_sizes[0]
    dataset = load_dataset(alone)
    job = make_job(alone, dataset)
    like = fresh_snapshot(job, dataset.train.labels.size, alone.stop.smallest)
    with Checkpoints(done / "base" / "seed_1" / "checkpoints") as checkpoints:
        begun = checkpoints.restore(like)
    before, now = jax.device_get(begun.state.params), begun._replace(state=begun.state)
    size = dataset.train.labels.size
    while updates:
        steps = -(-size // (alone.batch_size or size))
        rows = size if updates >= steps else updates * alone.batch_size
        order = np.argsort(random_scores(seed_keys(1)[2], size))[:rows]
        mask = np.isin(np.arange(size), order)
        now, _ = one_epoch(alone.batch_size, job, now._replace(progress=now.progress._replace(mask=mask)))
        updates -= min(updates, steps)
    test = job.evaluate(now.state.params, now.state.batch_stats, job.test)
    return 100 * np.mean(np.asarray(test.margins) <= 0), parameter_distance(now.state.params, before)


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


def test_a_cell_may_have_other_settings_from_its_removal_on(data, whole, tmp_path):
    """Those of its own up to there: of appendix C.1, where gradient descent follows."""
    later = {"compress__batch_size": 0, "compress__learning_rate": 0.05, "compress__optimizer": "adam",
             "compress__grid_learning_rates": (0.02,)}
    compress(run_config(data, **(WHOLE | later)), tmp_path / "grid")
    changes = {"compress__mode": "immediate", "compress__controls": ("full", "scratch"), "epochs": 25}
    compress(run_config(data, **(WHOLE | later | changes | {
        "compress__grid_scope": "after", "compress__grid_learning_rates": GRID["compress__grid_learning_rates"]})),
        tmp_path / "single")
    grid, single = cells_by_key(tmp_path / "grid"), cells_by_key(tmp_path / "single")
    ours, alone = grid["smallest", "whole_run", 1, 0.02, 7], single["smallest", "after", 1, 0.05, 0]
    assert ours["updates"] == alone["updates"] == 2
    for name in ("test_error", "moved", "loss_start", "loss_end", "drop"):
        np.testing.assert_allclose(ours[name], alone[name], rtol=1e-3, atol=1e-6, err_msg=name)
    for rule in ("full", "frozen"):  # up to the removal, and without one, the cell's own settings
        assert grid[rule, "whole_run", 1, 0.02, 7] == cells_by_key(whole)[rule, "whole_run", 1, 0.02, 7]
    assert grid["smallest", "scratch", 1, 0.02, 7]["updates"] == cells_by_key(whole)[
        "smallest", "scratch", 1, 0.02, 7]["updates"]


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
