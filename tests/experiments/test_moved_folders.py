"""A work folder that is moved away in the middle of a job: the job ends, and begins nothing anew in its place."""

import pytest
from helpers.interruptions import SEPARATED
from helpers.runs import run_config

from margin_jax.experiments import grid, many_networks, stability, sweep, train
from margin_jax.experiments.compress import compress
from margin_jax.experiments.compress_tables import Gathered
from margin_jax.run_folder import lock
from margin_jax.run_folder.write import RunFolder

GRID = {"compress__mode": "grid", "compress__keep": 6, "compress__epochs": 2, "compress__grid_learning_rates": (0.02,),
        "compress__grid_batch_sizes": (7, 6), "compress__grid_scope": "whole_run", "compress__controls": ()}
SWEEP = {"sweep__networks": 2, "sweep__init_stds": (), "sweep__chunk": 1, "epochs": 6, "record__every": 100}


def moved_after(owner, name, at, path, monkeypatch):
    """Renames the folder after the `at`-th call of a method."""
    original, calls = getattr(owner, name), []

    def method(*args, **kwargs):
        result = original(*args, **kwargs)
        calls.append(1)
        if len(calls) == at:
            path.rename(path.with_name("moved"))
        return result

    monkeypatch.setattr(owner, name, method)


@pytest.mark.parametrize("job,changes,owner,name,at", [
    (train.train, {}, train.TrainRun, "advance", 3),
    (compress, {"compress__keep": 6, "compress__epochs": 1, "compress__controls": ("random",)}, Gathered, "branch", 1),
    (compress, GRID, many_networks.ManyRun, "_after_epoch", 2),
    (compress, GRID, many_networks.ManyRun, "run", 1),
    (compress, GRID, grid.Rows, "add", 3),
    (sweep.sweep, SWEEP, many_networks.ManyRun, "_after_epoch", 2),
    (sweep.sweep, SWEEP, sweep, "train_chunk", 1),
    (sweep.sweep, SWEEP, sweep, "train_chunk", 2),
    (stability.stability, {"stability__trials": 1, "stability__chunk": 1, "stability__epochs": 1,
                           "stability__deletions": ()}, stability.TrainedOn, "run", 1),
])
def test_nothing_is_begun_anew(data, tmp_path, monkeypatch, job, changes, owner, name, at):
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        moved_after(owner, name, at, path, patch)
        with pytest.raises(FileNotFoundError) as caught:
            job(run_config(data, **(SEPARATED | changes)), path)
    assert str(caught.value.filename).startswith(str(path)) and not path.exists() and not lock._places
    (tmp_path / "moved").rename(path)
    job(run_config(data, **(SEPARATED | changes)), path)
    assert (path / "summary.json").is_file()


def test_a_folder_that_a_job_has_left_may_be_made_anew(tmp_path):
    with RunFolder(tmp_path / "run"):
        pass
    (tmp_path / "run").rename(tmp_path / "moved")
    with RunFolder(tmp_path / "run" / "below"), lock.held_in_place(tmp_path / "run") as place:
        place.check()
        (tmp_path / "run").rename(tmp_path / "other")
        (tmp_path / "run").mkdir()  # another one in its place
        with pytest.raises(FileNotFoundError, match="run"):
            RunFolder(tmp_path / "run" / "new")
        assert not list((tmp_path / "run").iterdir())
