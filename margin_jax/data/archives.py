"""CIFAR-10 from the official archives: `cifar-10-batches-bin`, or the pickles of `cifar-10-batches-py`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from margin_jax.data.split import Dataset, Split, make_split
from margin_jax.data.unpickle import read_arrays
from margin_jax.errors import InputError

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
        found = ", ".join(f"{name} {length}" for name, length in zip(names, lengths))
        raise InputError(f"the batches of {folder} should have equally many rows, found {found}; a shorter one is cut "
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
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        shape = getattr(pixels, "shape", type(pixels).__name__)
        raise InputError(f"{path} should hold 'data' of shape (n, {_PIXELS}), found {shape}")
    valid = isinstance(labels, list) and all(type(label) is int and 0 <= label <= 255 for label in labels)
    if not valid or len(labels) != len(pixels):
        raise InputError(f"{path} should hold 'labels', a list of {len(pixels)} class numbers; fetch the archive again")
    return pixels, np.array(labels, np.int32)


def _binary_classes(folder: Path) -> tuple[str, ...]:
    path = folder / "batches.meta.txt"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return tuple(line.strip() for line in lines if line.strip()) or CIFAR10_CLASSES


def _pickle_classes(folder: Path) -> tuple[str, ...]:
    path = folder / "batches.meta"
    names = _with_text_keys(read_arrays(path)).get("label_names") if path.is_file() else None
    if not isinstance(names, list) or not names:
        return CIFAR10_CLASSES
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names)


def _with_text_keys(content: dict) -> dict:
    """Python 2 wrote the keys as bytes, a rewrite by Python 3 as text."""
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}
