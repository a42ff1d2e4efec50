"""Sweeps: every network as if alone, whatever its chunk, its process, and whatever becomes of the others."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest
from helpers.interruptions import dying_in_turn
from helpers.runs import run_config

from margin_jax.backend import Share
from margin_jax.config import default_config
from margin_jax.errors import InputError
from margin_jax.experiments import many_networks, sweep_results
from margin_jax.experiments.sweep import sweep
from margin_jax.experiments.sweep_members import member_config, member_path, members
from margin_jax.experiments.sweep_results import Compared
from margin_jax.experiments.train import TrainRun, train
from margin_jax.run_folder import read as records
from margin_jax.run_folder import tables as columns

SWEEP = {"epochs": 25, "stop__rule": "separation", "stop__after": 1, "stop__smallest": 5, "record__every": 4,
         "sweep__networks": 7, "sweep__init_stds": (), "sweep__resamples": 20, "checkpoint_seconds": 1e9,
         "optimizer__learning_rate": 0.05}
TABLES = ("networks.csv", "moments.csv", "audit.csv")


@pytest.fixture(name="done", scope="module")
def _done(data, tmp_path_factory):
    """Seven networks on four devices, in two chunks of four and three."""
    path = tmp_path_factory.mktemp("done") / "sweep"
    sweep(run_config(data, **SWEEP, sweep__chunk=4), path)
    return path


def margins_of(path, member):
    return records.read_margins(member_path(path, member))


def same_results(first, second, config):
    for name in TABLES:
        assert (first / name).read_text() == (second / name).read_text(), name
    for member in members(config):
        for a, b in zip(margins_of(first, member), margins_of(second, member), strict=True):
            np.testing.assert_array_equal(a, b)


def test_each_network_is_the_run_that_trains_it_alone(data, done, tmp_path):
    config = run_config(data, **SWEEP, sweep__chunk=4)
    chosen = members(config)
    for member in (chosen[0], chosen[-1]):  # on the first device, and beside padding
        path = tmp_path / str(member.number)
        train(member_config(config, member), path)
        ours, alone = margins_of(done, member), records.read_margins(path)
        np.testing.assert_array_equal(ours.epochs, alone.epochs)
        # To rounding: a program of several networks is another program.
        np.testing.assert_allclose(ours.margins, alone.margins, rtol=1e-3, atol=1e-3)
        summaries = [records.read_json(where, "summary.json") for where in (member_path(done, member), path)]
        assert summaries[0]["separation_epoch"] == summaries[1]["separation_epoch"]
        config_json = records.read_json(member_path(done, member), "config.json")
        assert config_json["config"] == records.read_json(path, "config.json")["config"]
        assert config_json["data"] == records.read_json(path, "config.json")["data"]


def test_tables_say_what_the_run_folders_say(data, done):
    table, moments = columns.read_networks(done), columns.rows_of(columns.read_networks(done, "moments.csv"))
    rows = columns.rows_of(table)
    assert [row["network"] for row in rows] == list(range(7)) and [row["seed"] for row in rows] == list(range(7))
    for row in rows:
        path = done / "networks" / f"{row['network']:03d}"
        metrics, stored = records.read_metrics(path), records.read_margins(path)
        assert row["test_error"] == metrics["test_error"][-1] and row["epoch"] == metrics["epoch"][-1]
        curve = stored.normalised(-1)
        np.testing.assert_allclose(row["auc_mean"], curve.mean(), rtol=1e-4)
        np.testing.assert_allclose(row["margin_smallest"], curve.min(), rtol=1e-3, atol=1e-6)
        summary = records.read_json(path, "summary.json")
        assert row["status"] == ("finished" if summary["separation_epoch"] else "not separated")
    for name in ("separation", "end"):
        here = [row for row in moments if row["moment"] == name]
        assert len(here) >= 5  # of the seven
        pooled = np.median([margins_at(done, row) for row in here])
        for row in here:
            curve = margins_at(done, row)
            np.testing.assert_allclose(row["auc_ramp_pooled@0.5"], np.clip(2 * curve / pooled, 0, 1).mean(), rtol=1e-4)
            assert row["small_margin_count_pooled@1"] == np.sum(curve / pooled <= curve.min() / pooled + 1)
    summary = records.read_json(done, "summary.json")
    assert summary["networks"] == 7 and summary["separated"] == sum(row["status"] == "finished" for row in rows)
    wide = [row["network"] for row in rows if margins_at(done, row).max() < 0.1]  # gamma 0.1 is beyond their curves
    told = [w for w in summary["warnings"] if w.startswith("end: gamma 0.1 exceeds")]
    assert [f"margin of {len(wide)} of 7" in w for w in told] == [True] * bool(wide)
    overlaps = np.load(done / "overlap.npz")
    assert "end_20" in overlaps and np.all(np.diag(overlaps["end_20"]) == 1)
    first, second = (set(np.argsort(margins_at(done, row), kind="stable")[:20]) for row in rows[:2])
    np.testing.assert_allclose(overlaps["end_20"][0, 1], len(first & second) / 20)


def margins_at(path, row):
    stored = records.read_margins(path / "networks" / f"{row['network']:03d}")
    return stored.normalised(np.flatnonzero(stored.epochs == row["epoch"])[0])


def rows_of(path):
    with open(path / "networks.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_norm_that_one_network_lacks_is_missing_there_and_changes_no_other_number(data, done, tmp_path):
    path, config = tmp_path / "sweep", run_config(data, **SWEEP, sweep__chunk=4)
    shutil.copytree(done, path)
    lacking = path / "networks" / "002" / "moments.json"
    moments = json.loads(lacking.read_text())
    for moment in moments.values():
        del moment["log_rho"]["operator"], moment["margins"]["operator"]
    lacking.write_text(json.dumps(moments))
    (path / "networks" / "002" / "manifest.json").unlink()  # as of a version without checksums
    for name in ("summary.json", *TABLES):
        (path / name).unlink()
    sweep(config, path)
    before, after = rows_of(done), rows_of(path)
    of_operators = [key for key in before[0] if key.startswith("operator:") or key == "log_rho:operator"]
    pooled = [key for key in of_operators if "_pooled@" in key]  # over fewer networks now
    assert len(of_operators) > 20 and list(before[0]) == list(after[0])
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        missing = {key for key in old if old[key] and new[key] in ("", "nan")}
        assert missing == ({key for key in of_operators if old[key]} if number == 2 else set())
        assert {key: value for key, value in old.items() if key not in (*missing, *pooled)} == {
            key: value for key, value in new.items() if key not in (*missing, *pooled)}


def test_chunks_and_processes_change_nothing(data, done, tmp_path):
    config = run_config(data, **SWEEP, sweep__chunk=4)
    assert sweep(config, tmp_path / "shared", Share(1, 2)) is None  # the second process ends first
    assert not (tmp_path / "shared" / "networks.csv").exists()
    assert sweep(config, tmp_path / "shared", Share(0, 2))["networks"] == 7
    assert sweep(config, tmp_path / "shared", Share(1, 2))["networks"] == 7  # started once more, it reads
    same_results(done, tmp_path / "shared", config)


def test_a_sweep_killed_twice_ends_equal(data, done, tmp_path, monkeypatch):
    config = run_config(data, **SWEEP, sweep__chunk=4)
    config.checkpoint_seconds = 0.0
    dying_in_turn([(many_networks.ManyRun, "save", 2), (many_networks.ManyRun, "_record", 3)], monkeypatch,
                  lambda: sweep(config, tmp_path / "sweep"))
    sweep(config, tmp_path / "sweep")
    same_results(done, tmp_path / "sweep", config)


def test_networks_under_vmap_are_recorded_like_those_of_a_loop(data, tmp_path, monkeypatch):
    changes = SWEEP | {"sweep__networks": 5, "epochs": 3, "stop__rule": "epochs", "record__every": 1}
    sweep(run_config(data, **changes), tmp_path / "loop")
    reached = []
    monkeypatch.setattr(many_networks, "ensemble_mapping", lambda backend: reached.append(backend) or "vmap")
    sweep(run_config(data, **changes), tmp_path / "vmap")
    assert reached
    for member in members(run_config(data, **changes)):
        first, second = (margins_of(tmp_path / name, member) for name in ("loop", "vmap"))
        assert first.epochs.tolist() == second.epochs.tolist() == [1, 2, 3]
        np.testing.assert_allclose(first.margins, second.margins, rtol=1e-3, atol=1e-3)


def test_a_network_that_diverges_is_told_and_leaves_the_others_as_they_are(data, tmp_path):
    changes = SWEEP | {"sweep__networks": 2, "epochs": 4, "stop__rule": "epochs", "optimizer__weight_decay": 0.01}
    sweep(run_config(data, **changes), tmp_path / "good")
    sweep(run_config(data, **(changes | {"sweep__networks": 4, "sweep__learning_rates": (0.05, 1e38)})),
          tmp_path / "some")
    rows = columns.rows_of(columns.read_networks(tmp_path / "some"))
    assert [row["status"] == "diverged" for row in rows] == [False, True, False, True]
    assert records.read_json(tmp_path / "some", "summary.json")["left_out"]["diverged"] == [1, 3]
    for alone, beside in ((0, 0), (1, 2)):
        first, second = (records.read_margins(tmp_path / name / "networks" / f"{number:03d}").margins
                         for name, number in (("good", alone), ("some", beside)))
        np.testing.assert_array_equal(first, second)


def test_labels_weight_decay_and_architecture_are_each_network_s_own(data, tmp_path):
    config = run_config(data, **(SWEEP | {"sweep__networks": 8, "sweep__weight_decays": (0.0, 0.1), "epochs": 2,
                                          "sweep__random_fractions": (0.0, 0.5), "stop__rule": "epochs",
                                          "sweep__batch_norms": (True, False), "sweep__chunk": 8}))
    sweep(config, tmp_path / "sweep")
    chosen = members(config)
    for last in (chosen[3], chosen[7]):
        assert (last.weight_decay, last.random_fraction, last.batch_norm) == (0.1, 0.5, last.number == 3)
        train(member_config(config, last), tmp_path / f"alone_{last.number}")
        ours, alone = margins_of(tmp_path / "sweep", last), records.read_margins(tmp_path / f"alone_{last.number}")
        np.testing.assert_array_equal(ours.labels, alone.labels)
        assert not np.array_equal(ours.labels, margins_of(tmp_path / "sweep", chosen[0]).labels)
        np.testing.assert_allclose(ours.margins, alone.margins, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(ours.rho, alone.rho, rtol=1e-3)
    chunks = [records.read_json(path, "summary.json")["networks"]
              for path in sorted((tmp_path / "sweep" / "chunks").iterdir())]
    assert chunks == [[0, 1, 2, 3], [4, 5, 6, 7]]  # no program trains both kinds, whatever fits
    rows = columns.rows_of(columns.read_networks(tmp_path / "sweep", "moments.csv"))
    assert [row["batch_norm"] for row in rows] == [1] * 4 + [0] * 4 and {row["moment"] for row in rows} == {"end"}
    for part in (rows[:4], rows[4:]):  # names without a prefix: each kind under its own rho, pooled with its own kind
        curves = [margins_at(tmp_path / "sweep", row) for row in part]
        for row, curve in zip(part, curves, strict=True):
            np.testing.assert_allclose(row["auc_mean"], curve.mean(), rtol=1e-3, atol=1e-6)
            assert (row["log_rho:batch_norm"] == row["log_rho:batch_norm"]) == bool(row["batch_norm"])
        pooled = np.median(curves)
        if pooled > 0:
            np.testing.assert_allclose([row["auc_ramp_pooled@1"] for row in part],
                                       [np.clip(curve / pooled, 0, 1).mean() for curve in curves], rtol=1e-3, atol=1e-6)
    assert columns.read_table(tmp_path / "sweep", "audit.csv", required=False)["measure"].size == 0


def test_every_seed_may_have_a_draw_of_random_labels(data, tmp_path):
    config = run_config(data, **(SWEEP | {"sweep__networks": 4, "sweep__random_fractions": (0.0, 1.0), "epochs": 1,
                                          "sweep__label_draws": "by_seed", "stop__rule": "epochs"}))
    sweep(config, tmp_path / "sweep")
    natural, random, natural_next, random_next = (margins_of(tmp_path / "sweep", member).labels
                                                  for member in members(config))
    np.testing.assert_array_equal(natural, natural_next)
    assert (random != random_next).any()
    train(member_config(config, members(config)[3]), tmp_path / "alone")
    np.testing.assert_array_equal(random_next, records.read_margins(tmp_path / "alone").labels)
    digests = [records.read_json(tmp_path / "sweep" / "networks" / f"{number:03d}", "config.json")["data"]["digest"]
               for number in range(4)]
    assert len(set(digests)) == 3 and digests[0] == digests[2]


def test_kinds_of_networks_are_not_ranked_against_one_another():
    rows = [{"train_error": 0.0, "random_fraction": 0.0, "batch_norm": number % 2} for number in range(6)]
    found = sweep_results._judge(default_config(), "end", Compared(rows, np.ones((6, 3)), np.arange(3)), ())
    assert found == ([], ["end: no audit, the networks are of several kinds, which differ in batch_norm"])


def test_margins_are_kept_where_the_config_says_and_at_the_moments(data, tmp_path):
    config = run_config(data, **(SWEEP | {"sweep__networks": 1, "record__every": 1, "record__margins_every": 1000,
                                          "stop__rule": "convergence", "stop__overlap": 0.2, "stop__times": 2,
                                          "epochs": 60, "sweep__train_loss": 0.3}))
    sweep(config, tmp_path / "sweep")
    path = tmp_path / "sweep" / "networks" / "000"
    moments = json.loads((path / "moments.json").read_text())
    assert set(moments) == set(columns.MOMENTS)
    assert records.read_margins(path).epochs.tolist() == sorted({row["epoch"] for row in moments.values()})
    metrics = records.read_metrics(path)
    assert metrics["epoch"].size > records.read_margins(path).epochs.size
    assert moments["loss"]["epoch"] == metrics["epoch"][np.argmax(metrics["train_loss"] <= 0.3)]


@pytest.mark.parametrize("changes,message", [
    ({"compress__keep": 5}, "removes nothing"),
    ({"sweep__networks": 5, "sweep__weight_decays": (0.0, 0.1)}, "a multiple of the 2 combinations"),
    ({"sweep__networks": 5, "sweep__init_stds": (0.1, 0.2)}, "gives 1 standard deviations"),
    ({"sweep__init_stds": (0.2, 0.1)}, "lowest and the highest"),
    ({"sweep__random_fractions": (1.5,)}, r"in \[0, 1\]"),
    ({"sweep__batch_norms": (1,)}, "some of True and False"),
    ({"sweep__batch_norms": (True, False), "rho__mode": "batch_norm", "model__batch_norm": True}, "default, all"),
    ({"sweep__batch_norms": (False,), "model__name": "densenet", "model__batch_norm": True}, "always has BatchNorm"),
    ({"sweep__batch_norms": (True, False), "sweep__networks": 5}, "a multiple of the 2 combinations"),
])
def test_bad_sweeps_are_refused_before_anything_is_written(data, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        sweep(run_config(data, **(SWEEP | changes)), tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_the_folder_of_another_job_is_refused(data, tmp_path, monkeypatch):
    config = run_config(data, **SWEEP)
    dying_in_turn([(TrainRun, "record", 1)], monkeypatch, lambda: train(config, tmp_path / "run"))
    with pytest.raises(InputError, match="started by launch/train.py"):
        sweep(config, tmp_path / "run")


def test_four_devices_are_there():
    assert len(jax.local_devices()) == 4  # the sweeps above are shared out among them


def test_a_network_that_diverges_without_margins_does_not_stop_the_sweep(data, tmp_path):
    config = run_config(data, **SWEEP | {"sweep__networks": 2, "stop__rule": "epochs", "stop__after": 0,
                                         "record__every": 1, "record__margins_every": 1000},
                        sweep__weight_decays=(0.0, 1000.0))
    summary = sweep(config, tmp_path / "sweep")
    assert summary["left_out"]["diverged"] == [1]
    paths = [member_path(tmp_path / "sweep", member) for member in members(config)]
    assert [(path / "margins.npz").exists() for path in paths] == [True, False]
    assert records.read_metrics(paths[1])["epoch"].size >= 1


def test_a_sweep_goes_on_from_the_checkpoint_before_a_damaged_one(data, tmp_path, monkeypatch):
    config = run_config(data, **SWEEP | {"sweep__networks": 2, "checkpoint_seconds": 0.0, "stop__rule": "epochs",
                                         "epochs": 5, "stop__after": 0})
    sweep(config, tmp_path / "whole")
    dying_in_turn([(many_networks.ManyRun, "_after_epoch", 4)], monkeypatch, lambda: sweep(config, tmp_path / "sweep"))
    steps = sorted((tmp_path / "sweep" / "chunks" / "000" / "checkpoints" / "latest").iterdir(),
                   key=lambda path: int(path.name))
    (steps[-1] / "default" / "arrays.npz").unlink()
    sweep(config, tmp_path / "sweep")
    same_results(tmp_path / "whole", tmp_path / "sweep", config)
    path = member_path(tmp_path / "sweep", members(config)[0]) / "metrics.csv"
    path.write_text(path.read_text().replace("\n5,", "\n6,"))
    (tmp_path / "sweep" / "summary.json").unlink()
    with pytest.raises(InputError, match=r"000/metrics\.csv is damaged"):
        records.read_run(path.parent)
