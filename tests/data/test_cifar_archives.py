"""The official archives: layout of the pixels, ids, and refusal of whatever is not whole or not plain arrays."""

import os
import pickle

import numpy as np
import pytest
from helpers.data import ROWS, batch, python2_pickle, write_binary

from margin_jax.data.cifar import find_archive, read_archive
from margin_jax.data.load import load_data
from margin_jax.errors import InputError

NAMES = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]


def write_pickles(folder, dump):
    target = folder / "cifar-10-batches-py"
    target.mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        (target / name).write_bytes(dump(*batch(seed)))
    return target


def python3_dump(protocol):
    def dump(pixels, labels):
        return pickle.dumps({"data": pixels, "labels": [int(label) for label in labels]}, protocol=protocol)
    return dump


def check_content(dataset):
    """Compares with the pixels one by one: channel c of pixel (y, x) lies at c * 1024 + y * 32 + x of its row."""
    assert dataset.train.images.shape == (5 * ROWS, 32, 32, 3)
    assert dataset.train.images.dtype == np.uint8 and dataset.train.labels.dtype == np.int32
    assert dataset.train.ids.tolist() == list(range(5 * ROWS)) and dataset.train.ids.dtype == np.int64
    assert dataset.test.ids.tolist() == list(range(ROWS))
    for number in range(5 * ROWS):
        pixels, labels = batch(number // ROWS)
        assert dataset.train.labels[number] == labels[number % ROWS]
        for y, x, c in ((0, 0, 0), (0, 31, 1), (17, 3, 2), (31, 30, 0)):
            assert dataset.train.images[number, y, x, c] == pixels[number % ROWS, c * 1024 + y * 32 + x]
    assert np.array_equal(dataset.test.labels, batch(5)[1])
    assert np.array_equal(dataset.test.images[1, :, :, 2].ravel(), batch(5)[0][1, 2048:])


def test_reads_the_binary_archive(tmp_path):
    folder = write_binary(tmp_path)
    assert find_archive(tmp_path) == folder and find_archive(folder) == folder
    dataset = read_archive(folder)
    check_content(dataset)
    assert dataset.class_names[:3] == ("airplane", "automobile", "bird") and len(dataset.class_names) == 10


FORMS = {"python2": python2_pickle, **{f"3-{protocol}": python3_dump(protocol) for protocol in range(6)}}


@pytest.mark.parametrize("dump", FORMS.values(), ids=FORMS)
def test_reads_the_pickles(tmp_path, dump):
    folder = write_pickles(tmp_path, dump)
    assert find_archive(tmp_path) == folder
    check_content(read_archive(folder))


LABEL_FORMS = {
    "tuple": tuple, "NumPy integers": lambda labels: [np.int16(label) for label in labels],
    "array": np.array, "uint8 array": lambda labels: np.array(labels, np.uint8),
    "big-endian array": lambda labels: np.array(labels, ">i4"),
    "every second of an array": lambda labels: np.repeat(np.array(labels), 2)[::2],
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", LABEL_FORMS)
def test_reads_labels_in_every_form_and_pixels_in_columns(tmp_path, form, protocol):
    def dump(pixels, labels):
        content = {"data": np.asfortranarray(pixels), "labels": LABEL_FORMS[form]([int(label) for label in labels])}
        return pickle.dumps(content, protocol=protocol)

    check_content(read_archive(write_pickles(tmp_path, dump)))


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int64])
def test_refuses_pixels_of_another_type(tmp_path, kind):
    folder = write_pickles(tmp_path, lambda pixels, labels: pickle.dumps(
        {"data": (pixels // 2).astype(kind), "labels": labels.tolist()}))
    with pytest.raises(InputError, match=f"of type uint8, found {np.dtype(kind)}"):
        read_archive(folder)


def test_takes_the_class_names_of_the_pickled_meta_file(tmp_path):
    folder = write_pickles(tmp_path, python2_pickle)
    names = [f"class {k}" for k in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [name.encode() for name in names]}, protocol=2))
    assert read_archive(folder).class_names == tuple(names)


def test_prefers_the_archive_without_pickles(tmp_path):
    write_pickles(tmp_path, python2_pickle)
    folder = write_binary(tmp_path)
    assert find_archive(tmp_path) == folder


def test_finds_nothing_where_nothing_is(tmp_path):
    assert find_archive(tmp_path) is None and find_archive(tmp_path / "absent") is None


class Command:
    """Leaves a file behind when unpickled by pickle.load."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def hostile_streams(path):
    return {
        "call": pickle.dumps({"data": Command(path), "labels": []}, protocol=2),
        "protocol 4": pickle.dumps(Command(path), protocol=4),
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tobytes\x93.",
        "builtins": b"\x80\x02cbuiltins\neval\n(X\x04\x00\x00\x001+1\x74R.",
        "numpy": b"\x80\x02cnumpy\nload\n.",
        "object array": pickle.dumps({"data": np.array([Command(path)], object), "labels": [0]}, protocol=2),
        "plain object array": pickle.dumps({"data": np.array([1, "a"], object), "labels": [0]}, protocol=2),
        "float array": pickle.dumps({"data": np.zeros((4, 3072)), "labels": [0] * 4}, protocol=2),
        "other codec": b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.",
        "frombuffer of floats": pickle.dumps({"data": np.zeros((4, 3072)), "labels": [0] * 4}, protocol=5),
        "frombuffer of text": (b"\x80\x04\x8c\x13numpy._core.numeric\x8c\x0b_frombuffer\x93("
                               b"\x8c\x01a\x8c\x02u1K\x01\x85\x8c\x01CtR."),
        "another scalar": pickle.dumps({"data": np.float64(1)}, protocol=4),
        "type with fields": (b"\x80\x02cnumpy\ndtype\n(X\x02\x00\x00\x00u1K\x00K\x01tR(K\x03X\x01\x00\x00\x00|K\x01"
                             b"NNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb."),
        "own function": b"\x80\x02cnumpy._core.numeric\nfrombuffer\n.",
        "persistent": b"\x80\x02X\x01\x00\x00\x00aQ.",
    }


@pytest.mark.parametrize("kind", hostile_streams("x"))
def test_refuses_a_pickle_that_names_anything_else(tmp_path, kind):
    folder = write_pickles(tmp_path, python2_pickle)
    left_behind = tmp_path / "executed"
    stream = hostile_streams(left_behind)[kind]
    (folder / "data_batch_3").write_bytes(stream)
    with pytest.raises(InputError, match="data_batch_3 is refused"):
        read_archive(folder)
    assert not left_behind.exists()


def test_the_hostile_pickle_would_have_run(tmp_path):
    pickle.loads(hostile_streams(tmp_path / "executed")["call"])
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("stream", [b"c" + b"m" * 10**5 + b"\nname\n.", b"I" + b"x" * 10**5 + b"\n.",
                                    b"\x80\x02cnumpy\ndtype\n(X\xa0\x86\x01\x00" + b"x" * 10**5 + b"tR."])
def test_the_message_stays_short_whatever_the_pickle_holds(tmp_path, stream):
    folder = write_pickles(tmp_path, python2_pickle)
    (folder / "test_batch").write_bytes(stream)
    with pytest.raises(InputError, match="test_batch is ") as caught:
        read_archive(folder)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("content", [b"", b"\x80", b"garbage", pickle.dumps([1, 2]), pickle.dumps({"data": 3}),
                                     pickle.dumps({b"data": b"x" * 3072, b"labels": [1]})])
def test_refuses_pickles_that_hold_something_else(tmp_path, content):
    folder = write_pickles(tmp_path, python2_pickle)
    (folder / "test_batch").write_bytes(content)
    with pytest.raises(InputError, match="test_batch"):
        read_archive(folder)


def test_the_stand_ins_of_numpy_make_no_array_by_calling_its_class(tmp_path):
    """`numpy.ndarray((10**13,))` would take the memory; the name alone is admitted, as an argument."""
    folder = write_pickles(tmp_path, python2_pickle)
    (folder / "test_batch").write_bytes(b"\x80\x02cnumpy\nndarray\n\x8a\x06\x00\xa0rN\x18\x09\x85\x85R.")
    with pytest.raises(InputError, match="test_batch is cut short or damaged .TypeError"):
        read_archive(folder)


@pytest.mark.parametrize("labels", [[1, 2], None, (1, 2, 3, 256), np.array([1, 2, 3, -1]), np.array([[1, 2, 3, 4]]),
                                    [1, 2, 3, "4"], [1, 2, 3, 4.5], [1, 2, 3, True]])
def test_refuses_pickled_labels_that_are_no_class_numbers(tmp_path, labels):
    folder = write_pickles(tmp_path, python2_pickle)
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": batch(0)[0], "labels": labels}, protocol=2))
    with pytest.raises(InputError, match="labels"):
        read_archive(folder)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["bin", "py"])
def test_refuses_a_file_cut_short(tmp_path, kind, fraction):
    folder = write_binary(tmp_path) if kind == "bin" else write_pickles(tmp_path, python2_pickle)
    path = next(path for path in sorted(folder.iterdir()) if path.name.startswith("data_batch_2"))
    path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])
    with pytest.raises(InputError, match="data_batch_2.*cut short"):
        read_archive(folder)


@pytest.mark.parametrize("size", [0, 3073])
def test_refuses_a_binary_file_cut_at_the_end_of_a_row(tmp_path, size):
    folder = write_binary(tmp_path)
    os.truncate(folder / "data_batch_5.bin", size)
    with pytest.raises(InputError, match="data_batch_5.*cut short"):
        read_archive(folder)


@pytest.mark.parametrize("name", NAMES)
def test_names_the_missing_file(tmp_path, name):
    folder = write_binary(tmp_path)
    (folder / f"{name}.bin").unlink()
    with pytest.raises(InputError, match=f"lacks {name}.bin; .*prepare_data.py"):
        load_data("cifar10", data_dir=str(tmp_path))


def test_a_label_outside_the_classes_is_named(tmp_path):
    folder = write_binary(tmp_path)
    content = bytearray((folder / "data_batch_2.bin").read_bytes())
    content[3073] = 10
    (folder / "data_batch_2.bin").write_bytes(content)
    with pytest.raises(InputError, match=f"first id {ROWS + 1} with label 10"):
        load_data("cifar10", data_dir=str(tmp_path))
