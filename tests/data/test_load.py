"""The call that all jobs make: names, folders, and what importing it costs."""

import subprocess
import sys

import numpy as np
import pytest
from helpers.data import write_binary
from helpers.runs import run_config, write_npz

from margin_jax.data.dataset import sorted_by_class
from margin_jax.data.load import load_data
from margin_jax.errors import InputError
from margin_jax.errors import nearest as nearest_choice
from margin_jax.experiments.job import load_dataset


@pytest.mark.parametrize("name, nearest", [
    ("cifar-10", "cifar10"), ("CIFAR2", "cifar2"), ("Digit", "digits"), ("", ""),
])
def test_an_unknown_name_is_answered_with_the_nearest(name, nearest):
    with pytest.raises(InputError, match=f"nearest is '{nearest}.* of cifar10, cifar2, digits, npz"):
        load_data(name)


def test_the_nearest_name_is_found_whatever_its_case():
    assert nearest_choice("cat", ["Dog", "CAT", "cow"]) == "CAT"
    assert nearest_choice("FISH", ["dish", "bird"]) == "dish"


def test_npz_needs_a_file(tmp_path):
    with pytest.raises(InputError, match="needs config.data.dir"):
        load_data("npz")
    with pytest.raises(InputError, match="no file .*dataset.npz"):
        load_data("npz", data_dir=str(tmp_path))


def test_cifar2_keeps_the_ids_of_cifar10(tmp_path, monkeypatch):
    write_binary(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    whole, two = load_data("cifar10"), load_data("cifar2")
    assert two.class_names == ("automobile", "bird") and two.name == "cifar2"
    assert np.array_equal(two.train.ids, np.flatnonzero(np.isin(whole.train.labels, (1, 2))))
    assert np.array_equal(two.train.labels, whole.train.labels[two.train.ids] - 1)
    assert np.array_equal(two.train.images, whole.train.images[two.train.ids])
    swapped = load_data("cifar2", classes=("bird", "automobile"))
    assert np.array_equal(swapped.train.labels, 1 - two.train.labels)


@pytest.mark.parametrize("classes, message", [(("bird", "plane"), "nearest is 'airplane'"), ((0, 10), "no class 10")])
def test_unknown_classes_are_refused(tmp_path, classes, message):
    write_binary(tmp_path)
    with pytest.raises(InputError, match=message):
        load_data("cifar10", data_dir=str(tmp_path), classes=classes)


@pytest.mark.parametrize("labels, warned", [
    (np.repeat(np.arange(10), 50), True), (np.repeat([3, 1, 2], 40)[::-1], True),
    (np.concatenate([np.repeat(np.arange(4), 100), [0, 1, 2, 3]]), True),  # a few mixed ones behind
    (np.arange(500) % 10, False), (np.random.default_rng(0).integers(0, 10, 500), False),
    (np.random.default_rng(1).permutation(np.repeat([0, 1], [490, 10])), False),  # a rare class
    (np.random.default_rng(2).integers(0, 2, 12), False), (np.zeros(50, int), False), (np.array([1]), False),
    (load_data("digits").train.labels, False),
])
def test_rows_that_lie_class_after_class_are_told(labels, warned):
    warning = sorted_by_class(labels)
    assert bool(warning) == warned
    assert not warned or "config.shuffle=True" in warning


@pytest.mark.parametrize("shuffle, batch_size, mixed, warnings", [
    (False, 7, False, 1), (True, 7, False, 0), (False, 0, False, 0), (False, 90, False, 0), (False, 7, True, 0),
])
def test_a_job_warns_of_sorted_data_once_and_only_where_their_order_matters(tmp_path, caplog, shuffle, batch_size,
                                                                            mixed, warnings):
    path = tmp_path / "sorted.npz"
    labels = np.arange(90) % 3 if mixed else np.repeat(np.arange(3), 30)
    write_npz(path, 90, train_labels=labels)
    load_dataset(run_config(path, shuffle=shuffle, batch_size=batch_size))
    assert [record.getMessage() for record in caplog.records if "class after class" in record.getMessage()
            and record.levelname == "WARNING"] == [sorted_by_class(labels)] * warnings


def test_importing_the_readers_pulls_in_no_framework():
    code = ("import sys, margin_jax.data, margin_jax.data.prepare\n"
            "heavy = {'jax', 'tensorflow', 'tensorflow_datasets', 'array_record',"
            " 'sklearn', 'requests', 'tqdm', 'PIL'}\n"
            "print(sorted(heavy & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
