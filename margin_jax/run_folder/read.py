"""Reading a run folder: NumPy arrays and dictionaries, no JAX, also while the run still goes on.

Every file is compared with its checksum: small ones whenever they are read, margins.npz once for as long as it stays as
it is, at some 5 GB a second where it is in memory. Damage is a `checksums.DamagedError` that names the file.
"""

import csv
import dataclasses
import io
import os
import pathlib
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from margin_jax.errors import InputError
from margin_jax.run_folder import checksums, tables
from margin_jax.run_folder.checksums import PARTIAL, Sum, checked_bytes, damaged

METRICS = ("epoch", "train_loss", "train_error", "test_loss", "test_error", "rho", "margin_min", "margin_auc", "kept",
           "seconds")
WHOLE = ("epoch", "kept")
NOT_NPZ = (zipfile.BadZipFile, zipfile.LargeZipFile, struct.error, ValueError, KeyError, OSError, EOFError,
           NotImplementedError, RuntimeError, MemoryError, SyntaxError, zlib.error)  # what a damaged .npz may raise


class Margins(NamedTuple):
    """Margins of every training example at the epochs whose margins were kept, by default all recorded ones.

    Attributes:
      epochs: (E,) int64, ascending, each of metrics.csv.
      ids: (N,) int64, ascending.
      labels: (N,) int32, what was trained on.
      margins: (E, N) float32, raw margins on logits; removed examples included. May be a memory map.
      rho: (E,) float64.
    """

    epochs: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    margins: np.ndarray
    rho: np.ndarray

    def normalised(self, row: int) -> np.ndarray:
        """Normalised margins (N,) float64 of one recorded epoch, by its row."""
        return self.margins[row].astype(np.float64) / self.rho[row]


def _need(path: pathlib.Path) -> pathlib.Path:
    if not path.is_file():
        checksums.check_absent(path)
        raise InputError(f"{path.parent} is not a run folder of margin_jax: it has no {path.name}; "
                         "give the --workdir of a run")
    return path


def read_json(workdir: str | pathlib.Path, name: str) -> dict[str, Any]:
    """The dictionary in `config.json` or `summary.json`.

    Raises:
      InputError: no such file, a damaged one, or a run folder of a later version.
    """
    path = _need(pathlib.Path(workdir) / name)
    content = checksums.parsed(path, checked_bytes(path))
    if not isinstance(content, dict):
        raise damaged(path, "it holds no dictionary")
    if name == "config.json":
        if "config" not in content:
            raise damaged(path, "it has no config")
        if content.get("schema", 1) not in range(1, checksums.SCHEMA + 1):
            raise InputError(f"{path.parent} was written by margin_jax "
                             f"{content.get('versions', {}).get('margin_jax', 'of a later version')}, which reads it; "
                             f"this version reads run folders up to schema {checksums.SCHEMA}")
    return content


def read_metrics(workdir: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Columns of metrics.csv, each (E,): int64 for epoch and kept, float64 for the others.

    Errors are in percent, losses in nats, `seconds` counts from the run's start. A line still being written is left
    out.
    """
    path = _need(pathlib.Path(workdir) / "metrics.csv")
    return parsed_metrics(path, checked_bytes(path))


def parsed_metrics(path: pathlib.Path, data: bytes) -> dict[str, np.ndarray]:
    """The columns of `read_metrics` from the bytes of a file; raises `checksums.DamagedError`."""
    try:
        header, *rows = list(csv.reader(data[:data.rfind(b"\n") + 1].decode("utf-8").splitlines()))
        if any(len(row) != len(header) for row in rows):
            raise ValueError("a line has too few or too many cells")
        columns = {name: [row[header.index(name)] for row in rows] for name in METRICS}
        return {name: np.array(column, np.float64).astype(np.int64 if name in WHOLE else np.float64)
                for name, column in columns.items()}
    except (ValueError, csv.Error) as error:
        raise damaged(path, error) from error


def read_collapse(workdir: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Columns of collapse.csv, each (E',): int64 for epoch, float64 for the fields of `neural_collapse.Collapse`.

    Raises:
      InputError: no such table, which a run has whose record.collapse_every is not 0, or nothing recorded yet.
    """
    table = tables.read_table(workdir, "collapse.csv")
    return table | {"epoch": table["epoch"].astype(np.int64)}


def read_mask(workdir: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Arrays of mask.npz, each (N,): ids, labels, true_labels, mask (kept now), removed_epoch (-1 where kept)."""
    return read_arrays(_need(pathlib.Path(workdir) / "mask.npz"))


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of a small .npz of a work folder; raises `checksums.DamagedError`."""
    data = checked_bytes(path)
    try:
        with np.load(io.BytesIO(data)) as arrays:
            return dict(arrays)
    except NOT_NPZ as error:
        raise damaged(path, error) from error


def read_margins(workdir: str | pathlib.Path) -> Margins:
    """The margins of a run, finished or not, as a map of the file: of many epochs, only what is used is read.

    Raises:
      InputError: no run folder, nothing recorded yet, or a damaged file.
    """
    workdir = pathlib.Path(workdir)
    path = workdir / "margins.npz"
    checksums.check_absent(path)
    partial = None if path.is_file() else _read_partial(workdir)
    if partial is not None:
        return partial
    if not path.is_file():  # looked for again: a run that ended meanwhile has put it in the place of PARTIAL
        raise InputError(f"{workdir} has no recorded epoch: the run has just started, or diverged before its first one "
                         "with margins")
    checksums.check_file(path)
    try:
        with open(path, "rb") as opened, np.load(opened) as file:
            whole = {name: file[name] for name in Margins._fields if name != "margins"}
        return Margins(**whole, margins=mapped(path, "margins"))
    except NOT_NPZ as error:
        raise damaged(path, error) from error


def _read_partial(workdir: pathlib.Path) -> Margins | None:
    """The margins of a run that goes on, None where no epoch is recorded whole."""
    _check_open(workdir)
    return assembled(workdir)


def assembled(workdir: pathlib.Path) -> Margins | None:
    """The margins in PARTIAL, as margins.npz will hold them; None where no epoch is recorded whole."""
    mask, metrics = read_mask(workdir), read_metrics(workdir)
    rows = partial_rows(workdir / PARTIAL, mask["ids"].size)
    epochs = np.ascontiguousarray(rows[:, 0]).view(np.int32).astype(np.int64)
    epochs = epochs[:np.searchsorted(epochs, metrics["epoch"][-1:].sum(), side="right")]  # with their line of metrics
    if not epochs.size or not metrics["epoch"].size:
        return None
    rho = metrics["rho"][np.searchsorted(metrics["epoch"], epochs)]
    return Margins(epochs, mask["ids"], mask["labels"], rows[:epochs.size, 1:], rho)


def partial_rows(path: pathlib.Path, count: int) -> np.ndarray:
    """The whole rows (E, 1 + N) of PARTIAL as a read-only map, the first column the bits of an int32; N is `count`."""
    stored = path.stat().st_size // (4 * (count + 1)) if path.is_file() else 0
    return np.memmap(path, np.float32, "r", shape=(stored, count + 1)) if stored else np.empty((0, count + 1),
                                                                                              np.float32)


def mapped(path: pathlib.Path, name: str) -> np.ndarray:
    """An array of a .npz as a read-only map, which np.load cannot give; read whole where it is packed otherwise."""
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        member = archive.getinfo(f"{name}.npy")
        file.seek(member.header_offset + 26)  # the end of the member's own header: lengths of its name and extra field
        file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
        if member.compress_type == zipfile.ZIP_STORED and np.lib.format.read_magic(file) == (1, 0):
            shape, by_column, kind = np.lib.format.read_array_header_1_0(file)
            return np.memmap(path, kind, "r", file.tell(), shape, "F" if by_column else "C")
    with open(path, "rb") as file, np.load(file) as loaded:
        return loaded[name]


# Records of a run that is not over, against what its newest checkpoint says of them.


def _partial_pieces(path: pathlib.Path) -> Iterator[bytes]:
    """The rows of PARTIAL from the margins.npz that a run which ended has put in its place."""
    for epoch, row in zip(mapped(path, "epochs"), mapped(path, "margins"), strict=True):
        yield np.int32(epoch).tobytes() + np.ascontiguousarray(row, np.float32).tobytes()


def partial_pieces(workdir: pathlib.Path, size: int) -> Iterator[bytes]:
    """The first `size` bytes of PARTIAL, piece by piece, also where margins.npz has taken its place."""
    if (workdir / PARTIAL).is_file():
        yield from checksums.blocks(workdir / PARTIAL, size)
        return
    try:
        for piece in _partial_pieces(workdir / "margins.npz"):
            if size <= 0:
                return
            yield piece[:size]
            size -= len(piece)
    except NOT_NPZ as error:
        raise damaged(workdir / "margins.npz", error) from error


def damaged_record(workdir: pathlib.Path, marks: dict[str, Any]) -> str:
    """What is wrong with the records that a checkpoint needs, "" if nothing is.

    Args:
      workdir: the run folder.
      marks: by file its size and checksum when the checkpoint was written, as of `RunFolder.marks`.
    """
    for name, mark in marks.items():
        path, wanted = workdir / name, Sum(*mark)
        if not path.is_file() and not (name == PARTIAL and (workdir / "margins.npz").is_file()):
            return f"{path} is missing"
        try:
            seen = checksums.sum_of_pieces(partial_pieces(workdir, wanted.size) if name == PARTIAL else
                                           checksums.blocks(path, wanted.size))
        except checksums.DamagedError as error:
            return str(error)
        if seen.size < wanted.size:
            return f"{path} is cut after {seen.size} of {wanted.size} bytes"
        if seen != wanted:
            return f"{path} is damaged within its first {wanted.size} bytes"
    return ""


def checkpoint_folders(workdir: pathlib.Path) -> list[pathlib.Path]:
    """The folders of the checkpoints from which a run goes on, the newest first."""
    latest = workdir / "checkpoints" / "latest"
    steps = [path for path in latest.iterdir() if path.name.isdigit()] if latest.is_dir() else []
    return [path / "default" for path in sorted(steps, key=lambda path: int(path.name), reverse=True)]


def _damaged_checkpoint(workdir: pathlib.Path, folder: pathlib.Path) -> str:
    try:
        return damaged_record(workdir, (checksums.records_of(folder, arrays=False) or {}).get(".", {}))
    except checksums.DamagedError as error:
        return str(error)


def _check_open(workdir: pathlib.Path) -> None:
    """Raises `checksums.DamagedError` where the records of a run that goes on reach none of its checkpoints."""
    for _ in range(3):  # the run may be writing the next checkpoint, or cutting back its records
        messages = [_damaged_checkpoint(workdir, folder) for folder in checkpoint_folders(workdir)]
        if not messages or "" in messages:
            return
        time.sleep(0.1)
    raise checksums.DamagedError(f"{messages[0]}; {checksums.ADVICE}")


class Removal(NamedTuple):
    """Examples left out after an epoch: the epoch, and how many stayed."""

    epoch: int
    kept: int


@dataclasses.dataclass(frozen=True)
class Recorded:
    """One run folder.

    Attributes:
      workdir: the folder.
      config: the run's nested config.
      class_names: one per class.
      metrics: the columns of metrics.csv, each (E,).
      margins: raw margins (E', N) and what belongs to them; a run that goes on may have E' < E.
      mask: ids, labels, true_labels, mask and removed_epoch, each (N,).
      separation: the epoch of data separation, None before it.
      removals: in order of epoch; empty without any.
      diverged: whether the run stopped because it diverged.
    """

    workdir: pathlib.Path
    config: dict[str, Any]
    class_names: tuple[str, ...]
    metrics: dict[str, np.ndarray]
    margins: Margins
    mask: dict[str, np.ndarray]
    separation: int | None
    removals: tuple[Removal, ...]
    diverged: bool

    def normalised(self, row: int) -> np.ndarray:
        """Normalised margins (N,) float64 of one recorded epoch; NaN where a diverged run has no number."""
        with np.errstate(all="ignore"):
            values = self.margins.normalised(row)
        return np.where(np.isfinite(values), values, np.nan)


def read_run(workdir: str | pathlib.Path) -> Recorded:
    """Reads a run folder.

    Args:
      workdir: the folder of a run, finished or not.

    Raises:
      InputError: no run folder, nothing recorded yet, or files that do not belong together.
    """
    workdir = pathlib.Path(workdir)
    description = read_json(workdir, "config.json")
    metrics, mask, margins = read_metrics(workdir), read_mask(workdir), read_margins(workdir)
    if not np.array_equal(mask["ids"], margins.ids):
        raise InputError(f"mask.npz and margins.npz of {workdir} list different ids: the files are not of one run")
    checksums.check_absent(workdir / "summary.json")
    summary = read_json(workdir, "summary.json") if (workdir / "summary.json").is_file() else None
    try:
        names = tuple(str(name) for name in description["data"]["class_names"])
        return Recorded(workdir, description["config"], names, metrics, margins, mask, _separation(summary, metrics),
                        _removals(summary, mask), bool(summary) and summary["status"] == "diverged")
    except (KeyError, TypeError) as error:
        raise InputError(f"config.json or summary.json of {workdir} lacks {error}; {checksums.ADVICE}") from error


def _separation(summary: dict[str, Any] | None, metrics: dict[str, np.ndarray]) -> int | None:
    if summary is not None:
        return summary["separation_epoch"]
    zero = metrics["epoch"][metrics["train_error"] == 0]
    return int(zero[0]) if zero.size else None


def _removals(summary: dict[str, Any] | None, mask: dict[str, np.ndarray]) -> tuple[Removal, ...]:
    removed = mask["removed_epoch"]
    epochs = np.unique(removed[removed >= 0])
    if summary is not None and summary["removal"] and epochs.size <= 1:
        return (Removal(summary["removal"]["epoch"], summary["removal"]["kept"]),)
    # The mask alone knows of several removals, and of one in a run that has no summary yet.
    return tuple(Removal(int(epoch), int(np.sum((removed < 0) | (removed > epoch)))) for epoch in epochs)
