"""launch/stability.py: trials together as if alone, a point replaced by itself, interruptions, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.interruptions import dying_in_turn
from helpers.runs import run_config

from margin_jax.errors import InputError
from margin_jax.experiments import stability as job_module
from margin_jax.experiments.job import load_dataset, make_job
from margin_jax.experiments.stability import TrainedOn, chunk_size, stability
from margin_jax.run_folder import read as records
from margin_jax.run_folder import tables as columns
from margin_jax.theory.replace_one import Trial
from margin_jax.training.epoch import make_plan
from plots.stability import draw as draw_stability

SETTINGS = {"epochs": 60, "stop__rule": "separation", "optimizer__learning_rate": 0.02, "record__every": 4,
            "checkpoint_seconds": 1e9, "stability__trials": 3, "stability__epochs": 2, "stability__chunk": 4,
            "stability__deletions": ()}
N, TEST = 30, 12


def config_of(data, **changes):
    return run_config(data, **(SETTINGS | changes))


@pytest.fixture(name="done", scope="module")
def _done(data, tmp_path_factory):
    """Nine trials in chunks of four, four and one."""
    path = tmp_path_factory.mktemp("done") / "stability"
    stability(config_of(data), path)
    return path


def prepared(config):
    """A network after no training, which is as good as a separated one here, ready to be trained on."""
    dataset = load_dataset(config)
    job = make_job(config, dataset)
    return dataset, job, TrainedOn(config, dataset, job, jax.device_get(job.state), config.stability.chunk)


def alone(config, dataset, job, trial):
    """One network trained on a data set in which the swap is made by hand: rho, and logits of all rows."""
    images, labels = (np.array(getattr(dataset.train, name)) for name in ("images", "labels"))
    if trial is not None:
        images[trial.out_row] = dataset.test.images[trial.in_row - N]
        labels[trial.out_row] = dataset.test.labels[trial.in_row - N]
    examples = job.train._replace(images=jnp.asarray(images), labels=jnp.asarray(labels))
    plan, batch = make_plan(config.batch_size, N, job.micro_batch, job.network.batched, total=N)
    state = jax.tree.map(jnp.array, job.state)
    for _ in range(config.stability.epochs):
        state, _ = job.run_epoch(state, examples, jnp.ones(N, bool), jnp.int32(batch), plan)
    kernels = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(state.params) if leaf.ndim > 1]
    x = np.concatenate([dataset.train.images, dataset.test.images]).astype(np.float32)
    x = (x - np.asarray(job.train.mean)) / np.asarray(job.train.std)
    logits = jax.jit(job.network.logits)(state.params, state.batch_stats, jnp.asarray(x))
    return float(np.prod([np.sqrt((kernel**2).sum()) for kernel in kernels])), np.asarray(logits, np.float64)


@pytest.mark.parametrize("mapping,changes", [
    ("loop", {}), ("vmap", {"shuffle": True, "model__batch_norm": True, "rho__mode": "all"})])
def test_trials_together_are_trials_alone_and_a_point_replaced_by_itself_changes_nothing(data, monkeypatch, mapping,
                                                                                         changes):
    reached = []
    monkeypatch.setattr(job_module, "ensemble_mapping", lambda backend: reached.append(backend) or mapping)
    config = config_of(data, **changes)
    dataset, job, trained_on = prepared(config)
    assert reached
    chosen = [Trial(0, "random", 7, N + 5), Trial(0, "smallest", 3, 3), Trial(1, "random", N - 1, N + TEST - 1),
              Trial(2, "random", 0, N)]
    told = []
    before, rows = trained_on.run(chosen, told.append)
    assert told == [1, 2] and before["status"] == "finished"
    assert all(rows[1][name] == 0 for name in rows[1] if name.startswith("d_")) and rows[1]["moved"] == 0
    rho, logits = alone(config, dataset, job, None)
    np.testing.assert_allclose(before["rho"], rho, rtol=1e-4)
    for trial, row in zip(chosen, rows, strict=True):
        if trial.in_row < N:
            continue
        own_rho, own = alone(config, dataset, job, trial)
        tested = np.setdiff1d(np.arange(N, N + TEST), trial.in_row)
        labels = dataset.test.labels[tested - N]
        loss = [np.mean(np.log(np.exp(one[tested]).sum(axis=1)) - one[tested, labels]) for one in (logits, own)]
        apart = np.linalg.norm(own[tested] / own_rho - logits[tested] / rho, axis=1).mean()
        assert row["moved"] > 0 and row["status"] == "finished"
        np.testing.assert_allclose(row["d_rho"], own_rho - rho, rtol=1e-2, atol=1e-4 * rho)
        np.testing.assert_allclose(row["d_test_loss"], loss[1] - loss[0], rtol=1e-2, atol=1e-5)
        np.testing.assert_allclose(row["d_output"], apart, rtol=1e-2, atol=1e-6)
    # Fewer trials leave places that rest, in the same program.
    _, fewer = trained_on.run(chosen[:1], told.append)
    assert fewer[0] == rows[0]


def test_a_trial_that_diverges_is_told_and_leaves_the_others_as_they_are(data):
    dataset, job, trained_on = prepared(config := config_of(data))
    calm, broken = Trial(0, "random", 7, N + 5), Trial(1, "random", 8, N + 6)
    _, expected = trained_on.run([calm], lambda epoch: None)
    images = dataset.test.images.astype(np.float32)
    images[6] = np.inf
    spoilt = dataclasses.replace(
        dataset, train=dataclasses.replace(dataset.train, images=dataset.train.images.astype(np.float32)),
        test=dataclasses.replace(dataset.test, images=images))
    trained_on = TrainedOn(config, spoilt, job, jax.device_get(job.state), 4)
    before, rows = trained_on.run([broken, calm], lambda epoch: None)
    assert rows[0] == {"status": "diverged", "reason": rows[0]["reason"]} and "epoch 1, step 2" in rows[0]["reason"]
    assert before["status"] == rows[1]["status"] == "finished"
    assert rows[1]["moved"] == expected[0]["moved"] and rows[1]["d_rho"] == expected[0]["d_rho"]
    state = jax.device_get(job.state)
    nan = state._replace(params=jax.tree.map(lambda leaf: leaf * np.nan, state.params))
    before, rows = TrainedOn(config, spoilt, job, nan, 4).run([calm], lambda epoch: None)
    assert before["status"] == "diverged" and rows == []


def test_the_table_says_which_points_were_replaced(data, done):
    rows = columns.rows_of(columns.read_table(done, "trials.csv"))
    stored, dataset = records.read_margins(done / "base" / "seed_0"), load_dataset(config_of(data))
    normalised = stored.normalised(-1)
    assert [(row["trial"], row["choice"]) for row in rows] == [
        (trial, choice) for trial in range(3) for choice in ("smallest", "random", "largest")]
    where = {int(i): place for place, i in enumerate(stored.ids)}
    for row in rows:
        place = where[row["out_id"]]
        np.testing.assert_allclose(row["out_margin"], normalised[place], rtol=1e-5)
        assert row["out_label"] == stored.labels[place]
        assert row["in_label"] == dataset.test.labels[np.flatnonzero(dataset.test.ids == row["in_id"])[0]]
        assert row["status"] == "finished" and row["d_output"] >= 0 and row["moved"] > 0
        extreme = {"smallest": normalised.min(), "largest": normalised.max()}.get(row["choice"])
        assert extreme is None or normalised[place] == extreme
    summary = records.read_json(done, "summary.json")
    assert summary["status"] == "finished" and summary["trials"] == 9 and summary["diverged"] == 0
    assert summary["base"]["row"]["train_error"] == 0 and summary["continued"]["rho"] > 0
    assert summary["deletions_left_out"] == "stability.deletions is ()"


def test_a_job_killed_twice_ends_equal(data, done, tmp_path, monkeypatch):
    config = config_of(data, stability__base=str(done / "base"))  # shared, and so not trained again
    for at in (1, 2):
        dying_in_turn([(TrainedOn, "run", at)], monkeypatch, lambda: stability(config, tmp_path / "job"))
        assert (tmp_path / "job" / "trials.csv").is_file() == (at == 2)
    calls = []
    monkeypatch.setattr(job_module.TrainedOn, "_train", _counted(TrainedOn._train, calls))
    summary = stability(config, tmp_path / "job")
    assert len(calls) == 2 and not (tmp_path / "job" / "base").exists()
    assert (tmp_path / "job" / "trials.csv").read_text() == (done / "trials.csv").read_text()
    assert summary["continued"] == records.read_json(done, "summary.json")["continued"]
    with pytest.raises(InputError, match="never overwritten"):
        stability(config, tmp_path / "job")


def _counted(original, calls):
    def method(self, *args):
        calls.append(1)
        return original(self, *args)
    return method


def test_a_network_that_does_not_separate_has_no_trials(data, tmp_path):
    summary = stability(config_of(data, epochs=1), tmp_path / "job")
    assert summary["status"] == "not separated" and "within 1 epochs" in summary["reason"]
    assert summary["trials"] == 0 and not (tmp_path / "job" / "trials.csv").exists()


@pytest.mark.parametrize("changes,message", [
    ({"stop__rule": "epochs"}, "stop.rule should be separation or convergence"),
    ({"stability__trials": 0}, "stability.trials should be > 0 where stability.deletions is"),
    ({"stability__trials": -1}, "stability.trials should be >= 0"),
    ({"stability__choices": ()}, "one or more choices"),
    ({"stability__choices": ("random", "middle")}, "some of smallest, random, largest"),
    ({"stability__pool": N + 1}, f"at most the {N} training examples"),
    ({"stability__pool": 0}, "stability.pool should be >= 1"),
    ({"stability__epochs": 0}, "stability.epochs should be >= 1"),
    ({"stability__deletions": (5, 5)}, "distinct whole numbers > 0"),
    ({"compress__keep": 5}, "keeps every example"),
])
def test_bad_settings_are_refused_before_anything_is_written(data, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        stability(config_of(data, **changes), tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_another_network_in_the_shared_folder_is_refused(data, done, tmp_path):
    with pytest.raises(InputError, match="another config"):
        stability(config_of(data, stability__base=str(done / "base"), batch_size=8), tmp_path / "job")
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize("chunk,total,expected", [(0, 5, 5), (0, 1, 1), (0, 5000, 16 * 4 - 1), (7, 5, 5), (7, 9, 7)])
def test_chunks_are_bounded_by_memory_by_work_lost_and_by_the_trials(data, monkeypatch, chunk, total, expected):
    config = config_of(data, stability__chunk=chunk)
    dataset = load_dataset(config)
    job = make_job(config, dataset)
    assert chunk_size(config, dataset, job, total) == expected
    if not chunk:
        monkeypatch.setattr(job_module, "fitting", lambda *args: 4)
        assert chunk_size(config, dataset, job, total) == min(3, total)
        monkeypatch.setattr(job_module, "fitting", lambda *args: 1)
        assert chunk_size(config, dataset, job, total) == 1


def test_without_trials_there_is_the_table_of_deletions_alone(data, done, tmp_path):
    config = config_of(data, stability__base=str(done / "base"), stability__trials=0, stability__deletions=(2,))
    summary = stability(config, tmp_path / "job")
    assert summary["status"] == "finished" and summary["trials"] == 0 and summary["deletions_left_out"] == ""
    table = columns.read_table(tmp_path / "job", "deletion.csv")
    assert set(table["removed"]) == {0, 2} and set(table["equation"]) == {4, 5}
    assert not (tmp_path / "job" / "trials.csv").exists()
    assert [path.name for path in draw_stability.draw(tmp_path / "job")] == ["appendix_b.md"]


def test_deletions_are_left_out_with_a_sentence_where_they_do_not_apply(data, done, tmp_path):
    config = config_of(data, model__biases=True, stability__deletions=(1,))
    base = type("Base", (), {"snapshot": type("Snapshot", (), {"state": None})})
    assert "without BatchNorm and biases" in job_module._write_deletions(config, None, base, None, None)
