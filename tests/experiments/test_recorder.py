"""Recording logits of any framework: the folder of launch/train.py bit for bit, resumed or not, and nothing lost."""

import jax
import numpy as np
import pytest
from helpers.interruptions import compression, params_of, results

import margin_jax as mj
from margin_jax.errors import InputError
from margin_jax.experiments.job import load_dataset, make_job
from margin_jax.experiments.recorder import Recorder, as_recorded, record_arrays
from margin_jax.experiments.recording import host_rho
from margin_jax.experiments.train import train
from margin_jax.run_folder import read as records
from margin_jax.run_folder.check import check
from margin_jax.training.evaluate import outputs_function

N, EPOCHS, SIZES = 30, 6, (1, 6, 7, 8, 30)


@pytest.fixture(name="course", scope="module")
def _course(data, tmp_path_factory):
    """A run of launch/train.py; and of each of its epochs the logits, test logits and rho."""
    config = compression(data, compress__keep=0, stop__rule="epochs", epochs=EPOCHS, record__every=1)
    path = tmp_path_factory.mktemp("course") / "run"
    train(config, path)
    dataset, logits = load_dataset(config), []
    job = make_job(config, dataset)
    outputs = jax.jit(outputs_function(job.network, job.piece))
    for epoch in range(1, EPOCHS + 1):
        config.epochs, single = epoch, tmp_path_factory.mktemp("course") / f"{epoch}"
        train(config, single)
        params = params_of(single)
        logits.append((*(np.asarray(outputs(params, {}, part).logits) for part in (job.train, job.test)),
                       host_rho(params, config.rho)))
    return path, dataset, logits


def record(recorder, dataset, logits, epochs, rng):
    """Batches of odd sizes in any order, those of the test set between them."""
    for epoch in epochs:
        train_logits, test_logits, rho = logits[epoch - 1]
        order, half = rng.permutation(N), dataset.test.labels.size // 2
        for batch in np.split(order, np.cumsum((1, 6, 7, 8))):
            recorder.update(epoch, dataset.train.ids[batch], train_logits[batch])
        recorder.set_rho(epoch, rho)
        for part in (slice(half), slice(half, None)):
            recorder.update_test(epoch, test_logits[part], dataset.test.labels[part])


def same_as_training(path, trained):
    for name in ("margins.npz", "mask.npz"):
        ours, theirs = records.read_arrays(path / name), records.read_arrays(trained / name)
        assert set(ours) == set(theirs)
        for key in ours:
            assert ours[key].dtype == theirs[key].dtype and ours[key].tobytes() == theirs[key].tobytes(), (name, key)
    ours, theirs = (records.read_metrics(folder) for folder in (path, trained))
    for key in set(ours) - {"seconds"}:
        np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


def test_a_recorded_loop_has_the_folder_of_training_bit_for_bit(course, tmp_path):
    trained, dataset, logits = course
    shuffled = np.random.default_rng(1).permutation(N)
    with Recorder(dataset.train.ids[shuffled], dataset.train.labels[shuffled], tmp_path / "run",
                  class_names=dataset.class_names) as recorder:
        record(recorder, dataset, logits, range(1, EPOCHS + 1), np.random.default_rng(2))
    same_as_training(tmp_path / "run", trained)
    ours, theirs = (records.read_json(path, "summary.json") for path in (tmp_path / "run", trained))
    for summary in (ours, theirs):
        summary["final"].pop("seconds")
    assert ours["distribution"] == theirs["distribution"] and ours["final"] == theirs["final"]
    run = mj.read_run(tmp_path / "run")
    assert run.class_names == dataset.class_names and all(finding.good for finding in check(tmp_path / "run"))

    scores, last = as_recorded(tmp_path / "run"), logits[-1][0]
    np.testing.assert_array_equal(scores["predicted"], last.argmax(axis=1))
    np.testing.assert_allclose(scores["el2n"], mj.el2n(last, dataset.train.labels), rtol=1e-6)
    margins = np.asarray(run.margins.margins)
    np.testing.assert_allclose(scores["aum"], margins.mean(axis=0), rtol=1e-5)
    correct = margins > 0
    events = (correct[:-1] & ~correct[1:]).sum(axis=0)
    np.testing.assert_array_equal(scores["forgetting"], np.where(correct.any(axis=0), events, EPOCHS))


def test_a_recorder_that_was_interrupted_ends_equal(course, tmp_path):
    _, dataset, logits = course
    ids, labels = dataset.train.ids, dataset.train.labels
    for name, stops in (("whole", ()), ("parts", (1, 4))):
        rng = np.random.default_rng(3)
        for stop in stops:
            with pytest.raises(KeyboardInterrupt), Recorder(ids, labels, tmp_path / name) as recorder:
                record(recorder, dataset, logits, range(recorder.epoch + 1, stop + 1), rng)
                recorder.update(stop + 1, ids[:5], logits[stop][0][:5])  # an epoch that is lost
                raise KeyboardInterrupt
            assert mj.read_run(tmp_path / name).metrics["epoch"].tolist() == list(range(1, stop + 1))
        with Recorder(ids, labels, tmp_path / name) as recorder:
            assert recorder.epoch == max(stops, default=0)
            record(recorder, dataset, logits, range(recorder.epoch + 1, EPOCHS + 1), rng)
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


def test_going_back_cuts_off_what_came_later(course, tmp_path):
    _, dataset, logits = course
    ids, labels, rng = dataset.train.ids, dataset.train.labels, np.random.default_rng(4)
    for name, ends in (("back", (5, EPOCHS)), ("straight", (EPOCHS,))):
        for turn, end in enumerate(ends):
            recorder = Recorder(ids, labels, tmp_path / name, after=2 if turn else None)
            record(recorder, dataset, logits, range(recorder.epoch + 1, end + 1), rng)
            recorder.flush()
            recorder.close() if end == EPOCHS else recorder.__exit__(ValueError, None, None)
    assert results(tmp_path / "back") == results(tmp_path / "straight")


def test_what_does_not_fit_is_refused_and_nothing_is_lost(course, tmp_path):
    _, dataset, logits = course
    ids, labels = dataset.train.ids, dataset.train.labels
    rows = logits[0][0]
    nan = rows.copy()
    nan[4, 1] = np.nan
    faults = [
        ((1, ids[:3], rows[:3, :2]), "C = 3 classes, got \\(3, 2\\)"),
        ((1, ids[:3], np.zeros((3, 4))), "C = 3 classes, got \\(3, 4\\)"),
        ((1, ids[:3], rows[:2]), "B = 3 ids"),
        ((1, ids, nan), f"NaN or infinity of id {ids[4]} and 0 others in epoch 1"),
        ((1, [ids[0], 2], rows[:2]), "1 ids that are not among .* the first is 2"),
        ((1, [ids[0], ids[0]], rows[:2]), "2 ids that come twice in one batch"),
        ((1, ids[:2], np.ones((2, 3), int)), "floating logits, got int64"),
        ((0, ids, rows), "whole number >= 1, got 0"),
        ((1.5, ids, rows), "whole number >= 1, got 1.5"),
    ]
    with Recorder(ids, labels, tmp_path / "run") as recorder:
        for arguments, message in faults:
            with pytest.raises(InputError, match=message):
                recorder.update(*arguments)
        recorder.update(1, ids[:20], rows[:20])
        with pytest.raises(InputError, match="20 ids that came before in it"):
            recorder.update(1, ids, rows)
        for call in (lambda: recorder.update(2, ids, rows), recorder.close):
            with pytest.raises(InputError, match=f"epoch 1 lacks 10 of 30 examples, the first of them id {ids[20]}"):
                call()
        recorder.update(1, ids[20:], rows[20:])
        recorder.update(3, ids, rows)
        with pytest.raises(InputError, match="epoch 3, which is under way, got epoch 2"):
            recorder.update(2, ids, rows)
        recorder.flush()
        with pytest.raises(InputError, match="after 3, which is recorded already, got 2; .* after=1"):
            recorder.update(2, ids, rows)
        for rho in (0.0, -1.0, np.nan, np.inf):
            with pytest.raises(InputError, match="rho > 0"):
                recorder.set_rho(4, rho)
        with pytest.raises(InputError, match="in row 4 of the test set"):
            recorder.update_test(4, nan, labels)
        recorder.update(4, ids, rows)
    with pytest.raises(InputError, match="one that was closed"):
        recorder.update(5, ids, rows)
    assert mj.read_run(tmp_path / "run").metrics["epoch"].tolist() == [1, 3, 4]
    assert np.isnan(mj.read_metrics(tmp_path / "run")["test_error"]).all()


def test_folders_of_other_runs_are_refused_and_stay_as_they_are(course, tmp_path):
    trained, dataset, logits = course
    ids, labels = dataset.train.ids, dataset.train.labels
    recorder = Recorder(ids, labels, tmp_path / "run")
    record(recorder, dataset, logits, (1,), np.random.default_rng(0))
    with pytest.raises(InputError, match="another process is running"):
        Recorder(ids, labels, tmp_path / "run")
    recorder.flush()
    recorder.__exit__(ValueError, None, None)
    before = results(tmp_path / "run")
    with pytest.raises(InputError, match="on other data"):
        Recorder(ids, (labels + 1) % 3, tmp_path / "run")
    with pytest.raises(InputError, match="after = one of the 1 epochs .*, got 2"):
        Recorder(ids, labels, tmp_path / "run", after=2)
    with pytest.raises(InputError, match="one recorded epoch at least"), Recorder(ids, labels, tmp_path / "empty"):
        pass
    with pytest.raises(InputError, match="is over and never overwritten"):
        Recorder(ids, labels, trained)
    assert results(tmp_path / "run") == before
    Recorder(ids, labels, tmp_path / "run").close()
    with pytest.raises(InputError, match="never overwritten"):
        Recorder(ids, labels, tmp_path / "run")


@pytest.mark.parametrize(("ids", "labels", "names", "message"), [
    ([1, 1], [0, 1], (), "1 repeats"), ([-1, 2], [0, 1], (), "1 below 0"), ([0.5, 1], [0, 1], (), "whole numbers"),
    ([0, 1], [0, 1, 1], (), "as many labels"), ([0, 1], [0, 2], ("a", "b"), "C = 2, got 0 to 2"),
    ([0, 1], [-1, 0], (), "got -1 to 0"), ([], [], (), "whole numbers"), ([0, 1], [[1, 0], [0, 1]], (), "one-hot"),
])
def test_ids_and_labels_that_do_not_fit_leave_no_folder(tmp_path, ids, labels, names, message):
    with pytest.raises(InputError, match=message):
        Recorder(np.asarray(ids), np.asarray(labels), tmp_path / "run", class_names=names)
    assert not (tmp_path / "run").exists()


def test_arrays_on_disk_are_recorded_as_by_a_loop(course, tmp_path):
    _, dataset, logits = course
    ids, labels = dataset.train.ids, dataset.train.labels
    with Recorder(ids, labels, tmp_path / "loop", class_names=dataset.class_names) as recorder:
        record(recorder, dataset, logits, range(1, EPOCHS + 1), np.random.default_rng(5))
    arrays = {"logits": np.stack([part[0] for part in logits]), "labels": labels, "ids": ids,
              "test_logits": np.stack([part[1] for part in logits]), "test_labels": dataset.test.labels,
              "rho": np.array([part[2] for part in logits]), "class_names": np.array(dataset.class_names)}
    np.savez(tmp_path / "all.npz", **arrays)
    record_arrays(tmp_path / "all.npz", tmp_path / "arrays")
    loop, ours = results(tmp_path / "loop"), results(tmp_path / "arrays")
    assert loop == ours
    np.savez(tmp_path / "one.npz", logits=arrays["logits"][0], labels=labels)
    summary = record_arrays(tmp_path / "one.npz", tmp_path / "one")
    assert summary["epochs"] == 1 and mj.read_run(tmp_path / "one").margins.ids.tolist() == list(range(N))
    for bad, message in (({"logits": arrays["logits"]}, "arrays logits and labels"),
                         ({"logits": arrays["logits"], "labels": labels, "weights": labels}, "got labels, logits, wei"),
                         ({"logits": arrays["logits"], "labels": labels, "epochs": [1, 2]}, "epochs of length 6"),
                         ({"logits": arrays["logits"][:2], "labels": labels, "epochs": [2, 1]}, "ascending"),
                         ({"logits": labels, "labels": labels}, r"\(epochs, examples, classes\)")):
        np.savez(tmp_path / "bad.npz", **bad)
        with pytest.raises(InputError, match=message):
            record_arrays(tmp_path / "bad.npz", tmp_path / "bad")
    with pytest.raises(InputError, match="cannot read"):
        record_arrays(tmp_path / "none.npz", tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_tensors_of_pytorch_are_taken_as_they_are(course, tmp_path):
    torch = pytest.importorskip("torch")
    _, dataset, logits = course
    ids, labels, rows = dataset.train.ids, dataset.train.labels, logits[0][0]
    tensor = torch.tensor(rows, requires_grad=True)
    with Recorder(torch.tensor(ids), torch.tensor(labels), tmp_path / "torch") as recorder:
        recorder.update(1, torch.tensor(ids), 1.0 * tensor)
    with Recorder(ids, labels, tmp_path / "numpy") as recorder:
        recorder.update(1, ids, rows)
    assert results(tmp_path / "torch") == results(tmp_path / "numpy")
