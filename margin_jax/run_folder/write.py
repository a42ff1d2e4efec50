"""Writing a run folder: the only module that creates, appends to and finishes one.

Nothing is ever overwritten: a finished run is refused, an unfinished one is continued by the same config alone, and
rows recorded after the checkpoint that a run resumes from are cut off before they are computed again. `inspect` says
what a folder holds and touches nothing; `opened` locks it for a job that is new or goes on. What is written gets its
checksum, as `margin_jax.run_folder.checksums` says.
"""

import contextlib
import csv
import io
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

from margin_jax.config import default_config, flatten
from margin_jax.errors import InputError, OverError
from margin_jax.run_folder import checksums, lock, read, tables
from margin_jax.run_folder.checksums import APPENDED, MANIFEST, PARTIAL, Sum, damaged, replace, sum_of, sum_of_file


def storable(config: Any) -> dict[str, Any]:
    """A config as nested dict for JSON, which has no infinity: a float that is not finite becomes its text, "inf"."""
    return {key: storable(value) if hasattr(value, "items") else
            str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in config.items()}


def restored(stored: dict[str, Any]) -> dict[str, Any]:
    """What `storable` was given, tuples being lists; null, which earlier versions wrote for infinity, too."""
    return _restored(stored, default_config().to_dict())


def _restored(stored: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    read = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan, None: math.inf}
    config = {}
    for key, value in stored.items():
        wanted = known.get(key)
        if isinstance(value, dict):
            value = _restored(value, wanted if isinstance(wanted, dict) else {})
        elif isinstance(wanted, float) and (value is None or isinstance(value, str)):
            value = read.get(value, value)
        config[key] = value
    return config


def _finite(content: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not have."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(_finite(content), indent=2, allow_nan=False) + "\n").encode()


def _kept_lines(path: pathlib.Path, columns: tuple[str, ...], epoch: int) -> bytes:
    """Of a table, empty if absent, the header and the whole lines whose column "epoch" is at most `epoch`."""
    place = columns.index("epoch")
    try:
        lines = path.read_bytes().decode("utf-8").splitlines(keepends=True) if path.is_file() else []
        kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",")[place]) <= epoch]
    except (ValueError, IndexError) as error:
        raise damaged(path, error) from error
    return "".join([",".join(columns) + "\n", *kept]).encode()


def _existing(path: str, flags: int) -> int:
    """Opens a file to append to, and makes none: in the place of a removed one it would hold the last rows alone."""
    return os.open(path, flags & ~os.O_CREAT)


class RunFolder:
    """An open run folder, locked against a second process; use as a context manager."""

    def __init__(self, workdir: str | pathlib.Path, wait: float = 0.0) -> None:
        """Opens or creates the folder; call `inspect` first.

        Args:
          workdir: the folder.
          wait: seconds for which another process may hold it.

        Raises:
          InputError: the folder cannot be written, or another process holds it.
          FileNotFoundError: it belongs to a job under way whose folder was moved or removed.
        """
        self.path = pathlib.Path(workdir).absolute()
        self._listed: checksums.Listed | None = None
        self._sums: dict[str, Sum] = {}  # of what grows, as it was written
        self._unsynced: set[str] = set()
        lock.check_place(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = lock.acquire(self.path / ".lock", wait)
        except OSError as error:
            raise InputError(f"cannot write to {self.path} ({error.strerror}); choose another --workdir") from error

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def _listing(self) -> checksums.Listed:
        """What manifest.json lists; of a folder of an earlier version nothing yet."""
        if self._listed is None:
            self._listed = checksums.read_manifest(self.path)
        return self._listed

    def _put(self, name: str, data: bytes) -> None:
        """Writes a file anew. Until it is there, manifest.json lists what it was and what it will be."""
        listed, path = self._listing(), self.path / name
        before = listed.get(name) or [sum_of_file(path) if path.is_file() else None]
        listed[name] = [*before, sum_of(data)]
        checksums.write_manifest(self.path, listed)
        replace(path, lambda file: file.write(data))
        listed[name] = [sum_of(data)]
        checksums.write_manifest(self.path, listed)

    def check(self) -> None:
        """Raises FileNotFoundError if somebody has removed or moved the folder: no part of a run is written anew."""
        lock.check_place(self.path)

    def start(self, description: dict[str, Any]) -> None:
        """Writes config.json, with which the folder counts as a run; `description` is what it holds."""
        if "config" in description:
            description = description | {"config": storable(description["config"])}
        self._put("config.json", _json(description | {"schema": checksums.SCHEMA}))

    def write_mask(self, **arrays: np.ndarray) -> None:
        """Writes mask.npz; arrays as in `run_folder.read.read_mask`."""
        self.write_arrays("mask.npz", **arrays)

    def write_arrays(self, name: str, **arrays: np.ndarray) -> None:
        """Writes a small .npz anew, which `read.read_arrays` reads."""
        file = io.BytesIO()
        np.savez(file, **arrays)
        self._put(name, file.getvalue())

    def _append(self, name: str, data: bytes) -> None:
        path = self.path / name
        before = self._sums.get(name) or (sum_of_file(path) if path.is_file() else Sum(0, sum_of(b"").crc))
        with open(path, "ab", opener=_existing if before.size else None) as file:
            file.write(data)
        self._sums[name] = checksums.extended(before, data)
        self._unsynced.add(name)

    def record(self, row: dict[str, float], margins: np.ndarray | None) -> None:
        """Appends one recorded epoch: a row of metrics.csv and, where they are kept, the raw margins (N,) float32."""
        self.check()
        if margins is not None:
            epoch, values = np.int32(row["epoch"]), np.ascontiguousarray(margins, np.float32)
            self._append(PARTIAL, epoch.tobytes() + values.tobytes())
        self._append("metrics.csv", _line(read.METRICS, row))

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Appends a row to the table `name` of `tables.COLUMNS`, which `rewind` cuts back by its column "epoch"."""
        self.check()
        columns, path = tables.COLUMNS[name], self.path / name
        header = b"" if path.is_file() and path.stat().st_size else ",".join(columns).encode() + b"\n"
        self._append(name, header + _line(columns, row))

    def marks(self) -> dict[str, Sum]:
        """Brings what was appended to the disk; the size and checksum of each of these files, for a checkpoint."""
        for name in self._unsynced:
            with open(self.path / name, "rb+") as file:
                os.fsync(file.fileno())
        self._unsynced.clear()
        return dict(self._sums)

    def recorded(self) -> int:
        """How many epochs are recorded at least, whole or damaged."""
        path, partial = self.path / "metrics.csv", self.path / PARTIAL
        margins = (self.path / "margins.npz").is_file() or (partial.is_file() and partial.stat().st_size > 0)
        return max(int(margins), path.read_bytes().count(b"\n") - 1 if path.is_file() else 0)

    def write_table(self, name: str, rows: list[dict[str, Any]], columns: tuple[str, ...] = ()) -> None:
        """Writes a table anew, with the columns of `tables.COLUMNS` or others; absent keys and NaN give empty cells."""
        text = io.StringIO()
        writer = csv.DictWriter(text, columns or tables.COLUMNS[name], lineterminator="\n", restval="",
                                extrasaction="ignore")
        writer.writeheader()
        writer.writerows({key: "" if value != value else value for key, value in row.items()} for row in rows)
        self.write_text(name, text.getvalue())

    def write_text(self, name: str, text: str) -> None:
        """Writes a file of the folder anew."""
        self.check()
        self._put(name, text.encode())

    def rewind(self, epoch: int, count: int, marks: dict[str, Any] | None = None) -> None:
        """Cuts off everything recorded after `epoch`, or starts the records; `count` is N.

        Args:
          epoch: of the checkpoint that the run goes on from; -1 begins anew.
          count: N.
          marks: what that checkpoint says of the records, which `read.damaged_record` has checked; None of one of an
            earlier version.
        """
        listed = self._listing()
        for name in (*APPENDED, "margins.npz", "summary.json"):  # a process may have ended inside `finish`
            listed.pop(name, None)
        checksums.write_manifest(self.path, listed)
        if marks is None:
            self._cut(epoch, count)
        else:
            self._cut_to({name: Sum(*mark) for name, mark in marks.items()})
        (self.path / "margins.npz").unlink(missing_ok=True)
        self._sums = {name: sum_of_file(self.path / name) for name in APPENDED if (self.path / name).is_file()}
        self._unsynced = set(self._sums)

    def _cut_to(self, marks: dict[str, Sum]) -> None:
        for name in APPENDED:
            path = self.path / name
            if name not in marks:
                path.unlink(missing_ok=True)
            elif not path.is_file() or path.stat().st_size != marks[name].size:
                # A new file: cutting off what a reader has mapped would end the reader.
                pieces = read.partial_pieces(self.path, marks[name].size) if name == PARTIAL else checksums.blocks(
                    path, marks[name].size)
                replace(path, lambda file, pieces=pieces: file.writelines(pieces))

    def _cut(self, epoch: int, count: int) -> None:
        for name in APPENDED[:-1]:
            path, columns = self.path / name, tables.COLUMNS.get(name, read.METRICS)
            if name == "metrics.csv" or path.is_file():
                kept = b"" if epoch < 0 else _kept_lines(path, columns, epoch)
                replace(path, lambda file, kept=kept or ",".join(columns).encode() + b"\n": file.write(kept))
        partial = self.path / PARTIAL
        if partial.is_file():
            rows = read.partial_rows(partial, count)
            kept = int((np.ascontiguousarray(rows[:, 0]).view(np.int32) <= epoch).sum())
            replace(partial, lambda file: rows[:kept].tofile(file))

    def finish(self, summary: dict[str, Any]) -> None:
        """Assembles margins.npz from what was recorded and writes summary.json, after which the run is over.

        Raises:
          DamagedError: a file is no longer what was written, which would enter the results.
        """
        for name, written in self._sums.items():
            path = self.path / name
            if not path.is_file() or sum_of_file(path) != written:
                raise damaged(path, "it changed while the run went on", "run the same command again, which mends what "
                              "can be mended")
        partial = self.path / PARTIAL
        if partial.is_file() and partial.stat().st_size:
            margins = read.assembled(self.path)
            assert margins is not None  # a row of margins is written with its row of metrics.csv
            replace(self.path / "margins.npz", lambda file: np.savez(file, **margins._asdict()))
        data, listed = _json(summary), self._listing()
        for path in sorted(self.path.iterdir()):
            if path.is_file() and path.suffix in (".json", ".csv", ".npz") and path.name != MANIFEST:
                seen = sum_of_file(path)
                if seen not in listed.get(path.name, [seen]) and path.name not in ("margins.npz", "summary.json"):
                    raise damaged(path, "it changed while the job went on")
                listed[path.name] = [seen]
        for states in ([None, sum_of(data)], [sum_of(data)]):  # a process that dies in between has not ended the run
            listed["summary.json"] = states
            checksums.write_manifest(self.path, listed, durable=True)
            if None in states:
                replace(self.path / "summary.json", lambda file: file.write(data))
        partial.unlink(missing_ok=True)


def _line(columns: tuple[str, ...], row: dict[str, Any]) -> bytes:
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerow(row)
    return text.getvalue().encode()


# These change no result.
MOVABLE = ("data.dir", "data.cache_dir", "compress.base", "stability.base", "figures",
           "checkpoint_seconds", "log_every_seconds")
NEW, OPEN, OVER = "new", "open", "over"


def difference(stored: Any, wanted: Any) -> list[str]:
    """Lines "key: stored -> wanted" for the keys in which two configs differ, MOVABLE ones left out.

    A key that the stored config lacks came with a later version, and had its default before.
    """
    default, old, new = (json.loads(json.dumps(flatten(config))) for config in (default_config(), restored(stored),
                                                                         wanted))
    old = default | old
    absent = "(absent)"
    return [f"  {key}: {old.get(key, absent)!r} -> {new.get(key, absent)!r}" for key in sorted(old.keys() | new.keys())
            if old.get(key, absent) != new.get(key, absent) and key not in MOVABLE]


def state_of(workdir: str | pathlib.Path, config: Any) -> str:
    """Says what a work folder holds of the run of this config.

    Args:
      workdir: the run folder, which need not exist.
      config: the config of this run, nested.

    Returns:
      NEW for none, OPEN for one to continue, OVER for one that has ended.

    Raises:
      InputError: a run of another config, a folder that holds something else, or no permission.
    """
    if not str(workdir):
        raise InputError("expected --workdir=DIR, a folder for this run, got nothing")
    workdir = pathlib.Path(workdir).absolute()
    parent = next(p for p in (workdir, *workdir.parents) if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {parent}; choose a --workdir in a folder where you may")
    # What a process leaves that dies before its run has begun.
    unborn = {".lock", "config.json.new", MANIFEST, MANIFEST + ".new"}
    if not workdir.exists() or not any(p for p in workdir.iterdir() if p.name not in unborn):
        return NEW
    if not (workdir / "config.json").is_file():
        checksums.check_absent(workdir / "config.json")
        raise InputError(f"{workdir} is not empty and holds no run of margin_jax; choose another --workdir")
    lines = difference(read.read_json(workdir, "config.json")["config"], config)
    over = (workdir / "summary.json").is_file()
    if lines:
        raise InputError(f"{workdir} holds a run {'that is over and never overwritten, ' if over else ''}of another "
                         "config (stored -> given); choose another --workdir or give the stored values:\n"
                         + "\n".join(lines))
    return OVER if over else OPEN


def inspect(workdir: str | pathlib.Path, config: Any) -> bool:
    """Says whether a work folder holds a run to continue; arguments and errors as of `state_of`.

    Raises:
      OverError: a run that is over.
    """
    state = state_of(workdir, config)
    if state == OVER:
        status = read.read_json(workdir, "summary.json")["status"]
        raise OverError(f"{pathlib.Path(workdir).absolute()} holds a run that is over ({status}), which is never "
                         "overwritten; choose another --workdir")
    return state == OPEN


@contextlib.contextmanager
def opened(path: str | pathlib.Path, config: Any, description: dict[str, Any],
           wait: float = 0.0) -> Iterator[RunFolder]:
    """The folder, locked while the context lasts; a new one has its config.json written.

    Args:
      path: the work folder; callers have looked at it with `inspect` before any compute.
      config: of the job.
      description: what config.json is to hold.
      wait: seconds for which another process may hold the folder.

    Raises:
      InputError: another job, other settings or other data lie there, or another process holds it.
    """
    with RunFolder(path, wait) as folder:
        if inspect(path, config):  # again, now that no other process can finish the job meanwhile
            check_origin(path, description)
        else:
            folder.start(description)
        yield folder


def check_origin(path: str | pathlib.Path, description: dict[str, Any]) -> None:
    """Refuses another job and other data; warns of other versions, with which the run need not end bit-equal."""
    stored = read.read_json(path, "config.json")
    job = stored.get("job", "train")
    if job != description["job"]:
        by, other = ("margin_jax.Recorder" if name == "recorder" else f"launch/{name}.py"
                     for name in (job, description["job"]))
        raise InputError(f"{path} was started by {by}, which continues it; choose another --workdir for {other}")
    for key in ("versions", "device"):
        if stored[key] != description[key]:
            logging.warning("%s was started with %s %s, goes on with %s", path, key, stored[key], description[key])
    if stored["data"]["digest"] != description["data"]["digest"]:
        raise InputError(f"{path} was started on other data of the name {stored['data']['name']!r}: the digest was "
                         f"{stored['data']['digest'][:12]}, is {description['data']['digest'][:12]}; "
                         "restore the data or choose another --workdir")
