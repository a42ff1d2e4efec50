"""A user's .npz that would train wrongly or that lies about itself: refused with what to do, at no cost in memory."""

import io
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from margin_jax.data.load import load_data
from margin_jax.errors import InputError


def arrays_of(images=None, test_images=None, **changes):
    """A valid set of arrays, 40 and 16 bytes pictures of 8 x 8 x 3, with some replaced or added."""
    generator = np.random.default_rng(5)
    images = generator.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8) if images is None else images
    test_images = generator.integers(0, 256, (16, 8, 8, 3), dtype=np.uint8) if test_images is None else test_images
    return {"train_images": images, "train_labels": np.arange(len(images)) % 4,
            "test_images": test_images, "test_labels": np.arange(len(test_images)) % 4, **changes}


def load(folder, **arrays):
    np.savez(folder / "dataset.npz", **arrays)
    return load_data("npz", data_dir=str(folder))


def refused(folder, message, **arrays):
    with pytest.raises(InputError, match=message) as caught:
        load(folder, **arrays)
    return str(caught.value)


BYTES = arrays_of()["train_images"]
UNIT = (BYTES / 255).astype(np.float32)
CENTRED = (UNIT - 0.5) / 0.5
STANDARD = ((BYTES - BYTES.mean()) / BYTES.std()).astype(np.float32)
SCALES = {"0..255": BYTES.astype(np.float32), "0..1": UNIT, "-1..1": CENTRED, "standardised": STANDARD,
          "0..16": UNIT * 16}


@pytest.mark.parametrize("train", SCALES)
@pytest.mark.parametrize("test", SCALES)
def test_float_splits_of_two_scales_are_refused_and_of_one_accepted(tmp_path, train, test):
    arrays = arrays_of(SCALES[train], SCALES[test][::-1])
    if train == test or {train, test} == {"-1..1", "standardised"}:  # which nobody can tell from data that vary
        load(tmp_path, **arrays)
    else:
        assert "scale both alike" in refused(tmp_path, "different scales", **arrays)


@pytest.mark.parametrize("train, test", [(BYTES, UNIT), (UNIT, BYTES), (BYTES, BYTES.astype(np.float64))])
def test_bytes_and_floats_are_refused(tmp_path, train, test):
    refused(tmp_path, "must be of one type, got .*0..(1|255) against .*0..(1|255); scale both alike",
            **arrays_of(train, test))


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("other", [UNIT.astype(np.uint8), np.round(UNIT).astype(np.uint8), BYTES // 16])
def test_bytes_that_were_scaled_before_they_became_bytes_are_refused(tmp_path, other, swap):
    pair = (other, BYTES) if swap else (BYTES, other)
    refused(tmp_path, "different scales, uint8 0..", **arrays_of(*pair))


def test_splits_that_differ_as_data_do_are_accepted(tmp_path):
    generator = np.random.default_rng(6)
    heavy = generator.standard_cauchy((400, 4, 4, 1)).astype(np.float32)  # one outlier makes the range
    load(tmp_path, **arrays_of(heavy, heavy[:16] / 2))
    load(tmp_path, **arrays_of(BYTES, BYTES // 4))  # a dark test set
    load(tmp_path, **arrays_of(UNIT.astype(np.float64), UNIT))  # both become float32
    load(tmp_path, **arrays_of(STANDARD, STANDARD[:4]))
    load(tmp_path, **arrays_of(UNIT, np.concatenate([UNIT, CENTRED[:1]])))  # a few negative ones


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 8, 9), (1, 28, 28), (4, 16, 16)])
def test_channels_first_are_refused_with_the_fix(tmp_path, shape):
    images, test = (np.random.default_rng(7).integers(0, 256, (rows, *shape), dtype=np.uint8) for rows in (8, 4))
    message = refused(tmp_path, r"looks like \(N, C, H, W\)", **arrays_of(images, test))
    assert "train_images.transpose(0, 2, 3, 1)" in message
    dataset = load(tmp_path, **arrays_of(images.transpose(0, 2, 3, 1), test.transpose(0, 2, 3, 1)))
    assert dataset.image_shape == (*shape[1:], shape[0])


@pytest.mark.parametrize("shape", [(3, 5, 4), (32, 32, 3), (3, 3, 3), (1, 128, 9), (8, 8, 8), (3, 32, 3), (28, 28)])
def test_shapes_that_may_be_meant_are_accepted(tmp_path, shape):
    images = np.random.default_rng(8).integers(0, 256, (8, *shape), dtype=np.uint8)
    assert load(tmp_path, **arrays_of(images, images)).train.images.shape[:4] == (8, *shape, *[1] * (3 - len(shape)))


@pytest.mark.parametrize("unknown, nearest", [
    ("ids", "train_ids or test_ids"), ("train_id", "train_ids"), ("classes", "class_names"),
    ("images", "train_images or test_images"), ("Train_Ids", "train_ids"), ("notes.txt", ""),
])
def test_an_unknown_name_is_answered_with_the_nearest(tmp_path, unknown, nearest):
    message = refused(tmp_path, f"holds '{unknown}', which means nothing", **arrays_of(), **{unknown: np.arange(40)})
    assert f"the nearest is {nearest}" in message


@pytest.mark.parametrize("kind, most, fix", [
    (np.uint16, 255, r"0..255 fit .astype\(np.uint8\)"), (np.uint16, 65535, r"\(images / 65535\).astype\(np.float32\)"),
    (np.int64, 4095, r"\(images / 4095\).astype"), (np.int16, -300, r"\(images / 300\).astype"),
])
def test_the_fix_for_integers_does_not_overflow(tmp_path, kind, most, fix):
    train, test = BYTES.astype(kind), BYTES[:16].astype(kind)
    test[0, 0, 0, 0] = most  # the largest is in the other split than the one that is named
    message = refused(tmp_path, f"train_images .* must be uint8 or float, got {np.dtype(kind)}; .*{fix}",
                      **arrays_of(train, test))
    assert (".astype(np.uint8)" in message) == (most == 255)


def test_the_fix_for_text_labels_can_be_followed(tmp_path):
    words = np.array(["cat", "dog", "emu", "fox"])
    train_labels, test_labels = words[np.arange(40) % 4], words[np.arange(40) % 4][::-1]
    message = refused(tmp_path, "must be integers, got <U3; number the names", **arrays_of(
        BYTES, BYTES, train_labels=train_labels, test_labels=test_labels))
    assert "astype" not in message
    lines = message.split("number the names: ")[1].split(", and save")[0].split(", then ")
    names = {"np": np, "train_labels": train_labels, "test_labels": test_labels}
    exec("\n".join(lines), names)
    fixed = {name: names[name] for name in ("train_labels", "test_labels", "class_names")}
    dataset = load(tmp_path, **arrays_of(BYTES, BYTES, **fixed))
    assert [dataset.class_names[label] for label in dataset.test.labels] == test_labels.tolist()


@pytest.mark.parametrize("labels, advice", [
    (np.arange(40) % 4 * 1.0, True), (np.arange(40) % 4 > 1, True), (np.arange(40) / 7, False),
    (np.full(40, np.nan), False), (np.arange(40) % 4 * 1j, False), (np.zeros(40, "M8[s]"), False),
])
def test_labels_are_told_to_be_converted_only_where_that_keeps_them(tmp_path, labels, advice):
    message = refused(tmp_path, "train_labels .* must be integers", **arrays_of(train_labels=labels))
    assert (".astype(np.int64)" in message) == advice


def test_ids_beyond_int64_and_ids_of_text_are_refused(tmp_path):
    refused(tmp_path, "below 2.63", **arrays_of(train_ids=np.arange(40, dtype=np.uint64) + np.uint64(2**63)))
    assert "leave the ids out" in refused(tmp_path, "train_ids .* integers", **arrays_of(train_ids=np.full(40, "a")))


def test_a_million_class_names_give_a_short_message(tmp_path):
    names = np.array([str(number) for number in range(100_000)])
    assert len(refused(tmp_path, "99988 more", **arrays_of(class_names=names))) < 500


def header(shape, kind="|u1", version=1):
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode() + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text


def npz(path, content, entry="train_labels.npy", **options):
    """A valid .npz in which the bytes of one entry are replaced."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays_of().items():
            stream = io.BytesIO()
            np.save(stream, array)
            whole = content if f"{name}.npy" == entry else stream.getvalue()
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), whole, **options)
    return path


def patched(path, offsets, value):
    """Overwrites fields of every local header and every entry of the directory."""
    content = bytearray(path.read_bytes())
    for signature, offset in zip((b"PK\x03\x04", b"PK\x01\x02"), offsets, strict=True):
        place = content.find(signature)
        while place >= 0 and offset is not None:
            content[place + offset:place + offset + len(value)] = value
            place = content.find(signature, place + 4)
    path.write_bytes(content)


HOSTILE = {
    "claims 200 GB": lambda path: npz(path, header((200 * 10**9,))),
    "claims 1 PB": lambda path: npz(path, header((10**15,)) + b"x" * 40),
    "claims 1 PB of images": lambda path: npz(path, header((10**6, 10**5, 10**4, 1)), "train_images.npy"),
    "claims more than int64": lambda path: npz(path, header((2**40, 2**40))),
    "claims a negative shape": lambda path: npz(path, header((-40, -1)) + b"x" * 40),
    "claims names of nothing": lambda path: npz(path, header((10**15,), "|V0")),
    "a header of 4 GB": lambda path: npz(path, b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
    "a header that is no Python": lambda path: npz(path, b"\x93NUMPY\x01\x00\x10\x00" + b"{'descr': (  'u1'"),
    "no .npy": lambda path: npz(path, b"plain text"),
    "an empty entry": lambda path: npz(path, b""),
    "an array in an array": lambda path: npz(path, header((1,)) + header((40,)) + b"x" * 40),
    "an unknown format": lambda path: npz(path, b"\x93NUMPY\x09\x00" + header((40,))[8:] + b"x" * 40),
    "Python objects": lambda path: npz(path, header((40,), "|O") + b"x" * 320),
    "encrypted": lambda path: patched(npz(path, header((40,)) + b"\0" * 40), (6, 8), b"\x01\x00"),
    "an unknown compression": lambda path: patched(npz(path, header((40,)) + b"\0" * 40), (8, 10), b"\x63\x00"),
    "zip version 9.9": lambda path: patched(npz(path, header((40,)) + b"\0" * 40), (4, 6), b"\x63\x00"),
    "an entry of 3 GB that is not there": lambda path: patched(npz(path, b"x"), (22, 24), struct.pack("<I", 3 * 10**9)),
    "LZMA that is none": lambda path: patched(npz(path, header((40,)) + b"\0" * 40), (8, 10), b"\x0e\x00"),
    "BZ2 that is none": lambda path: patched(npz(path, header((40,)) + b"\0" * 40), (8, 10), b"\x0c\x00"),
    "a picture": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100),
    "an empty zip": lambda path: path.write_bytes(b"PK\x05\x06" + b"\0" * 18),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_before_memory_is_taken(tmp_path, kind):
    path = tmp_path / "dataset.npz"
    HOSTILE[kind](path)
    before = path.read_bytes()
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="dataset.npz"):
            load_data("npz", data_dir=str(path))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert path.read_bytes() == before


def test_the_hostile_files_were_valid_but_for_what_is_hostile(tmp_path):
    npz(tmp_path / "dataset.npz", header((40,)) + (np.arange(40) % 4).astype(np.uint8).tobytes())
    assert load_data("npz", data_dir=str(tmp_path)).train.labels.tolist() == (np.arange(40) % 4).tolist()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_compression_that_python_reads_is_read(tmp_path, compression):
    white = np.full((200, 32, 32, 3), 255, np.uint8)  # compresses as far as anything does
    npz(tmp_path / "dataset.npz", b"", "none", compress_type=compression)
    assert load_data("npz", data_dir=str(tmp_path)).train.images.shape == (40, 8, 8, 3)
    np.savez_compressed(tmp_path / "white.npz", **arrays_of(white, white))
    assert load_data("npz", data_dir=str(tmp_path / "white.npz")).train.images.min() == 255


def test_two_entries_of_one_name_are_refused(tmp_path):
    np.savez(tmp_path / "dataset.npz", **arrays_of())
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "dataset.npz", "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("train_labels.npy", b"another")
    with pytest.raises(InputError, match="holds train_labels twice"):
        load_data("npz", data_dir=str(tmp_path))


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "\udc80", "/dev/null", "."])
@pytest.mark.parametrize("source", ["npz", "cifar10"])
def test_names_that_cannot_be_are_refused(monkeypatch, tmp_path, source, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        load_data(source, data_dir=name)
