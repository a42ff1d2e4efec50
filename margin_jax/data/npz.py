"""A user's own arrays, from one `.npz` file."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from margin_jax.data.split import Dataset, Split, make_split
from margin_jax.errors import InputError

_REQUIRED = ("train_images", "train_labels", "test_images", "test_labels")
_OPTIONAL = ("train_ids", "test_ids", "class_names")
_INT32 = np.iinfo(np.int32)


def read_npz(path: Path) -> Dataset:
    """Reads `train_images`, `train_labels`, `test_images`, `test_labels` and, if given, ids and class names.

    Args:
        path: the file, or a folder that holds `dataset.npz`.

    Returns:
        images (N, H, W, C), uint8 as they are and any float as float32; (N, H, W) gets a channel axis. Rows are
        sorted by id; without ids, they are numbered in the order of the file. Without `class_names`, the classes
        are called "0", "1", ... up to the largest label.

    Raises:
        InputError: the file is missing, damaged, lacks an array, or holds Python objects or types that do not fit.
    """
    file = path / "dataset.npz" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"no file {file}; config.data.dir must name an .npz file, or a folder with dataset.npz (the "
                         "format is in docs/data.md)")
    arrays = _read_arrays(file)
    train, test = _split(arrays, "train", file), _split(arrays, "test", file)
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
            content = np.load(stream, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise InputError(f"{file} holds a single array; write the arrays together with np.savez")
            missing = [name for name in _REQUIRED if name not in content.files]
            if missing:
                raise InputError(f"{file} lacks {', '.join(missing)}; found {', '.join(content.files) or 'no arrays'}")
            return {name: content[name] for name in (*_REQUIRED, *_OPTIONAL) if name in content.files}
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{file} cannot be read as an .npz of plain arrays ({error}); write it again with np.savez, "
                         "without object arrays") from error


def _split(arrays: dict[str, np.ndarray], where: str, file: Path) -> Split:
    images, labels = arrays[f"{where}_images"], arrays[f"{where}_labels"]
    ids = arrays.get(f"{where}_ids")
    if np.issubdtype(images.dtype, np.floating):
        with np.errstate(over="ignore"):  # what overflows becomes infinity, which validation reports with its id
            images = images.astype(np.float32)
    elif images.dtype != np.uint8:
        raise InputError(f"{where}_images in {file} must be uint8 or float, got {images.dtype}; convert them with "
                         ".astype(np.uint8) or .astype(np.float32)")
    if images.ndim == 3:
        images = images[..., None]
    for name, array in (("labels", labels), ("ids", ids)):
        if array is not None:
            _check_integers(array, f"{where}_{name}", len(images), file)
    if labels.size and not (_INT32.min <= labels.min() and labels.max() <= _INT32.max):
        raise InputError(f"{where}_labels in {file} must be class numbers 0, 1, ..., got "
                         f"{labels.min()}..{labels.max()}")
    return make_split(images, labels, ids)


def _check_integers(array: np.ndarray, name: str, rows: int, file: Path) -> None:
    if array.ndim != 1:
        fix = f"np.argmax({name}, axis=1) if they are one-hot, {name}.ravel() if they are a column"
        raise InputError(f"{name} in {file} must have one axis (N,), got shape {array.shape}; use {fix}")
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{name} in {file} must be integers, got {array.dtype}; convert them with .astype(np.int64)")
    if len(array) != rows:
        raise InputError(f"{name} in {file} must have one entry for each of the {rows} images, got {len(array)}")


def _class_names(array: np.ndarray, file: Path) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise InputError(f"class_names in {file} must be one axis of text, got {array.dtype} of shape {array.shape}; "
                         "write np.array(['cat', 'dog'])")
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in array)
