"""A user's own arrays from one .npz: read without trusting what the file says about itself, and refused where they
would train wrongly without a word.

A zip and the headers in it may claim any size. An array is read only where its header, the entry and the bytes in the
file agree, so that a claim of a petabyte costs nothing.
"""

import collections
import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from margin_jax.data.dataset import Dataset, Split, listed, make_split, short
from margin_jax.errors import InputError, nearest

_REQUIRED = ("train_images", "train_labels", "test_images", "test_labels")
_OPTIONAL = ("train_ids", "test_ids", "class_names")
_INT32, _INT64 = np.iinfo(np.int32), np.iinfo(np.int64)
# Deflate makes at most 1,032 bytes of one; an entry that claims more lies.
_MOST_PER_BYTE = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1100}
_MOST_HEADER = 10_000  # bytes, NumPy's own limit, which it checks once they are read
_ROWS = 1000  # at once where pixels are looked at
_OTHER_SCALE = 8.0  # times brighter in both mean and maximum: digits (16) or bytes (255) against 0..1, bytes and digits


def read_npz(path: Path) -> Dataset:
    """Reads `train_images`, `train_labels`, `test_images`, `test_labels` and, if given, ids and class names.

    Args:
        path: the file, or a folder that holds `dataset.npz`.

    Returns:
        images (N, H, W, C), uint8 as they are and any float as float32; (N, H, W) gets a channel axis. Rows are
        sorted by id; without ids, they are numbered in the order of the file. Without `class_names`, the classes
        are called "0", "1", ... up to the largest label.

    Raises:
        InputError: the file is missing, damaged, lies about its size, lacks an array or holds an unknown one, holds
            Python objects or types that do not fit, images with the channels first, or splits of different scales.
    """
    file = path / "dataset.npz" if os.path.isdir(path) else path  # these two answer False to a name that cannot be
    if not os.path.isfile(file):
        raise InputError(f"no file {file}; config.data.dir must name an .npz file, or a folder with dataset.npz (the "
                         "format is in docs/data.md)")
    arrays = _read_arrays(file)
    _check_image_types(arrays, file)
    train, test = _split(arrays, "train", file), _split(arrays, "test", file)
    _check_scales(train.images, test.images, file)
    if "class_names" in arrays:
        names = _class_names(arrays["class_names"], file)
    else:
        largest = max(split.labels.max(initial=-1) for split in (train, test))
        # A stray label of a billion must not become a billion names: there are no more classes than examples.
        most = len(train.labels) + len(test.labels)
        names = tuple(str(k) for k in range(min(int(largest) + 1, most)))
    return Dataset("npz", train, test, names)


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    try:
        with open(file, "rb") as stream:
            if stream.read(6) == np.lib.format.MAGIC_PREFIX:
                raise InputError(f"{file} holds a single array; write the arrays together with np.savez")
            with zipfile.ZipFile(stream) as archive:
                entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
                _check_names([entry.filename.removesuffix(".npy") for entry in archive.infolist()], file)
                return {name: _read_array(archive, entry, name) for name, entry in entries.items()}
    except InputError:
        raise
    except Exception as error:  # a damaged zip or header can fail in any operation: RuntimeError, LZMAError, ...
        problem = f"{type(error).__name__}: {short(error)}" if str(error) else type(error).__name__
        raise InputError(f"{file} cannot be read as an .npz of plain arrays ({problem}); write it again with np.savez, "
                         "without object arrays") from error


def _check_names(names: list[str], file: Path) -> None:
    known = (*_REQUIRED, *_OPTIONAL)
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise InputError(f"{file} lacks {', '.join(missing)}; found {listed(names) or 'no arrays'}")
    for name in names:
        if name not in known:
            meant = [key for key in known if key.endswith(f"_{name}")] or [nearest(name, known)]
            raise InputError(f"{file} holds {short(name)!r}, which means nothing here; the nearest is "
                             f"{' or '.join(meant)}. Rename it or leave it out (known are {', '.join(known)})")
    repeated = sorted(name for name, count in collections.Counter(names).items() if count > 1)
    if repeated:
        raise InputError(f"{file} holds {listed(repeated)} twice; write it again with np.savez")


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> np.ndarray:
    """Reads one array; ValueError where header, entry and bytes disagree, before memory is taken for it."""
    if entry.flag_bits & 1:
        raise ValueError(f"{name} is encrypted")
    if entry.file_size > _MOST_PER_BYTE.get(entry.compress_type, math.inf) * entry.compress_size:
        raise ValueError(f"{name} claims {entry.file_size:,} bytes, made of {entry.compress_size:,} in the file")
    with archive.open(entry) as stream:
        shape, dtype = _read_header(stream, name)
        if dtype.hasobject:
            raise ValueError(f"{name} holds Python objects")
        if dtype.itemsize == 0:
            raise ValueError(f"{name} is of type {dtype}, which holds nothing")
        claimed = stream.tell() + math.prod(shape) * dtype.itemsize
        if claimed != entry.file_size:
            raise ValueError(f"{name} has {entry.file_size:,} bytes where its header, shape {shape} of {dtype}, claims "
                             f"{claimed:,}")
    memory = _machine_memory()
    if entry.file_size > memory:
        raise ValueError(f"{name} needs {entry.file_size:,} bytes, this machine has {memory:,}")
    with archive.open(entry) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _read_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
    except ValueError as error:
        raise ValueError(f"{name} is no .npy array") from error
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{name} is an array of the format {version}, expected one of {', '.join(map(str, readers))}")
    start = stream.tell()
    length = int.from_bytes(stream.read(2 if version == (1, 0) else 4), "little")
    if length > _MOST_HEADER:
        raise ValueError(f"{name} has a header of {length:,} bytes")
    stream.seek(start)
    shape, _, dtype = readers[version](stream)
    return shape, dtype


def _machine_memory() -> float:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # a system that does not tell
        return math.inf


def _check_image_types(arrays: dict[str, np.ndarray], file: Path) -> None:
    """Both splits uint8 or both float; the advice looks at the pixels, lest it overflow."""
    images = {name: arrays[name] for name in ("train_images", "test_images")}
    for name, array in images.items():
        if array.dtype == np.uint8 or np.issubdtype(array.dtype, np.floating):
            continue
        same = [other for other in images.values() if other.dtype == array.dtype and other.size]
        if array.dtype == bool:
            fix = "convert both splits with .astype(np.float32)"
        elif not np.issubdtype(array.dtype, np.integer):
            fix = "give the pixels as numbers"
        else:
            least, most = min((int(other.min()) for other in same), default=0), max(
                (int(other.max()) for other in same), default=0)
            fix = f"their values {least}..{most} fit .astype(np.uint8)" if least >= 0 and most <= 255 else (
                f"their values {least}..{most} do not fit uint8: divide both splits by one number, such as "
                f"(images / {max(abs(least), abs(most))}).astype(np.float32)")
        raise InputError(f"{name} in {file} must be uint8 or float, got {array.dtype}; {fix}")
    train, test = images.values()
    mixed = (train.dtype == np.uint8) != (test.dtype == np.uint8)
    if mixed and all(bool(np.isfinite(array).all()) for array in images.values()):  # else NaN is told first
        raise InputError(f"train_images and test_images in {file} must be of one type, got {_pixels(train)} against "
                         f"{_pixels(test)}; scale both alike, as uint8 0..255 or both as float")


def _pixels(images: np.ndarray) -> str:
    return f"{images.dtype} {images.min():.6g}..{images.max():.6g}" if images.size else f"{images.dtype}"


def _split(arrays: dict[str, np.ndarray], split_name: str, file: Path) -> Split:
    images, labels = arrays[f"{split_name}_images"], arrays[f"{split_name}_labels"]
    ids = arrays.get(f"{split_name}_ids")
    if np.issubdtype(images.dtype, np.floating):
        with np.errstate(over="ignore"):  # what overflows becomes infinity, which validation reports with its id
            images = images.astype(np.float32)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise InputError(f"{split_name}_images in {file} must have four axes (N, H, W, C), got shape {images.shape}; "
                         "grey pictures may have three (N, H, W)")
    if _channels_first(images.shape):
        raise InputError(f"{split_name}_images in {file} must be (N, H, W, C), got shape {images.shape}, which looks "
                         f"like (N, C, H, W); use {split_name}_images.transpose(0, 2, 3, 1)")
    for name, array in (("labels", labels), ("ids", ids)):
        if array is not None:
            _check_integers(array, f"{split_name}_{name}", len(images), file)
    if labels.size and not (_INT32.min <= labels.min() and labels.max() <= _INT32.max):
        raise InputError(f"{split_name}_labels in {file} must be class numbers 0, 1, ..., got "
                         f"{labels.min()}..{labels.max()}")
    if ids is not None and ids.size and ids.max() > _INT64.max:
        raise InputError(f"{split_name}_ids in {file} must be below 2^63, got {ids.max()}")
    return make_split(images, labels, ids)


def _channels_first(shape: tuple[int, ...]) -> bool:
    """Whether (N, H, W, C) can only be (N, C, H, W): pictures of one to four rows and eight channels or more.

    Three rows are colours whatever the rest; rows of another number count where the rest is square, since a signal may
    be a picture of one row.
    """
    _, channels, height, width = shape
    return min(height, width) >= 8 and (channels == 3 or channels in (1, 2, 4) and height == width)


def _check_integers(array: np.ndarray, name: str, rows: int, file: Path) -> None:
    if array.ndim != 1:
        fix = f"np.argmax({name}, axis=1) if they are one-hot, {name}.ravel() if they are a column"
        raise InputError(f"{name} in {file} must have one axis (N,), got shape {array.shape}; use {fix}")
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{name} in {file} must be integers, got {array.dtype}; {_integer_fix(array, name)}")
    if len(array) != rows:
        raise InputError(f"{name} in {file} must have one entry for each of the {rows} images, got {len(array)}")


def _integer_fix(array: np.ndarray, name: str) -> str:
    if name.endswith("_ids"):
        whole = array.dtype == bool or array.dtype.kind == "f" and bool((array == np.trunc(array)).all())
        return "convert them with .astype(np.int64)" if whole else "number the examples, or leave the ids out"
    if array.dtype.kind in "US":
        return ("number the names: class_names, train_labels = np.unique(train_labels, return_inverse=True), then "
                "test_labels = np.searchsorted(class_names, test_labels), and save class_names too")
    if array.dtype == bool or array.dtype.kind == "f" and bool((np.isfinite(array) & (array == np.trunc(array))).all()):
        return "convert them with .astype(np.int64)"
    return "give every example the number of its class, 0, 1, ..."


def _class_names(array: np.ndarray, file: Path) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise InputError(f"class_names in {file} must be one axis of text, got {array.dtype} of shape {array.shape}; "
                         "write np.array(['cat', 'dog'])")
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in array)


def _check_scales(train: np.ndarray, test: np.ndarray, file: Path) -> None:
    """Refuses test images on another scale than those of training: such a network trains well and tests at chance."""
    if not (train.size and test.size):
        return
    (mean, least, most), (test_mean, test_least, test_most) = _scale(train), _scale(test)
    if not (math.isfinite(mean) and math.isfinite(test_mean)):
        return  # which validation reports with its id
    brighter, darker = sorted((max(abs(least), abs(most)), max(abs(test_least), abs(test_most))), reverse=True)
    means = sorted((mean, test_mean), reverse=True)
    other_scale = brighter >= _OTHER_SCALE * darker and means[0] >= _OTHER_SCALE * means[1] and means[1] > 0
    centred = [_negative_share(images) for images in (train, test)] if min(least, test_least) < 0 else [0, 0]
    if other_scale or max(centred) > 0.1 and min(centred) == 0:
        raise InputError(f"train_images and test_images in {file} are on different scales, {_pixels(train)} against "
                         f"{_pixels(test)}; scale both alike")


def _pieces(images: np.ndarray) -> Iterator[np.ndarray]:
    return (images[start:start + _ROWS] for start in range(0, len(images), _ROWS))


def _scale(images: np.ndarray) -> tuple[float, float, float]:
    """Mean of the absolute values, least and largest value."""
    total = sum(float(np.abs(piece).sum(dtype=np.float64)) for piece in _pieces(images))
    return total / images.size, float(images.min()), float(images.max())


def _negative_share(images: np.ndarray) -> float:
    return sum(int((piece < 0).sum()) for piece in _pieces(images)) / images.size
