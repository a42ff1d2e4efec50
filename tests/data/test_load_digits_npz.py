"""The embedded digits and a user's own arrays."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from margin_jax.data.dataset import digest
from margin_jax.data.load import load_data
from margin_jax.errors import InputError


def own_arrays(**changes):
    """Returns a valid set of arrays with some replaced (None: left out)."""
    generator = np.random.default_rng(3)
    arrays = {
        "train_images": generator.integers(0, 256, (7, 5, 4, 2), dtype=np.uint8),
        "train_labels": np.array([0, 1, 2, 0, 1, 2, 0]),
        "test_images": generator.integers(0, 256, (3, 5, 4, 2), dtype=np.uint8),
        "test_labels": np.array([2, 1, 0]),
        **changes,
    }
    return {name: array for name, array in arrays.items() if array is not None}


def save(folder, **changes):
    np.savez(folder / "dataset.npz", **own_arrays(**changes))
    return str(folder)


def test_digits_are_scikit_learns_scans_with_every_fifth_held_out():
    dataset, scans = load_data("digits"), load_digits()
    assert dataset.name == "digits" and dataset.class_names == tuple("0123456789")
    assert dataset.test.ids.tolist() == list(range(0, 1797, 5))
    assert dataset.train.ids.tolist() == [k for k in range(1797) if k % 5]
    for split in (dataset.train, dataset.test):
        assert split.images.dtype == np.uint8 and split.images.shape[1:] == (8, 8, 1) and split.images.max() == 16
        assert np.array_equal(split.images[..., 0], scans.images[split.ids])
        assert np.array_equal(split.labels, scans.target[split.ids]) and split.labels.dtype == np.int32
        assert np.array_equal(split.true_labels, split.labels)


@pytest.mark.parametrize("as_file", [True, False])
def test_npz_reads_a_file_or_its_folder(tmp_path, as_file):
    save(tmp_path)
    dataset, arrays = load_data("npz", data_dir=str(tmp_path / "dataset.npz" if as_file else tmp_path)), own_arrays()
    assert np.array_equal(dataset.train.images, arrays["train_images"])
    assert np.array_equal(dataset.test.images, arrays["test_images"])
    assert dataset.train.labels.tolist() == [0, 1, 2, 0, 1, 2, 0] and dataset.train.labels.dtype == np.int32
    assert dataset.train.ids.tolist() == list(range(7)) and dataset.train.ids.dtype == np.int64
    assert dataset.class_names == ("0", "1", "2") and dataset.name == "npz"


@pytest.mark.parametrize("id_type", [np.int64, np.uint8, np.uint64, np.int16])
def test_npz_sorts_rows_by_their_ids(tmp_path, id_type):
    ids = np.array([9, 3, 100, 4, 0, 77, 5], id_type)
    dataset, arrays = load_data("npz", data_dir=save(tmp_path, train_ids=ids)), own_arrays()
    assert dataset.train.ids.tolist() == sorted(ids.tolist())
    for row, number in enumerate(dataset.train.ids):
        position = ids.tolist().index(number)
        assert np.array_equal(dataset.train.images[row], arrays["train_images"][position])
        assert dataset.train.labels[row] == dataset.train.true_labels[row] == arrays["train_labels"][position]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_npz_floats_become_float32(tmp_path, kind):
    images = {name: own_arrays()[name].astype(kind) / 7 for name in ("train_images", "test_images")}
    dataset = load_data("npz", data_dir=save(tmp_path, **images))
    assert dataset.train.images.dtype == np.float32
    assert np.array_equal(dataset.train.images, images["train_images"].astype(np.float32))


def test_npz_adds_a_channel_axis_and_takes_class_names(tmp_path):
    images = {name: own_arrays()[name][..., 0] for name in ("train_images", "test_images")}
    dataset = load_data("npz", data_dir=save(tmp_path, **images, class_names=np.array(["cat", "dog", "emu"])))
    assert dataset.train.images.shape == (7, 5, 4, 1) and dataset.class_names == ("cat", "dog", "emu")


LABELS = own_arrays()["train_labels"]
TEST_FLOATS = own_arrays()["test_images"].astype(np.float32)


def pixels_with(value):
    images = own_arrays()["train_images"].astype(np.float64)
    images[4, 1, 2, 0] = value
    return {"train_images": images, "test_images": TEST_FLOATS, "train_ids": np.arange(7) * 10}


@pytest.mark.parametrize("changes, message", [
    ({"test_labels": None, "train_images": None}, "lacks train_images, test_labels; found train_labels, test_images"),
    ({"train_labels": LABELS[:-1]}, "train_labels .* each of the 7 images, got 6"),
    ({"train_ids": np.arange(8)}, "train_ids .* each of the 7 images, got 8"),
    ({"train_labels": np.eye(3, dtype=int)[LABELS]}, r"one axis \(N,\), got shape \(7, 3\).*argmax"),
    ({"train_labels": LABELS[:, None]}, r"shape \(7, 1\).*ravel"),
    ({"train_labels": LABELS.astype(np.float64)}, "must be integers, got float64"),
    ({"train_labels": LABELS - 1}, "first id 0 with label -1"),
    ({"train_labels": LABELS + 2**31}, "must be class numbers"),
    ({"train_labels": LABELS * 3}, "class 1 .*, 2 .* has none"),
    ({"train_labels": LABELS * 10**9}, "must lie in 0..9, .* first id 1 with label 1000000000"),
    ({"test_labels": np.array([0, 1, 3])}, r"class 3 \(3\) of npz has none"),
    ({"test_labels": np.array([0, 5, 1]), "class_names": np.array(["a", "b", "c"])},
     r"0\.\.2, but 1 of the test split do not: first id 1 with label 5"),
    ({"train_images": np.zeros((7, 5, 4, 2), np.int64)}, "must be uint8 or float, got int64"),
    ({"train_images": np.zeros((7, 5, 4, 2), bool)}, "must be uint8 or float, got bool"),
    ({"train_images": np.zeros((7, 40), np.uint8)}, r"four axes \(N, H, W, C\), got shape \(7, 40\)"),
    ({"train_images": np.zeros((7, 5, 4, 2, 1), np.uint8)}, "four axes"),
    ({"train_images": np.zeros((7, 4, 5, 2), np.uint8)}, "one shape"),
    ({"train_ids": np.array([1, 2, 3, 4, 5, 6, 2])}, "id 2 occurs twice"),
    ({"train_ids": np.arange(7) - 1}, "0 or larger, got -1"),
    ({"test_images": np.zeros((0, 5, 4, 2), np.uint8), "test_labels": np.zeros(0, int)}, "test split is empty"),
    ({"train_images": np.zeros((0, 5, 4, 2), np.uint8), "train_labels": np.zeros(0, int)}, "train split is empty"),
    ({"train_labels": LABELS * 0, "test_labels": np.zeros(3, int)}, "at least two classes"),
    ({"class_names": np.array(["a", "b", "a"])}, "a occurs more than once"),
    ({"class_names": np.array([["a", "b", "c"]])}, "one axis of text"),
    ({"class_names": np.array(["a", "b", "c"], object)}, "without object arrays"),
    (pixels_with(np.nan), "1 train images hold NaN or infinity: first id 40"),
    (pixels_with(-np.inf), "first id 40"),
    (pixels_with(1e300), "first id 40"),
    ({"test_images": TEST_FLOATS * np.nan, "train_images": own_arrays()["train_images"] / 2.0},
     "3 test images .* id 0"),
])
def test_npz_refuses_what_cannot_be_trained_on(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        load_data("npz", data_dir=save(tmp_path, **changes))


@pytest.mark.parametrize("damage", ["empty", "garbage", "short", "flipped", "single array", "absent"])
def test_npz_refuses_a_damaged_file(tmp_path, damage):
    path = tmp_path / "dataset.npz"
    save(tmp_path)
    whole = path.read_bytes()
    if damage == "single array":
        with open(path, "wb") as file:
            np.save(file, np.arange(3))
    elif damage == "absent":
        path.unlink()
    else:
        middle = len(whole) // 4
        path.write_bytes({"empty": b"", "garbage": b"garbage" * 40, "short": whole[:-30],
                          "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1:]}[damage])
    with pytest.raises(InputError, match="dataset.npz"):
        load_data("npz", data_dir=str(tmp_path))


def test_digest_follows_content_alone(tmp_path):
    first = load_data("npz", data_dir=save(tmp_path))
    again = load_data("npz", data_dir=save(tmp_path, class_names=np.array(["a", "b", "c"])))
    assert digest(first) == digest(again) and len(digest(first)) == 64
    images = own_arrays()["train_images"].copy()
    images[-1, -1, -1, -1] ^= 1
    changes = [{"train_images": images}, {"train_labels": np.roll(LABELS, 1)}, {"train_ids": np.arange(1, 8)},
               {"test_labels": np.array([2, 1, 1])}, {"test_ids": np.array([0, 1, 5])}]
    digests = {digest(load_data("npz", data_dir=save(tmp_path, **change))) for change in changes}
    assert len(digests | {digest(first)}) == 1 + len(changes)
