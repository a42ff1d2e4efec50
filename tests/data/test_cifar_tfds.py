"""CIFAR-10 prepared by TFDS: the real data where they are at hand, and folders that are not whole."""

import io
import json
import subprocess
import sys
import types

import numpy as np
import pytest
from helpers.data import cifar_folder, write_binary
from PIL import Image

from margin_jax.data import cifar
from margin_jax.data.load import load_data
from margin_jax.errors import InputError

INFO = {
    "name": "cifar10", "version": "3.0.2", "fileFormat": "array_record",
    "splits": [
        {"name": "train", "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "numBytes": "1",
         "shardLengths": ["50000"]},
        {"name": "test", "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "numBytes": "1",
         "shardLengths": ["10000"]},
    ],
}
MODULE = "tensorflow_datasets.core.features."
FEATURES = {"pythonClassName": MODULE + "features_dict.FeaturesDict", "featuresDict": {"features": {
    "id": {"pythonClassName": MODULE + "text_feature.Text", "text": {}},
    "image": {"pythonClassName": MODULE + "image_feature.Image",
              "image": {"dtype": "uint8", "shape": {"dimensions": ["32", "32", "3"]}}},
    "label": {"pythonClassName": MODULE + "class_label_feature.ClassLabel", "classLabel": {"numClasses": "10"}}}}}


def prepare(folder, version="3.0.2", **info):
    """Writes a folder as TFDS leaves it, with shards that hold no record."""
    target = folder / "cifar10" / version
    target.mkdir(parents=True)
    (target / "dataset_info.json").write_text(json.dumps({**INFO, **info}))
    (target / "features.json").write_text(json.dumps(FEATURES))
    (target / "label.labels.txt").write_text("\n".join("abcdefghij"))
    for split_name in ("train", "test"):
        (target / f"cifar10-{split_name}.array_record-00000-of-00001").write_bytes(b"x" * 100)
    return target


def refused(folder):
    with pytest.raises(InputError, match="prepare_data.py --dir=") as caught:
        load_data("cifar10", data_dir=str(folder), cache_dir=str(folder / "cache"))
    assert not (folder / "cache").exists()
    return str(caught.value)


def splits(**lengths):
    return [{**split, "shardLengths": lengths.get(split["name"], split["shardLengths"])} for split in INFO["splits"]]


@pytest.mark.parametrize("lost, message", [
    ("features.json", "features.json is missing"),
    ("cifar10-train.array_record-00000-of-00001", "cifar10-train.array_record-00000-of-00001 is missing"),
    ("cifar10-test.array_record-00000-of-00001", "cifar10-test.array_record-00000-of-00001 is missing"),
])
def test_a_missing_file_is_named(tmp_path, lost, message):
    (prepare(tmp_path) / lost).unlink()
    assert message in refused(tmp_path)


@pytest.mark.parametrize("info, message", [
    ({"splits": splits(train=["49999"])}, "expected 50000 train records, found 49999"),
    ({"splits": splits(test=["10001"])}, "expected 10000 test records, found 10001"),
    ({"splits": splits(train=["25000", "25000"])}, "00000-of-00002"),
    ({"splits": splits()[:1]}, "no split 'test'"),
    ({"fileFormat": "tfrecord"}, "stored as tfrecord"),
    ({"name": "cifar100"}, "it holds the data set 'cifar100'"),
    ({}, "the train records cannot be read"),
])
def test_a_folder_that_does_not_hold_all_of_cifar10(tmp_path, info, message):
    prepare(tmp_path, **info)
    assert message in refused(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_a_damaged_description(tmp_path, name, content):
    (prepare(tmp_path) / name).write_text(content)
    assert "cannot be used as CIFAR-10 prepared by TFDS" in refused(tmp_path)


def test_an_interrupted_preparation_is_recognised(tmp_path):
    (tmp_path / "cifar10" / "incomplete.AB12CD_3.0.2").mkdir(parents=True)
    assert "half-prepared by TFDS (found incomplete.AB12CD_3.0.2" in refused(tmp_path)
    assert "half-prepared" in refused(tmp_path / "cifar10")


def test_a_version_without_description_is_half_prepared(tmp_path):
    (prepare(tmp_path) / "dataset_info.json").unlink()
    assert "found 3.0.2, but no dataset_info.json" in refused(tmp_path)


def test_an_absent_or_empty_folder(tmp_path, monkeypatch):
    assert "is no folder" in refused(tmp_path / "absent")
    assert "holds no CIFAR-10 (found nothing)" in refused(tmp_path)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    with pytest.raises(InputError, match="TFDS_DATA_DIR.*prepare_data.py.*digits"):
        load_data("cifar10")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "absent"))
    with pytest.raises(InputError, match="is no folder"):
        load_data("cifar2")


def test_the_newest_whole_version_is_found_from_any_level(tmp_path):
    prepare(tmp_path, "3.0.2")
    newest = prepare(tmp_path, "3.0.10")
    (prepare(tmp_path, "4.0.0") / "dataset_info.json").unlink()
    assert {cifar.find_tfds(folder) for folder in (tmp_path, tmp_path / "cifar10", newest)} == {newest}


def test_the_official_archive_mends_a_folder_that_is_not_whole(tmp_path):
    prepare(tmp_path)
    write_binary(tmp_path)
    assert load_data("cifar10", data_dir=str(tmp_path)).train.images.shape == (20, 32, 32, 3)


def record(split_name, number, label=0, **changes):
    stream = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), number, np.uint8)).save(stream, "PNG")
    return {"id": f"{split_name}_{number:05d}".encode(), "image": stream.getvalue(), "label": label, **changes}


def read_records(monkeypatch, tmp_path, records):
    monkeypatch.setattr(cifar, "EXAMPLES", {"train": len(records)})
    source = types.SimpleNamespace(__getitems__=lambda keys: [records[key] for key in keys])
    return cifar._read(tmp_path, "train", source)


def test_records_are_sorted_by_the_number_in_their_id(monkeypatch, tmp_path):
    split = read_records(monkeypatch, tmp_path, [record("train", k, label=9 - k) for k in (2, 0, 3, 1)])
    assert split.ids.tolist() == [0, 1, 2, 3] and split.labels.tolist() == [9, 8, 7, 6]
    assert split.images[:, 5, 6, 1].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("bad, message", [
    (record("train", 0), "b'train_00000' is repeated"),
    (record("train", 2), "b'train_00002' is repeated or out of range"),
    (record("train", 1, id=b"train"), "out of range"), (record("train", 1, image=b"no picture"), "no RGB picture"),
    (record("train", 1, image=record("train", 1)["image"][:60]), "no RGB picture"),
])
def test_bad_records_are_named(monkeypatch, tmp_path, bad, message):
    with pytest.raises(InputError, match=message):
        read_records(monkeypatch, tmp_path, [record("train", 0), bad])


@pytest.fixture(scope="module")
def decoded(tmp_path_factory):
    """A cache that another process filled, with what it printed: real CIFAR-10 is decoded once for all tests."""
    folder, cache_dir = cifar_folder(), str(tmp_path_factory.mktemp("cache"))
    code = ("import sys; from margin_jax.data.load import load_data\n"
            f"load_data('cifar10', data_dir={folder!r}, cache_dir={cache_dir!r})\n"
            "assert not {'jax', 'tensorflow'} & set(sys.modules), 'imports too much'")
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    return folder, cache_dir, (done.returncode, done.stdout, done.stderr)


@pytest.mark.cifar
def test_reading_real_cifar10_shows_nothing(decoded):
    assert decoded[2] == (0, "", "")


@pytest.mark.cifar
def test_real_cifar10_is_what_tfds_reads_and_comes_from_the_cache(decoded, monkeypatch, tmp_path):
    import tensorflow_datasets

    folder, cache_dir, _ = decoded
    with monkeypatch.context() as context:
        context.setattr(cifar, "_read", lambda *arguments: pytest.fail("decoded again"))
        dataset = load_data("cifar10", data_dir=folder, cache_dir=cache_dir)
        with pytest.raises(pytest.fail.Exception, match="decoded again"):
            load_data("cifar10", data_dir=folder, cache_dir=str(tmp_path))
    for split_name, count in (("train", 50_000), ("test", 10_000)):
        split = getattr(dataset, split_name)
        assert np.array_equal(split.ids, np.arange(count)) and np.all(np.bincount(split.labels) == count // 10)
        source = tensorflow_datasets.data_source("cifar10", split=split_name, data_dir=folder, download=False)
        for position in (0, 1, 777, count - 1):
            direct = source[position]
            number = int(direct["id"].decode().split("_")[1])
            assert np.array_equal(split.images[number], direct["image"]) and split.labels[number] == direct["label"]


@pytest.mark.cifar
def test_real_cifar2_keeps_the_ids_of_cifar10(decoded):
    whole, two = (load_data(name, data_dir=decoded[0], cache_dir=decoded[1]) for name in ("cifar10", "cifar2"))
    assert two.name == "cifar2" and two.class_names == ("automobile", "bird")
    assert len(two.train.ids) == 10_000 and len(two.test.ids) == 2_000
    assert np.array_equal(two.train.ids, np.flatnonzero(np.isin(whole.train.labels, (1, 2))))
    assert np.array_equal(two.train.images, whole.train.images[two.train.ids])
