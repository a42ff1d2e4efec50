"""A whole run: what lies in the folder, that it resumes bit for bit, and that bad input costs nothing."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
from helpers.interruptions import Killed, dying, last_checkpoint
from helpers.runs import run_config, write_npz

from margin_jax.errors import DivergedError, InputError
from margin_jax.experiments import job as runs_job
from margin_jax.experiments import train as runs_train
from margin_jax.experiments.compress import compress
from margin_jax.experiments.train import train
from margin_jax.run_folder import read as records
from margin_jax.run_folder import write
from margin_jax.run_folder.checkpoint import Checkpoints


def leaves_of(workdir):
    """Leaves of the newest checkpoint, without the wall time."""
    tree = last_checkpoint(workdir)
    del tree["progress"]["seconds"]
    return jax.tree.leaves(tree)


def test_the_run_folder_holds_what_the_design_says(data, tmp_path):
    config = run_config(data, compress__keep=5, compress__epochs=2, model__batch_norm=True)
    given = json.dumps(config.to_dict())
    summary = train(config, tmp_path / "run")
    assert json.dumps(config.to_dict()) == given
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == {"config.json", "metrics.csv", "margins.npz", "mask.npz", "checkpoints", "summary.json", ".lock",
                     "manifest.json"}
    metrics, stored, mask = (read(tmp_path / "run") for read in (records.read_metrics, records.read_margins,
                                                                records.read_mask))
    assert metrics["epoch"].tolist() == [1, 2, 3, 4, 5, 6] and metrics["kept"].tolist() == [30] * 4 + [5] * 2
    assert (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0] == ",".join(records.METRICS)
    assert stored.margins.shape == (6, 30) and stored.margins.dtype == np.float32
    np.testing.assert_array_equal(stored.ids, np.arange(30) * 3 + 1)
    chosen = np.argsort(stored.margins[3], kind="stable")[:5]
    np.testing.assert_array_equal(np.flatnonzero(mask["mask"]), np.sort(chosen))
    np.testing.assert_array_equal(mask["removed_epoch"], np.where(mask["mask"], -1, 4))
    for row, kept in ((3, np.ones(30, bool)), (5, mask["mask"])):
        normalised = stored.margins[row].astype(np.float64)[kept] / stored.rho[row]
        np.testing.assert_allclose(metrics["margin_min"][row], normalised.min(), rtol=1e-12)
        np.testing.assert_allclose(metrics["margin_auc"][row], normalised.mean(), rtol=1e-12)
        np.testing.assert_allclose(metrics["train_error"][row], 100 * (normalised <= 0).mean())
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["removal"] == {"epoch": 4, "rule": "smallest", "kept": 5} and summary["final"]["epoch"] == 6
    described = records.read_json(tmp_path / "run", "config.json")
    assert described["config"]["data"]["dir"] == str(data) and described["data"]["class_names"] == ["0", "1", "2"]
    assert len(described["data"]["mean"]) == 3 and described["versions"]["jax"] == jax.__version__


@pytest.mark.parametrize("rule", ["largest", "random", "balanced", "ids"])
def test_every_rule_keeps_its_count(data, tmp_path, rule):
    ids = (1, 4, 88) if rule == "ids" else ()
    config = run_config(data, epochs=1, compress__keep=3, compress__rule=rule, compress__epochs=1, compress__ids=ids)
    train(config, tmp_path / "run")
    mask = records.read_mask(tmp_path / "run")
    assert mask["mask"].sum() == 3
    if rule == "balanced":
        assert sorted(mask["labels"][mask["mask"]]) == [0, 1, 2]
    if rule == "ids":
        assert mask["ids"][mask["mask"]].tolist() == [1, 4, 88]


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(data, tmp_path_factory):
    """Gives the config of (devices, batch_size) and the folder of its run that nothing interrupted, trained once."""

    @functools.cache
    def made(devices, batch_size):
        config = run_config(data, devices=devices, batch_size=batch_size, compress__keep=5, compress__epochs=2,
                            model__batch_norm=True, shuffle=True, optimizer__name="adam", optimizer__learning_rate=0.01,
                            record__collapse_every=1)
        path = tmp_path_factory.mktemp("undisturbed") / "run"
        train(config, path)
        return config, path

    return made


@pytest.mark.parametrize("devices,batch_size,deaths", [
    (1, 7, [("train_epoch", 1), ("save", 1), ("train_epoch", 3), ("record", 5)]), (1, 1, [("record", 3)]),
    (4, 7, [("save", 3)])])
def test_an_interrupted_run_ends_bit_equal(undisturbed, tmp_path, monkeypatch, devices, batch_size, deaths):
    config, whole_run = undisturbed(devices, batch_size)
    if len(deaths) > 1:  # its starts share what is compiled; where there is one death, they share nothing
        job = runs_train.make_job(config, runs_job.load_dataset(config))
        start = jax.device_get(job.state)  # an epoch donates it
        monkeypatch.setattr(runs_train, "make_job", lambda *_: job._replace(state=jax.device_put(start)))
    for method, killed_in in deaths:
        original = getattr(runs_train.TrainRun, method)

        def dying(self, *args, original=original, killed_in=killed_in, **kwargs):
            result = original(self, *args, **kwargs)
            if self.epoch == killed_in:
                raise Killed
            return result

        with monkeypatch.context() as patch:
            patch.setattr(runs_train.TrainRun, method, dying)
            with pytest.raises(Killed):
                train(config, tmp_path / "parts")
        assert not (tmp_path / "parts" / "summary.json").exists()
        if method != "train_epoch" or killed_in > 1:
            assert records.read_margins(tmp_path / "parts").margins.shape[1] == 30
    train(config, tmp_path / "parts")
    whole, parts = (records.read_margins(path) for path in (whole_run, tmp_path / "parts"))
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)
    tables = [records.read_metrics(path) for path in (whole_run, tmp_path / "parts")]
    for name in set(records.METRICS) - {"seconds"}:
        np.testing.assert_array_equal(tables[0][name], tables[1][name])
    assert (np.diff(tables[1]["seconds"]) >= 0).all()
    assert len({(path / "collapse.csv").read_text() for path in (whole_run, tmp_path / "parts")}) == 1
    masks = [records.read_mask(path) for path in (whole_run, tmp_path / "parts")]
    for name in masks[0]:
        np.testing.assert_array_equal(masks[0][name], masks[1][name])
    for a, b in zip(*(leaves_of(path) for path in (whole_run, tmp_path / "parts")), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("where", ["start", "resume"])
def test_a_run_killed_before_its_first_record_starts_again(data, tmp_path, monkeypatch, where):
    owner = write.RunFolder if where == "start" else runs_train.TrainRun
    with monkeypatch.context() as patch:
        patch.setattr(owner, where, lambda *a: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            train(run_config(data, epochs=1), tmp_path / "run")
    train(run_config(data, epochs=1), tmp_path / "run")
    assert records.read_metrics(tmp_path / "run")["epoch"].tolist() == [1]


def test_records_may_be_sparse_and_separation_is_still_found(data, tmp_path):
    config = run_config(data, epochs=60, stop__rule="separation", optimizer__learning_rate=0.02)
    dense = train(config, tmp_path / "dense")
    config.record.every = 1000
    sparse = train(config, tmp_path / "sparse")
    assert dense["separation_epoch"] and dense["separation_epoch"] > 1
    # Errors are seen before each update, so that a sparse run may notice separation later, never too early.
    assert dense["separation_epoch"] <= sparse["separation_epoch"] <= dense["separation_epoch"] + 3
    recorded = {name: records.read_metrics(tmp_path / name)["epoch"].size for name in ("sparse", "dense")}
    assert recorded["sparse"] < recorded["dense"]
    with Checkpoints(tmp_path / "dense" / "checkpoints") as checkpoints:
        assert checkpoints.latest_epoch("separation") == dense["separation_epoch"]


@pytest.mark.parametrize("config_change,message", [
    ({"epochs": 5}, "another config"), ({"optimizer__learning_rate": 0.5}, r"optimizer.learning_rate: 0.01 -> 0.5")])
def test_a_run_of_another_config_is_not_continued(data, tmp_path, monkeypatch, config_change, message):
    with monkeypatch.context() as patch:
        patch.setattr(runs_train.TrainRun, "advance", lambda *a: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            train(run_config(data), tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").glob("*.*")}
    with pytest.raises(InputError, match=message):
        train(run_config(data, **config_change), tmp_path / "run")
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").glob("*.*")}


def test_a_finished_run_is_never_overwritten(data, tmp_path):
    train(run_config(data, epochs=1), tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").glob("*.*")}
    with pytest.raises(InputError, match="never overwritten"):
        train(run_config(data, epochs=1), tmp_path / "run")
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").glob("*.*")}


def test_a_run_that_another_process_finishes_meanwhile_is_not_touched(data, tmp_path, monkeypatch):
    load = runs_job.load_dataset

    def slow_load(config):
        monkeypatch.setattr(runs_job, "load_dataset", load)
        train(run_config(data, epochs=1), tmp_path / "run")  # the other process
        return load(config)

    monkeypatch.setattr(runs_job, "load_dataset", slow_load)
    with pytest.raises(InputError, match="never overwritten"):
        train(run_config(data, epochs=1), tmp_path / "run")
    assert records.read_margins(tmp_path / "run").margins.shape == (1, 30)


def test_other_data_of_the_same_name_are_noticed(tmp_path, monkeypatch):
    write_npz(tmp_path / "own.npz")
    with monkeypatch.context() as patch:
        patch.setattr(runs_train.TrainRun, "advance", lambda *a: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            train(run_config(tmp_path / "own.npz"), tmp_path / "run")
    write_npz(tmp_path / "own.npz", count=31)
    with pytest.raises(InputError, match="other data"):
        train(run_config(tmp_path / "own.npz"), tmp_path / "run")


def test_a_second_process_is_kept_out(data, tmp_path):
    with write.RunFolder(tmp_path / "run"), pytest.raises(InputError, match="another process"):
        train(run_config(data), tmp_path / "run")


def test_divergence_ends_the_run_and_keeps_the_last_good_checkpoint(data, tmp_path):
    config = run_config(data, optimizer__learning_rate=1e30)
    with pytest.raises(DivergedError, match="epoch 1, step"):
        train(config, tmp_path / "run")
    summary = records.read_json(tmp_path / "run", "summary.json")
    assert summary["status"] == "diverged" and summary["diverged"]["checkpoint_epoch"] == 0
    assert all(np.isfinite(leaf).all() for leaf in leaves_of(tmp_path / "run") if leaf.dtype.kind == "f")
    with pytest.raises(InputError, match=r"over \(diverged\)"):
        train(config, tmp_path / "run")


def test_a_summary_with_numbers_that_json_lacks_is_still_written(tmp_path):
    # A logit can overflow on one test image while training goes on.
    with write.RunFolder(tmp_path / "run") as folder:
        folder.finish({"status": "finished", "final": {"test_loss": float("inf"), "epoch": 3},
                       "rows": [float("nan"), 1]})
    stored = records.read_json(tmp_path / "run", "summary.json")
    assert stored == {"status": "finished", "final": {"test_loss": None, "epoch": 3}, "rows": [None, 1]}


def changed(**changes):
    return lambda path: write_npz(path, **changes)


@pytest.mark.parametrize("write,config_change,message", [
    (changed(), {"batch_size": 31}, "at most the 30 training examples"),
    (changed(), {"compress__keep": 31}, "at most the 30 training examples"),
    (changed(), {"compress__keep": 1, "compress__rule": "ids", "compress__ids": (2,)}, "not in it"),
    (changed(train_labels=np.full(30, 7)), {}, "label|class"),
    (changed(train_labels=np.zeros(29, int)), {}, "29"),
    (changed(train_images=np.full((30, 4, 4, 3), np.nan, np.float32)), {}, "NaN"),
    (lambda path: None, {}, "npz"),
    (changed(), {"epochs": 0}, "epochs"),
    (changed(), {"devices": 99}, "devices should be at most the 4 of this process, got 99"),
])
def test_bad_input_is_refused_before_anything_is_written(tmp_path, write, config_change, message):
    write(tmp_path / "own.npz")
    with pytest.raises(InputError, match=message):
        train(run_config(tmp_path / "own.npz", **config_change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_folders_that_are_no_run_folders_are_refused(data, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.tex").write_text("do not lose me")
    with pytest.raises(InputError, match="holds no run of margin_jax"):
        train(run_config(data), tmp_path / "notes")
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "file", tmp_path / "file" / "below", ""):
        with pytest.raises(InputError):
            train(run_config(data), workdir)
    assert (tmp_path / "notes" / "thesis.tex").read_text() == "do not lose me"


DIVERGING = {"stop__rule": "epochs", "epochs": 30, "record__margins_every": 1000, "optimizer__weight_decay": 45.0,
             "optimizer__learning_rate": 1.0}


def test_a_run_that_diverges_before_its_first_kept_margins_ends(data, tmp_path):
    with pytest.raises(DivergedError, match="epoch"):
        train(run_config(data, **DIVERGING), tmp_path / "run")
    summary = records.read_json(tmp_path / "run", "summary.json")
    assert summary["status"] == "diverged" and summary["distribution"] is None and summary["epochs"] >= 1
    assert summary["final"]["epoch"] == summary["epochs"] and not (tmp_path / "run" / "margins.npz").exists()
    with pytest.raises(InputError, match=r"over \(diverged\)"):
        train(run_config(data, **DIVERGING), tmp_path / "run")


def test_a_network_without_weights_ends_with_a_warning(data, tmp_path):
    """The product of ten norms of 1e-37 is below the smallest float64, and that of two is not below it."""
    tiny = {"model__init": "normal", "model__init_std": 1e-37, "epochs": 1}
    assert 0 < train(run_config(data, **tiny), tmp_path / "shallow")["final"]["rho"] < 1e-70
    summary = train(run_config(data, model__widths=(4,) * 9, **tiny), tmp_path / "run")
    assert summary["final"]["rho"] == 0 and any("rho is 0" in warning for warning in summary["warnings"])


def interrupted(data, path, monkeypatch, **changes):
    with monkeypatch.context() as patch:
        dying(runs_train.TrainRun, "advance", 3, patch)
        with pytest.raises(Killed):
            train(run_config(data, **changes), path)


def test_a_damaged_checkpoint_is_passed_over_with_one_warning(data, tmp_path, monkeypatch, caplog):
    train(run_config(data), tmp_path / "whole")
    interrupted(data, tmp_path / "run", monkeypatch)
    newest = tmp_path / "run" / "checkpoints" / "latest" / "3" / "default" / "arrays.npz"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 4
    newest.write_bytes(bytes(content))
    train(run_config(data), tmp_path / "run")
    assert len([line for line in caplog.messages if "arrays.npz is damaged" in line and "epoch 2" in line]) == 1
    for name in ("margins.npz", "mask.npz"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_that_lost_all_its_checkpoints_is_refused_and_left_as_it_is(data, tmp_path, monkeypatch):
    interrupted(data, tmp_path / "run", monkeypatch)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    before = {p: p.read_bytes() for p in (tmp_path / "run").glob("*.*")}
    for _ in range(2):
        with pytest.raises(InputError, match="has lost its checkpoints.*beginning anew would lose the records"):
            train(run_config(data), tmp_path / "run")
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").glob("*.*")}


def test_rows_that_a_checkpoint_needs_are_missed_and_named(data, tmp_path, monkeypatch):
    interrupted(data, tmp_path / "run", monkeypatch)
    path = tmp_path / "run" / "metrics.csv"
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    with pytest.raises(InputError, match=r"metrics\.csv is cut"):
        train(run_config(data), tmp_path / "run")
    assert len(list((tmp_path / "run" / "checkpoints" / "latest").iterdir())) == 2


def test_an_interrupted_run_of_a_version_without_checksums_goes_on(data, tmp_path, monkeypatch):
    train(run_config(data), tmp_path / "whole")
    interrupted(data, tmp_path / "run", monkeypatch)
    for path in (tmp_path / "run").rglob("arrays.npz"):
        with np.load(path) as file:
            leaves = dict(file)
        np.savez(path, **leaves)
        path.with_name("records.json").unlink()
    (tmp_path / "run" / "manifest.json").unlink()
    path = tmp_path / "run" / "config.json"
    stored = json.loads(path.read_text())
    assert stored.pop("schema") == 2
    path.write_text(json.dumps(stored))
    train(run_config(data), tmp_path / "run")
    for name in ("margins.npz", "mask.npz"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert records.read_run(tmp_path / "run").metrics["epoch"].tolist() == [1, 2, 3, 4]


def test_a_base_of_a_grid_is_verified_when_it_is_read(data, tmp_path):
    config = run_config(data, compress__mode="grid", compress__keep=6, compress__epochs=1, compress__controls=(),
                        compress__grid_learning_rates=(0.01,), compress__grid_batch_sizes=(7,),
                        compress__grid_optimizers=("sgd",), epochs=2, compress__base=str(tmp_path / "bases"))
    compress(config, tmp_path / "first")
    base = next(path for path in (tmp_path / "bases").iterdir() if path.is_dir())
    content = bytearray((base / "margins.npz").read_bytes())
    stored = np.asarray(records.mapped(base / "margins.npz", "margins"))
    place = content.index(stored.tobytes()) + stored.nbytes - 1
    content[place] ^= 128  # the sign of the last margin
    (base / "margins.npz").write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"margins\.npz is damaged"):
        compress(config, tmp_path / "second")
    content[place] ^= 128
    (base / "margins.npz").write_bytes(bytes(content))
    newest = max((base / "checkpoints" / "latest").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(newest)
    with pytest.raises(InputError, match="no checkpoint of epoch 2, where the run ended"):
        compress(config, tmp_path / "third")


def test_runs_of_one_architecture_share_their_programs(data):
    """Seeds of a loop are traced and compiled once; with NaN traps anew, which a program made without would lack."""
    jobs = []
    for seed in (0, 1):
        config = run_config(data, seed=seed, model__widths=(3,))
        jobs.append(runs_train.make_job(config, runs_job.load_dataset(config)))
    assert jobs[0].run_epoch is jobs[1].run_epoch and jobs[0].evaluate is jobs[1].evaluate
    snapshots = [runs_job.fresh_snapshot(job, job.train.labels.size, 5) for job in jobs]
    params = [runs_train.one_epoch(7, *pair)[0].state.params for pair in zip(jobs, snapshots, strict=True)]
    assert jobs[0].run_epoch._cache_size() == 1
    assert not np.array_equal(*(tree["conv_0"]["kernel"] for tree in params))
    other = run_config(data, model__widths=(3, 3))
    assert runs_train.make_job(other, runs_job.load_dataset(other)).run_epoch is not jobs[0].run_epoch
    with jax.debug_nans(True):
        assert runs_train.make_job(config, runs_job.load_dataset(config)).run_epoch is not jobs[0].run_epoch
