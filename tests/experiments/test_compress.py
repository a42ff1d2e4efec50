"""Compressions: branches that equal runs of their own, controls, and what interruptions and failures leave."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.interruptions import Killed, cells_of, compression, dying_in_turn, params_of, same_tables
from helpers.networks import assert_trees_equal

from margin_jax.errors import InputError
from margin_jax.experiments import branches
from margin_jax.experiments.compress import compress
from margin_jax.experiments.job import load_dataset, make_job
from margin_jax.experiments.train import TrainRun, train
from margin_jax.run_folder import read as records
from margin_jax.training.epoch import make_plan


@pytest.fixture(name="done", scope="module")
def _done(data, tmp_path_factory):
    """An immediate compression that is over, with settings unchanged after the removal."""
    path = tmp_path_factory.mktemp("done") / "run"
    compress(compression(data, compress__keeps=(6, 3)), path)
    return path


def test_every_rule_has_its_controls_and_its_numbers(done):
    rows = cells_of(done)
    found = {(row["rule"], row["kept"], row["scope"]) for row in rows}
    rules = ("smallest", "random", "largest", "balanced")
    assert found == {(rule, kept, scope) for rule in rules for kept in (6, 3) for scope in ("after", "scratch")} | {
        ("frozen", 30, "after"), ("full", 30, "after")}
    by_key = {(row["rule"], row["kept"], row["scope"]): row for row in rows}
    full, frozen = by_key["full", 30, "after"], by_key["frozen", 30, "after"]
    assert frozen["moved"] == frozen["updates"] == 0 and full["drop"] == 0 and frozen["drop_frozen"] == 0
    for row in rows:
        np.testing.assert_allclose(row["drop"], row["test_error"] - full["test_error"])
        np.testing.assert_allclose(row["drop_frozen"], row["test_error"] - frozen["test_error"])
        assert row["updates"] == row["epochs"] * math.ceil(row["kept"] / 7) and row["status"] == "finished"
        assert math.isnan(row["moved"]) == (row["scope"] == "scratch")
    summary = records.read_json(done, "summary.json")
    assert summary["failed"] == 0 and summary["bases"][0]["status"] == "finished"
    separation = summary["bases"][0]["separation_epoch"]
    assert by_key["smallest", 6, "after"]["epochs"] == 3
    assert by_key["smallest", 6, "scratch"]["epochs"] == separation + 3


def test_a_branch_equals_one_run_with_a_removal_bit_for_bit(data, done, tmp_path):
    train(compression(data), tmp_path / "single")
    assert_trees_equal(params_of(tmp_path / "single"), params_of(done / "seed_0" / "smallest_6"))
    single, branch = (records.read_mask(path) for path in (tmp_path / "single", done / "seed_0" / "smallest_6"))
    np.testing.assert_array_equal(single["mask"], branch["mask"])


def test_the_rules_keep_what_the_margins_at_the_removal_say(done):
    stored = records.read_margins(done / "base" / "seed_0")
    order = stored.ids[np.argsort(stored.margins[-1], kind="stable")]
    kept = {(row["rule"], row["kept"]): row["ids"] for row in json.loads((done / "kept_ids.json").read_text())}
    assert kept["smallest", 6] == order[:6].tolist() and kept["smallest", 3] == order[:3].tolist()
    assert sorted(kept["largest", 3]) == sorted(order[-3:].tolist())
    assert set(kept["random", 3]) < set(kept["random", 6])
    labels = dict(zip(stored.ids.tolist(), stored.labels.tolist(), strict=True))
    assert sorted(labels[i] for i in kept["balanced", 3]) == [0, 1, 2]


def test_moved_and_losses_are_those_of_the_parameters_and_the_kept_examples(done):
    before, after = (jax.tree.leaves(params_of(path)) for path in (done / "base" / "seed_0",
                                                                   done / "seed_0" / "smallest_6"))
    gap = sum(np.sum((np.float64(a) - np.float64(b)) ** 2) for a, b in zip(after, before, strict=True))
    row = next(r for r in cells_of(done) if (r["rule"], r["kept"], r["scope"]) == ("smallest", 6, "after"))
    np.testing.assert_allclose(row["moved"], np.sqrt(gap / sum(np.sum(np.float64(b) ** 2) for b in before)))
    metrics = records.read_metrics(done / "seed_0" / "smallest_6")
    assert metrics["kept"].tolist() == [6] * metrics["kept"].size
    assert (row["loss_start"], row["loss_end"]) == (metrics["train_loss"][0], metrics["train_loss"][-1])


def test_from_scratch_trains_a_fresh_network_on_the_same_examples(data, done):
    config, path = compression(data), done / "seed_0" / "smallest_6_scratch"
    dataset = load_dataset(config)
    job, mask = make_job(config, dataset), records.read_mask(path)["mask"]
    np.testing.assert_array_equal(mask, records.read_mask(done / "seed_0" / "smallest_6")["mask"])
    plan, batch = make_plan(7, 6, job.micro_batch, False, total=30)
    state = job.state
    for _ in range(records.read_json(path, "summary.json")["epochs"]):
        state, _ = job.run_epoch(state, job.train, jnp.asarray(mask), jnp.int32(batch), plan)
    assert_trees_equal(jax.device_get(state.params), params_of(path))


def test_immediate_branches_killed_between_end_equal(data, done, tmp_path, monkeypatch):
    config = compression(data, compress__keeps=(6, 3), compress__base=str(done / "base"))
    with monkeypatch.context() as patch:
        original, calls = branches.run_in, []

        def run_in(*args, **kwargs):
            calls.append(1)
            if len(calls) == 4:
                raise Killed
            return original(*args, **kwargs)

        patch.setattr(branches, "run_in", run_in)
        with pytest.raises(Killed):
            compress(config, tmp_path / "run")
    compress(config, tmp_path / "run")
    same_tables(done, tmp_path / "run")


def test_another_rate_batch_and_optimiser_hold_after_the_removal_alone(data, done, tmp_path):
    config = compression(data, compress__controls=("full",), compress__base=str(done / "base"),
                         compress__optimizer="adam", compress__learning_rate=0.003, compress__batch_size=2)
    compress(config, tmp_path / "run")
    rows = {row["rule"]: row for row in cells_of(tmp_path / "run")}
    assert [rows["smallest"][name] for name in ("optimizer", "learning_rate", "batch_size", "updates")] == [
        "adam", 0.003, 2, 9]
    assert [rows["full"][name] for name in ("optimizer", "learning_rate", "batch_size")] == ["sgd", 0.02, 7]


def test_a_network_that_does_not_separate_is_told_and_nothing_is_removed(data, tmp_path):
    compress(compression(data, epochs=1, optimizer__learning_rate=1e-6), tmp_path / "run")
    rows = cells_of(tmp_path / "run")
    assert {row["status"] for row in rows} == {"not separated"}
    assert "did not separate within 1 epochs" in rows[0]["reason"]


def test_a_branch_that_diverges_is_a_row_with_its_reason(data, done, tmp_path):
    compress(compression(data, compress__controls=("full",), compress__learning_rate=1e38,
                         compress__base=str(done / "base")), tmp_path / "run")
    rows = {row["rule"]: row for row in cells_of(tmp_path / "run")}
    assert rows["smallest"]["status"] == "diverged" and "not finite in epoch" in rows["smallest"]["reason"]
    assert math.isnan(rows["smallest"]["test_error"]) and rows["full"]["status"] == "finished"


def test_networks_are_shared_between_compressions_and_others_are_refused(data, done, tmp_path):
    config = compression(data, compress__base=str(done / "base"), compress__keep=4, compress__controls=())
    before = {p: p.read_bytes() for p in (done / "base").rglob("*.csv")}
    compress(config, tmp_path / "run")
    assert not (tmp_path / "run" / "base").exists()
    assert before == {p: p.read_bytes() for p in (done / "base").rglob("*.csv")}
    config.optimizer.learning_rate = 0.01
    with pytest.raises(InputError, match="another config"):
        compress(config, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("changes,message", [
    ({"compress__keep": 0}, "the count to keep"),
    ({"compress__keeps": (6, 31)}, "at most the 30"),
    ({"compress__keeps": (6, 6)}, "distinct"),
    ({"compress__mode": "continuous", "compress__keeps": (15,)}, "of the counts of compress.schedule, 20"),
    ({"compress__mode": "grid", "compress__learning_rate": 0.1}, "does not use it"),
    ({"compress__init_stds": (0.1,)}, "does not use it"),
    ({"compress__mode": "continuous", "compress__updates": 3}, "does not use it"),
    ({"compress__controls": ("full_updates",)}, "without 'full_updates', which a grid alone has"),
    ({"compress__rule": "balanced", "compress__balanced": True}, "is so already"),
    ({"compress__mode": "sometimes"}, "one of immediate, continuous, grid"),
    ({"compress__controls": ("frozen", "best")}, "some of"),
    ({"compress__mode": "continuous", "compress__epochs": 0}, ">= 1 in mode"),
    ({"compress__mode": "continuous", "compress__keep": 0}, "fresh networks are trained"),
    ({"compress__mode": "continuous", "compress__schedule": ((1, 1), (4, 1))}, "until"),
    ({"compress__rule": "ids", "compress__ids": (1, 4, 7, 10, 13, 16), "compress__balanced": True}, "names every"),
    ({"compress__mode": "grid", "compress__grid_learning_rates": ()}, "one or more distinct numbers"),
    ({"compress__batch_norm": "off"}, "tracked, frozen, fixed"),
])
def test_bad_compressions_are_refused_before_anything_is_written(data, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        compress(compression(data, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_killed_before_its_removal_goes_on_on_several_devices(data, tmp_path, monkeypatch):
    config = compression(data, devices=4, compress__controls=("full",))
    compress(config, tmp_path / "whole")
    config.checkpoint_seconds = 0.0
    dying_in_turn([(TrainRun, "save", 4)], monkeypatch, lambda: compress(config, tmp_path / "parts"))
    compress(config, tmp_path / "parts")
    same_tables(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("rule", ["el2n", "grand", "forgetting", "aum", "kkt", "kcenter", "window", "stratified",
                                  "ids"])
def test_every_rule_of_scores_keeps_its_count_from_a_shared_base(data, done, tmp_path, rule):
    ids = (1, 4, 88, 7, 10, 13) if rule == "ids" else ()
    config = compression(data, compress__rule=rule, compress__ids=ids, compress__base=str(done / "base"),
                         compress__controls=("full",), compress__epochs=3, compress__balanced=rule == "grand")
    compress(config, tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "kept_ids.json").read_text())
    assert [len(row["ids"]) for row in kept] == [6] and (rule != "ids" or sorted(kept[0]["ids"]) == sorted(ids))
    row = next(r for r in cells_of(tmp_path / "run") if r["rule"] != "full")
    assert row["rule"] == ("grand+balanced" if rule == "grand" else rule) and row["drop"] == row["drop"]


@pytest.mark.parametrize("stop,epochs,status", [("epochs", 2, "finished"), ("convergence", 60, "finished"),
                                                ("convergence", 12, "not converged")])
def test_the_moment_of_removal_is_that_of_the_stop_rule(data, tmp_path, stop, epochs, status):
    config = compression(data, stop__rule=stop, epochs=epochs, stop__overlap=0.6, stop__times=2, record__every=1,
                         compress__controls=())
    summary = compress(config, tmp_path / "run")
    assert summary["bases"][0]["status"] == status
    if stop == "epochs":
        assert summary["bases"][0]["at_removal"]["epoch"] == 2
    elif status == "finished":
        stored = records.read_margins(tmp_path / "run" / "base" / "seed_0")
        sets = [set(np.argsort(row, kind="stable")[:5]) for row in np.asarray(stored.margins[-3:])]
        assert all(len(a & b) >= 3 for a, b in zip(sets, sets[1:], strict=False))
