"""Checksums of what lies on disk, so that damage is named and never read as a number. No JAX, no Orbax.

Three kinds of files have three places for them. What is written whole (JSON, .npz, tables that are made anew) is listed
in the folder's manifest.json. What grows by appending (`APPENDED`) is checked up to the newest checkpoint, which tells
how long each file was and its CRC-32 at that moment; what comes after is cut off and computed again. A checkpoint's
.npz ends with its own CRC-32 and that of records.json beside it. Folders of earlier versions have none of the three
and are read unchecked.
"""

import functools
import json
import os
import pathlib
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from margin_jax.errors import InputError

MANIFEST = "manifest.json"
SCHEMA = 2  # of run folders, in config.json; 1, those without the key, have no checksums
BLOCK = 1 << 18
# Margins of a run that goes on: rows of one int32, the epoch, and N raw margins float32. Not every row of metrics.csv
# need have one.
PARTIAL = "margins.partial"
APPENDED = ("metrics.csv", "removals.csv", "collapse.csv", PARTIAL)


class DamagedError(InputError):
    """A file is not what was written; the message names it and says what to do."""


class Sum(NamedTuple):
    """How long something is, in bytes, and its CRC-32 as eight hexadecimal digits."""

    size: int
    crc: str


Listed = dict[str, list[Sum | None]]  # what each file of a folder may be; None: absent

ADVICE = "restore it from a copy, or run the job again in a new --workdir"


def damaged(path: pathlib.Path, finding: object, advice: str = ADVICE) -> DamagedError:
    """The error of a damaged file: what is wrong with it, and what to do."""
    return DamagedError(f"{path} is damaged: {finding}; {advice}")


def sum_of(data: bytes) -> Sum:
    """The checksum of bytes."""
    return Sum(len(data), f"{zlib.crc32(data):08x}")


def blocks(path: pathlib.Path, size: int) -> Iterator[bytes]:
    """The first `size` bytes of a file, piece by piece."""
    with open(path, "rb") as file:
        while size > 0 and (block := file.read(min(size, BLOCK))):
            size -= len(block)
            yield block


def sum_of_pieces(pieces: Iterator[bytes]) -> Sum:
    """The checksum of bytes that come in pieces."""
    size, crc = 0, 0
    for piece in pieces:
        size, crc = size + len(piece), zlib.crc32(piece, crc)
    return Sum(size, f"{crc:08x}")


def sum_of_file(path: pathlib.Path, size: int | None = None) -> Sum:
    """The checksum of a file, or of its first `size` bytes, in little memory."""
    return sum_of_pieces(blocks(path, path.stat().st_size if size is None else size))


def extended(before: Sum, data: bytes) -> Sum:
    """The checksum of what `before` is of with `data` behind it."""
    return Sum(before.size + len(data), f"{zlib.crc32(data, int(before.crc, 16)):08x}")


def replace(path: pathlib.Path, write: Callable[[Any], Any], durable: bool = True) -> None:
    """Writes a file under another name and renames it, so that a reader never sees half of one.

    Args:
      path: the file.
      write: is given the open file.
      durable: whether to wait until the disk has it.
    """
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "wb") as file:
        write(file)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)


def parsed(path: pathlib.Path, data: bytes) -> Any:
    """The content of a JSON file; raises DamagedError."""
    try:
        return json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise damaged(path, f"it is no JSON ({error})") from error


def _manifest_sum(files: dict[str, Any]) -> str:
    return sum_of(json.dumps(files, sort_keys=True).encode()).crc


def read_manifest(folder: pathlib.Path) -> Listed:
    """What manifest.json lists, {} where there is none.

    Raises:
      DamagedError: the manifest itself is damaged.
    """
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    advice = "restore it from a copy; without it the folder is read unchecked"
    try:
        content = json.loads(data.decode("utf-8"))
        files = content["files"]
        if content["crc32"] != _manifest_sum(files):
            raise ValueError("its checksum is another")
        return {name: [None if state is None else Sum(*state) for state in states] for name, states in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, error, advice) from error


def write_manifest(folder: pathlib.Path, listed: Listed, durable: bool = False) -> None:
    """Writes manifest.json anew."""
    files = json.loads(json.dumps(dict(sorted(listed.items()))))
    text = json.dumps({"crc32": _manifest_sum(files), "files": files}, indent=1) + "\n"
    replace(folder / MANIFEST, lambda file: file.write(text.encode()), durable)


TRIES = 5  # the file or the manifest may be replaced between the reading of one and of the other


def _agreeing(path: pathlib.Path, look: Callable[[], tuple[Any, Sum]]) -> Any:
    """What `look` gives of a file, whose checksum is one of those listed or which is not listed."""
    for attempt in range(TRIES):
        states = read_manifest(path.parent).get(path.name)
        content, seen = look()
        if states is None or seen in states:
            return content
        time.sleep(0.02 * attempt)
    sizes = " or ".join(str(state.size) for state in states if state is not None)
    raise damaged(path, f"{seen.size} bytes of checksum {seen.crc}, manifest.json lists {sizes} bytes of another"
                  if str(seen.size) != sizes else f"its checksum is {seen.crc}, manifest.json lists another")


def checked_bytes(path: pathlib.Path) -> bytes:
    """The bytes of a file, compared with what manifest.json of its folder lists.

    Raises:
      DamagedError: they are others, or the manifest is damaged.
    """

    def look() -> tuple[bytes, Sum]:
        data = path.read_bytes()
        return data, sum_of(data)

    return _agreeing(path, look)


def check_file(path: pathlib.Path) -> None:
    """Compares a file of any size with what manifest.json lists, once for as long as it stays as it is.

    Raises:
      DamagedError: it is another, or the manifest is damaged.
    """
    about = path.stat()
    _check_once(path, about.st_size, about.st_mtime_ns, about.st_ino)


@functools.lru_cache(maxsize=4096)
def _check_once(path: pathlib.Path, *_: int) -> None:
    _agreeing(path, lambda: (None, sum_of_file(path)))


def check_absent(path: pathlib.Path) -> None:
    """Raises DamagedError for a file that is not there although manifest.json lists it."""
    states = read_manifest(path.parent).get(path.name)
    if states and None not in states and not path.is_file():
        raise damaged(path, "it is missing")


# Checkpoints.

ARRAYS, RECORDS = "arrays.npz", "records.json"
_MAGIC = b"margin_jax 1 "
_TAIL = 17  # two checksums and a space between them
_END = b"PK\x05\x06"  # a .zip without a comment ends with 22 bytes from here on


def seal(folder: pathlib.Path, records: Any) -> None:
    """Ends ARRAYS of a checkpoint with its checksum, as the comment of a .zip, and writes RECORDS beside it.

    Args:
      folder: holds ARRAYS as `numpy.savez` has written it.
      records: for JSON, by relative folder what `RunFolder.marks` gives; None without any.
    """
    text = json.dumps(records).encode()
    replace(folder / RECORDS, lambda file: file.write(text))
    with open(folder / ARRAYS, "r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write((len(_MAGIC) + _TAIL).to_bytes(2, "little") + _MAGIC)
        file.flush()
        crc = sum_of_file(folder / ARRAYS).crc
        file.write(f"{crc} {sum_of(text).crc}".encode())
        file.flush()
        os.fsync(file.fileno())


def records_of(folder: pathlib.Path, arrays: bool = True) -> Any:
    """Checks a checkpoint; what `seal` was given, None where it is of an earlier version.

    Args:
      folder: holds ARRAYS and RECORDS.
      arrays: whether to read all of ARRAYS, which may be large.

    Raises:
      DamagedError: the checkpoint is not what was written.
    """
    path = folder / ARRAYS
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            file.seek(max(size - len(_MAGIC) - _TAIL, 0))
            end = file.read()
        if not end.startswith(_MAGIC):
            if end[-22:].startswith(_END) and end.endswith(b"\0\0"):
                return None
            raise damaged(path, "its end is missing")
        crc, _, of_records = end[len(_MAGIC):].decode("latin1").partition(" ")
        if arrays and sum_of_file(path, size - _TAIL).crc != crc:
            raise damaged(path, "its checksum is another")
        text = (folder / RECORDS).read_bytes()
    except OSError as error:
        raise damaged(folder, f"{error.filename or path}: {error.strerror}") from error
    if sum_of(text).crc != of_records:
        raise damaged(folder / RECORDS, "its checksum is another")
    return parsed(folder / RECORDS, text)
