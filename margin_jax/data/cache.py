"""Decoded data sets kept on disk, so that a picture is decoded once on a machine and not once a run.

An entry is a folder for one source in one state; it holds raw `.npy` files and their checksums. It is filled beside its
place and then renamed, so that a reader meets a whole entry or none, whatever number of processes write it. Every byte
is under a checksum that is compared before the byte is used, so that damage can only cost another decoding.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from margin_jax.data.dataset import Dataset, Split
from margin_jax.errors import InputError
from margin_jax.machine import user_cache

_FORMAT = 2  # 1 had no checksum of headers and of meta.json
_ABANDONED_SECONDS = 3600.0
_ARRAYS = ("images", "labels", "ids")
_PIECE = 1 << 20


def expanded(path: str) -> Path:
    """A path that a user gave, with a leading ~ expanded; raises InputError where it cannot be one of this system."""
    whole = os.path.expanduser(path)
    if whole.startswith("~"):
        raise InputError(f"cannot tell which folder {path!r} means: there is no such user or no HOME; write the whole "
                         "path")
    try:
        os.lstat(whole)
    except (OSError, ValueError) as error:  # a file that is absent or closed to us is told by who needs it
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{whole[:60]!r} cannot be a file or folder ({type(error).__name__})") from error
    return Path(whole)


def cache_root(cache_dir: str = "") -> Path:
    """Names the folder that holds all cached data sets; it need not exist.

    Args:
        cache_dir: where the user wants it; empty for the environment's MARGIN_JAX_CACHE, then
            `margin_jax` in the user's cache folder.

    Returns:
        The folder, with a leading ~ expanded.

    Raises:
        InputError: the folder begins with ~, or none is named, and the user has no home folder.
    """
    chosen = cache_dir or os.environ.get("MARGIN_JAX_CACHE", "")
    if chosen:
        return expanded(chosen)
    return user_cache()


def cached(read: Callable[[], Dataset], *, reader: str, source: Path, cache_dir: str = "") -> Dataset:
    """Returns a source's data set from the cache, or reads it and leaves it there.

    An entry is known by the reader, the source's resolved path, and the relative name, size and modification time of
    every file in it: when one changes, the source is read anew and the old entry removed. A damaged entry is replaced.
    A cache that cannot be written, or a user without a home folder, costs one logged line and nothing else.

    Args:
        read: reads the source; called only when the cache does not hold it.
        reader: names the code that reads it, such as "tfds-cifar10"; part of the entry's name.
        source: a folder that exists.
        cache_dir: as in `cache_root`.

    Returns:
        The data set, its arrays with the shapes and types of `Split`. `read` must not have randomised labels: an entry
        keeps `labels` alone, and they come back as `true_labels` too.
    """
    try:
        root = cache_root(cache_dir)
    except InputError as error:
        if cache_dir:
            raise
        logging.warning("%s is not cached: %s", reader, error)
        return read()
    family = f"{reader}-{_hash(str(source.resolve()))}-"
    entry = root / (family + _fingerprint(source))
    dataset = _read_entry(entry)
    if dataset is not None:
        return dataset
    dataset = read()
    try:
        _write_entry(dataset, entry)
        _remove_stale(root, family, entry)
    except (OSError, ValueError) as error:  # ValueError: a name that no folder can have
        logging.warning("%s cannot be cached in %s (%s); it will be decoded again next time", reader, root, error)
    return dataset


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fingerprint(source: Path) -> str:
    lines = [f"format {_FORMAT}"]
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        stat = path.stat()
        lines.append(f"{path.relative_to(source).as_posix()} {stat.st_size} {stat.st_mtime_ns}")
    return _hash("\n".join(lines))


def _checksum(path: Path) -> int:
    checksum = 0
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _meta_text(content: dict[str, Any]) -> str:
    """meta.json: the content and its checksum, in the one spelling that `_read_meta` accepts."""
    text = json.dumps(content, sort_keys=True)
    return json.dumps({"checksum": zlib.crc32(text.encode()), "content": content}, sort_keys=True)


def _read_meta(entry: Path) -> dict[str, Any]:
    text = (entry / "meta.json").read_text(encoding="utf-8")
    content = json.loads(text)["content"]
    if text != _meta_text(content):
        raise ValueError("the checksum of meta.json differs")
    return content


def _read_entry(entry: Path) -> Dataset | None:
    """Reads an entry; None if it is absent or damaged, in which case it is also taken out of the way."""
    if not os.path.lexists(entry):  # unlike Path.exists, False where a folder above may not be entered
        return None
    try:
        meta = _read_meta(entry)
        for name, expected in meta["checksums"].items():
            if _checksum(entry / f"{name}.npy") != expected:
                raise ValueError(f"the checksum of {name}.npy differs")
        arrays = {name: np.load(entry / f"{name}.npy", allow_pickle=False) for name in meta["checksums"]}
        splits = (Split(*(arrays[f"{split_name}_{name}"] for name in (*_ARRAYS, "labels")))
                  for split_name in ("train", "test"))
        return Dataset(meta["name"], *splits, tuple(meta["class_names"]))
    except Exception as error:  # a damaged file can fail in any operation, such as TokenError or RecursionError
        logging.warning("the cache entry %s is damaged (%s: %s) and will be written again", entry,
                        type(error).__name__, error)
        _discard(entry)
        return None


def _write_entry(dataset: Dataset, entry: Path) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    beside = entry.parent / f".{entry.name}.{uuid.uuid4().hex}"
    try:
        beside.mkdir()
        checksums = {}
        for split_name, split in (("train", dataset.train), ("test", dataset.test)):
            for name in _ARRAYS:
                path = beside / f"{split_name}_{name}.npy"
                np.save(path, np.ascontiguousarray(getattr(split, name)), allow_pickle=False)
                checksums[path.stem] = _checksum(path)
        meta = {"name": dataset.name, "class_names": list(dataset.class_names), "checksums": checksums}
        (beside / "meta.json").write_text(_meta_text(meta), encoding="utf-8")
        try:
            os.rename(beside, entry)
        except OSError:
            if not entry.is_dir():  # else another process was first with the same content
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _discard(folder: Path) -> None:
    """Removes a folder under another name, so that no process ever sees half of it under its own."""
    aside = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    try:
        os.rename(folder, aside)
    except OSError:
        return
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    else:  # a file or a link where the folder should be
        aside.unlink(missing_ok=True)


def _remove_stale(root: Path, family: str, entry: Path) -> None:
    """Removes entries of an earlier state of the source, and what a killed process left half-written."""
    abandoned = time.time() - _ABANDONED_SECONDS
    for path in root.iterdir():
        if path.name.startswith(family) and path != entry:
            _discard(path)
        elif path.name.startswith("." + family):
            with contextlib.suppress(FileNotFoundError):  # its process finished meanwhile
                if path.stat().st_mtime < abandoned:
                    shutil.rmtree(path, ignore_errors=True)
