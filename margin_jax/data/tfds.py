"""CIFAR-10 from a folder that TensorFlow Datasets prepared, read without TensorFlow."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from margin_jax.data.split import Dataset, Split, make_split
from margin_jax.errors import InputError

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
        names = tuple(builder.info.features["label"].names)
    except Exception as error:  # TFDS lets the errors of its JSON and protobuf parsers through
        raise _refusal(version, f"TFDS cannot open it ({error})") from error
    _check_files(version, builder)
    # The images stay encoded in TFDS and are decoded here by Pillow: a third of the time, the same pixels whether or
    # not OpenCV is installed, and no advice to install it.
    sources = {where: builder.as_data_source(split=where, decoders={"image": tfds.decode.SkipDecoding()})
               for where in EXAMPLES}
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
        found = file_format.value if file_format else "an unknown format"
        raise _refusal(version, f"it is stored as {found}, which only TensorFlow reads; prepare it with "
                                "file_format='array_record'")
    for where, count in EXAMPLES.items():
        if where not in builder.info.splits:
            raise _refusal(version, f"it has no split {where!r}")
        split = builder.info.splits[where]
        lost = [path for path in map(Path, split.filepaths) if not path.is_file() or path.stat().st_size == 0]
        if lost:
            raise _refusal(version, f"{', '.join(path.name for path in lost)} is missing or empty")
        if split.num_examples != count:
            raise _refusal(version, f"expected {count} {where} records, found {split.num_examples}")


def _read(version: Path, where: str, source: Any) -> Split:
    images = np.empty((EXAMPLES[where], *_SHAPE), np.uint8)
    labels = np.full(EXAMPLES[where], -1, np.int32)
    for record in _records(version, where, source):
        match = re.fullmatch(rb"\D*(\d+)", record["id"])
        number = int(match[1]) if match else -1
        if not 0 <= number < len(labels) or labels[number] >= 0:
            raise _refusal(version, f"the {where} id {record['id']!r} is repeated or out of range")
        image = _decode(record["image"])
        if image is None:
            raise _refusal(version, f"the image of {record['id']!r} is no RGB picture of {_SHAPE[0]} x {_SHAPE[1]}")
        images[number], labels[number] = image, record["label"]
    return make_split(images, labels)


def _records(version: Path, where: str, source: Any) -> Iterator[dict]:
    for start in range(0, EXAMPLES[where], _CHUNK):
        try:
            yield from source.__getitems__(list(range(start, min(start + _CHUNK, EXAMPLES[where]))))
        except (RuntimeError, IndexError, ValueError, OSError) as error:
            raise _refusal(version, f"the {where} records cannot be read ({error})") from error


def _decode(encoded: bytes) -> np.ndarray | None:
    from PIL import Image

    try:
        pixels = np.asarray(Image.open(io.BytesIO(encoded)))
    except (OSError, ValueError, SyntaxError):  # Pillow reports a damaged PNG as a SyntaxError
        return None
    return pixels if pixels.shape == _SHAPE and pixels.dtype == np.uint8 else None
