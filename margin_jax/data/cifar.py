"""CIFAR-10 in the three forms in which people have it, each found by `find_...` and read by `read_...`.

- `cifar-10-batches-bin`, the official binary archive: rows of one label and 3072 pixels.
- `cifar-10-batches-py`, the official pickles. A pickle can name any function and have it called while it is read;
  `read_arrays` lets a file name just what arrays of integers need, answers each of these names with a function of its
  own that checks what it gets, and ends the reading at any other name before anything is called.
- A folder that TensorFlow Datasets (TFDS) prepared, read as ArrayRecord without TensorFlow.

All give images (N, 32, 32, 3) uint8. The archives number examples in the order of their files, TFDS by the number in
its records' `id`; whether both name the same pictures is not promised, so compare ids between runs of one source.
"""

import io
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from margin_jax.data.dataset import Dataset, Split, make_split, short
from margin_jax.errors import InputError

_INTEGERS = {text: np.dtype(text) for kind in "ui" for text in (f"{kind}1", f"{kind}2", f"{kind}4", f"{kind}8")}
_INTEGERS |= {dtype.name: dtype for dtype in _INTEGERS.values()} | {"|u1": np.dtype("u1"), "|i1": np.dtype("i1")}


class _Refused(Exception):
    """Says what the file holds that is not admitted."""


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


class _Type:
    """Stands in for numpy.dtype, of integers alone: text of the type, then a state that may set the order of bytes."""

    def __init__(self, spec: str | bytes, align: int = 0, copy: int = 0) -> None:
        if _text(spec) not in _INTEGERS:
            raise _Refused(f"an array of type {spec!r}")
        self.dtype = _INTEGERS[_text(spec)]

    def __setstate__(self, state: tuple) -> None:
        _, order, *rest = state
        if _text(order) not in "<>|=" or any(field not in (None, -1, 0) for field in rest):
            raise _Refused("an array of a type with fields")
        if _text(order) in "<>":
            self.dtype = self.dtype.newbyteorder(_text(order))


def _array(data: bytes | bytearray, kind: Any, shape: tuple[int, ...], order: str) -> np.ndarray:
    """An array over `data`; ValueError where the bytes do not fill the shape."""
    if not isinstance(kind, _Type) or not isinstance(data, (bytes, bytearray)):
        raise _Refused(f"an array made of {type(data).__name__} and {type(kind).__name__}")
    return np.frombuffer(data, kind.dtype).reshape(shape, order=order)


class _Array:
    """Stands in for the array that numpy's _reconstruct makes empty and the pickle then fills."""

    content: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, by_columns, data = state
        self.content = _array(data, kind, shape, "F" if by_columns else "C")


def _reconstruct(*_: Any) -> _Array:
    """Stands in for numpy's _reconstruct."""
    return _Array()


def _from_buffer(data: bytes | bytearray, kind: Any, shape: tuple[int, ...], order: str,
                 axes: tuple[int, ...] | None = None) -> np.ndarray:
    """Stands in for numpy's _frombuffer, by which protocol 5 writes contiguous arrays."""
    if order == "K" and axes is not None:
        return _array(data, kind, shape, "C").transpose(axes)
    return _array(data, kind, shape, order)


def _scalar(kind: Any, data: bytes) -> int:
    """Stands in for numpy's scalar: a list of labels may hold NumPy's own integers."""
    return int(_array(data, kind, (), "C"))


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Stands in for _codecs.encode, by which Python 3 writes bytes in the old protocols."""
    if encoding != "latin1":
        raise _Refused(f"text in the encoding {encoding!r}")
    return text.encode("latin1")


# NumPy 2 moved its modules from numpy.core to numpy._core. "numpy.ndarray" is only ever an argument of _reconstruct.
_ADMITTED: dict[tuple[str, str], Any] = {
    (module, name): stand_in for module in ("numpy.core", "numpy._core") for (module, name), stand_in in {
        (f"{module}.multiarray", "_reconstruct"): _reconstruct, (f"{module}.multiarray", "scalar"): _scalar,
        (f"{module}.numeric", "_frombuffer"): _from_buffer}.items()}
_ADMITTED |= {("numpy", "ndarray"): None, ("numpy", "dtype"): _Type, ("_codecs", "encode"): _latin1_bytes}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise _Refused(f"the name {module}.{name}")
        return _ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"the outside object {pid!r}")


def read_arrays(path: Path) -> dict:
    """Reads a pickled dictionary of integer arrays, numbers, texts and lists without running code from the file.

    Args:
        path: a pickle written by Python 2 or 3, of any protocol.

    Returns:
        The dictionary. Text that Python 2 wrote comes back as bytes, keys included.

    Raises:
        InputError: the file cannot be opened, is cut short or damaged, holds anything else, or is no dictionary.
    """
    try:
        with open(path, "rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except _Refused as error:
        raise InputError(f"{path} is refused: expected a pickle of integer arrays and plain values, found "
                         f"{short(error)}. "
                         "Fetch the official files again, or the binary ones with launch/prepare_data.py") from error
    except Exception as error:  # a damaged pickle can fail in any operation: EOFError, KeyError, MemoryError, ...
        raise InputError(f"{path} is cut short or damaged ({type(error).__name__}: {short(error)}); fetch it "
                         "again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} should hold a dictionary, found {type(content).__name__}")
    return {key: value.content if isinstance(value, _Array) else value for key, value in content.items()}


BINARY_FOLDER, PICKLE_FOLDER = "cifar-10-batches-bin", "cifar-10-batches-py"
BINARY_BATCHES = (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin")
PICKLE_BATCHES = tuple(name.removesuffix(".bin") for name in BINARY_BATCHES)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_SIDE, _CHANNELS = 32, 3
_PIXELS = _SIDE * _SIDE * _CHANNELS
_OFFICIAL_ROWS = 10_000

# One batch: planar pixels (n, 3072) and labels (n,).
_Batch = tuple[np.ndarray, np.ndarray]


def find_archive(folder: Path) -> Path | None:
    """Finds the folder of an official archive.

    Args:
        folder: the archive's folder itself, or the one it was unpacked into.

    Returns:
        The binary folder if there is one, since it holds no pickle, else that of the pickles, else None. A folder
        counts by its name or by holding any of the batch files; whether it is complete shows when it is read.
    """
    for name, batches in ((BINARY_FOLDER, BINARY_BATCHES), (PICKLE_FOLDER, PICKLE_BATCHES)):
        if (folder / name).is_dir():
            return folder / name
        if folder.is_dir() and (folder.name == name or any((folder / batch).is_file() for batch in batches)):
            return folder
    return None


def read_archive(folder: Path) -> Dataset:
    """Reads the five training batches and the test batch of an official archive.

    Args:
        folder: what `find_archive` returned.

    Returns:
        images (N, 32, 32, 3) uint8; ids count the rows of data_batch_1 to data_batch_5 in that order, and those of
        the test batch on their own.

    Raises:
        InputError: a batch file is missing, cut short, damaged, or holds anything but arrays.
    """
    binary = folder.name == BINARY_FOLDER or any((folder / name).is_file() for name in BINARY_BATCHES)
    names, reader = (BINARY_BATCHES, _read_binary) if binary else (PICKLE_BATCHES, _read_pickle)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} lacks {', '.join(missing)}; CIFAR-10 needs all of {', '.join(names)}. Unpack the "
                         f"archive again, or run: python launch/prepare_data.py --dir={folder.parent}")
    *train, test = _read_batches(folder, names, reader)
    classes = _binary_classes(folder) if binary else _pickle_classes(folder)
    return Dataset("cifar10", _join(train), _join([test]), classes)


def _read_batches(folder: Path, names: tuple[str, ...], reader: Callable[[Path], _Batch]) -> list[_Batch]:
    """Reads all batches and compares their lengths: a file cut at the end of a row shows in nothing else."""
    batches = [reader(folder / name) for name in names]
    lengths = [len(labels) for _, labels in batches]
    official = _OFFICIAL_ROWS in lengths
    if len(set(lengths if official else lengths[:-1])) != 1:
        counts = ", ".join(f"{name} {length}" for name, length in zip(names, lengths))
        raise InputError(f"the batches of {folder} should have equally many rows, found {counts}; a shorter one is cut "
                         "short: unpack the archive again")
    return batches


def _join(batches: list[_Batch]) -> Split:
    # The files hold the red, the green, then the blue plane of each image; the library wants channels last.
    planes = np.concatenate([pixels for pixels, _ in batches]).reshape(-1, _CHANNELS, _SIDE, _SIDE)
    labels = np.concatenate([labels for _, labels in batches])
    return make_split(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels)


def _read_binary(path: Path) -> _Batch:
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if content.size % (1 + _PIXELS):
        raise InputError(f"{path} is cut short: expected rows of {1 + _PIXELS} bytes, found {content.size} bytes; "
                         "unpack the archive again")
    rows = content.reshape(-1, 1 + _PIXELS)
    return rows[:, 1:], rows[:, 0]


def _read_pickle(path: Path) -> _Batch:
    content = _with_text_keys(read_arrays(path))
    pixels, labels = content.get("data"), content.get("labels")
    shape = getattr(pixels, "shape", type(pixels).__name__)
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise InputError(f"{path} should hold 'data' of shape (n, {_PIXELS}), found {shape}")
    if pixels.dtype != np.uint8:
        raise InputError(f"{path} should hold 'data' of type uint8, found {pixels.dtype}")
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    valid = isinstance(labels, (list, tuple)) and all(type(label) is int and 0 <= label <= 255 for label in labels)
    if not valid or len(labels) != len(pixels):
        raise InputError(f"{path} should hold 'labels', {len(pixels)} class numbers in a list, a tuple or an array; "
                         "fetch the archive again")
    return pixels, np.array(labels, np.int32)


def _binary_classes(folder: Path) -> tuple[str, ...]:
    path = folder / "batches.meta.txt"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return tuple(line.strip() for line in lines if line.strip()) or CIFAR10_CLASSES


def _pickle_classes(folder: Path) -> tuple[str, ...]:
    path = folder / "batches.meta"
    names = _with_text_keys(read_arrays(path)).get("label_names") if path.is_file() else None
    if not isinstance(names, (list, tuple)) or not names:
        return CIFAR10_CLASSES
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names)


def _with_text_keys(content: dict) -> dict:
    """Python 2 wrote the keys as bytes, a rewrite by Python 3 as text."""
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}


EXAMPLES = {"train": 50_000, "test": 10_000}

_SHAPE = (32, 32, 3)
_CHUNK = 1000
_NEEDED = ("dataset_info.json", "features.json")


def find_tfds(folder: Path) -> Path | None:
    """Finds the newest prepared version of CIFAR-10.

    Args:
        folder: a TFDS data folder, its `cifar10`, or the folder of one version.

    Returns:
        The folder of the version, one that holds `dataset_info.json`; None if there is none.
    """
    versions = [child for parent in (folder, folder / "cifar10") for child in _children(parent)
                if re.fullmatch(r"\d+\.\d+\.\d+", child.name)]
    versions.sort(key=lambda path: tuple(int(part) for part in path.name.split(".")), reverse=True)
    return next((path for path in (folder, *versions) if (path / _NEEDED[0]).is_file()), None)


def describe_tfds(folder: Path) -> str:
    """Says what a folder without a prepared version holds of one, for an error message.

    Args:
        folder: what was given to `find_tfds`.

    Returns:
        One clause: that the folder does not exist, that preparing was interrupted, or that nothing lies there.
    """
    if not folder.is_dir():
        return f"{folder} is no folder"
    names = [child.name for parent in (folder, folder / "cifar10") for child in _children(parent)
             if "incomplete" in child.name or re.match(r"\d+\.\d+\.\d+", child.name)]
    if names:
        return f"{folder} holds CIFAR-10 half-prepared by TFDS (found {', '.join(names)}, but no {_NEEDED[0]})"
    return f"{folder} holds no CIFAR-10 (found {', '.join(child.name for child in _children(folder)[:8]) or 'nothing'})"


def read_tfds(version: Path) -> Dataset:
    """Reads and decodes all 60,000 photographs, in about ten seconds.

    Args:
        version: what `find_tfds` returned.

    Returns:
        images (N, 32, 32, 3) uint8. The ids are the numbers in TFDS's own `id` ("train_25346"), each of 0..N-1 once;
        the records themselves lie in shuffled order.

    Raises:
        InputError: files are missing or damaged, are not ArrayRecord, or do not hold 50,000 and 10,000 records.
    """
    import tensorflow_datasets as tfds

    missing = [name for name in _NEEDED if not (version / name).is_file()]
    if missing:
        raise _refusal(version, f"{', '.join(missing)} is missing")
    try:
        builder = tfds.builder_from_directory(version)
        names, called = tuple(builder.info.features["label"].names), builder.info.name
    except Exception as error:  # TFDS lets the errors of its JSON and protobuf parsers through
        raise _refusal(version, f"TFDS cannot open it ({error})") from error
    if called != "cifar10":
        raise _refusal(version, f"it holds the data set {called!r}")
    _check_files(version, builder)
    # The images stay encoded in TFDS and are decoded here by Pillow: a third of the time, the same pixels whether or
    # not OpenCV is installed, and no advice to install it.
    sources = {split_name: builder.as_data_source(split=split_name, decoders={"image": tfds.decode.SkipDecoding()})
               for split_name in EXAMPLES}
    return Dataset("cifar10", _read(version, "train", sources["train"]), _read(version, "test", sources["test"]), names)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except PermissionError as error:
        raise InputError(f"cannot look into {folder}: {error.strerror}") from error


def _refusal(version: Path, problem: str) -> InputError:
    return InputError(f"{version} cannot be used as CIFAR-10 prepared by TFDS: {problem}. Prepare it again, or fetch "
                      "the official archive: python launch/prepare_data.py --dir=DIR, then give DIR as config.data.dir")


def _check_files(version: Path, builder: Any) -> None:
    file_format = builder.info.file_format
    if file_format is None or file_format.value != "array_record":
        stored = file_format.value if file_format else "an unknown format"
        raise _refusal(version, f"it is stored as {stored}, which only TensorFlow reads; prepare it with "
                                "file_format='array_record'")
    for split_name, count in EXAMPLES.items():
        if split_name not in builder.info.splits:
            raise _refusal(version, f"it has no split {split_name!r}")
        split = builder.info.splits[split_name]
        lost = [path for path in map(Path, split.filepaths) if not path.is_file() or path.stat().st_size == 0]
        if lost:
            raise _refusal(version, f"{', '.join(path.name for path in lost)} is missing or empty")
        if split.num_examples != count:
            raise _refusal(version, f"expected {count} {split_name} records, found {split.num_examples}")


def _read(version: Path, split_name: str, source: Any) -> Split:
    images = np.empty((EXAMPLES[split_name], *_SHAPE), np.uint8)
    labels = np.full(EXAMPLES[split_name], -1, np.int32)
    for record in _records(version, split_name, source):
        match = re.fullmatch(rb"\D*(\d+)", record["id"])
        number = int(match[1]) if match else -1
        if not 0 <= number < len(labels) or labels[number] >= 0:
            raise _refusal(version, f"the {split_name} id {record['id']!r} is repeated or out of range")
        image = _decode(record["image"])
        if image is None:
            raise _refusal(version, f"the image of {record['id']!r} is no RGB picture of {_SHAPE[0]} x {_SHAPE[1]}")
        images[number], labels[number] = image, record["label"]
    return make_split(images, labels)


def _records(version: Path, split_name: str, source: Any) -> Iterator[dict]:
    for start in range(0, EXAMPLES[split_name], _CHUNK):
        try:
            yield from source.__getitems__(list(range(start, min(start + _CHUNK, EXAMPLES[split_name]))))
        except (RuntimeError, IndexError, ValueError, OSError) as error:
            raise _refusal(version, f"the {split_name} records cannot be read ({error})") from error


def _decode(encoded: bytes) -> np.ndarray | None:
    from PIL import Image

    try:
        pixels = np.asarray(Image.open(io.BytesIO(encoded)))
    except (OSError, ValueError, SyntaxError):  # Pillow reports a damaged PNG as a SyntaxError
        return None
    return pixels if pixels.shape == _SHAPE and pixels.dtype == np.uint8 else None
