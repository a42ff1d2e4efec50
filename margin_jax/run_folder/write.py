"""Writing a run folder: the only module that creates, appends to and finishes one.

Nothing is ever overwritten: a finished run is refused, an unfinished one is continued by the same config alone, and
rows recorded after the checkpoint that a run resumes from are cut off before they are computed again.

What lies in a work folder before a job opens it; touches nothing.

Opens the folder of a job that is new or goes on after an interruption.
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
from margin_jax.run_folder import lock, read, tables


def _replace(path: pathlib.Path, write: Any) -> None:
    """Writes a file under another name and renames it, so that a reader never sees half of one."""
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "wb") as file:
        write(file)
    os.replace(temporary, path)


def _finite(content: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not have."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    text = json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"
    _replace(path, lambda file: file.write(text.encode()))


def _cut(path: pathlib.Path, columns: tuple[str, ...], epoch: int) -> None:
    """Keeps of a table, made if absent, the whole lines whose column "epoch" is at most `epoch`."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    place = columns.index("epoch")
    kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",")[place]) <= epoch]
    _replace(path, lambda file: file.write("".join([",".join(columns) + "\n", *kept]).encode()))


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
        """
        self.path = pathlib.Path(workdir).absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = lock.acquire(self.path / ".lock", wait)
        except OSError as error:
            raise InputError(f"cannot write to {self.path} ({error.strerror}); choose another --workdir") from error

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def check(self) -> None:
        """Raises FileNotFoundError if somebody has removed or moved the folder: no part of a run is written anew."""
        self._lock.check()

    def start(self, description: dict[str, Any]) -> None:
        """Writes config.json, with which the folder counts as a run; `description` is what it holds."""
        _write_json(self.path / "config.json", description)

    def write_mask(self, **arrays: np.ndarray) -> None:
        """Writes mask.npz; arrays as in `run_folder.read.read_mask`."""
        _replace(self.path / "mask.npz", lambda file: np.savez(file, **arrays))

    def record(self, row: dict[str, float], margins: np.ndarray | None) -> None:
        """Appends one recorded epoch: a row of metrics.csv and, where they are kept, the raw margins (N,) float32."""
        self.check()
        if margins is not None:
            with open(self.path / read.PARTIAL, "ab") as file:
                file.write(np.int32(row["epoch"]).tobytes() + np.ascontiguousarray(margins, np.float32).tobytes())
        with open(self.path / "metrics.csv", "a", encoding="utf-8", newline="", opener=_existing) as file:
            csv.DictWriter(file, read.METRICS, lineterminator="\n").writerow(row)

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Appends a row to the table `name` of `tables.COLUMNS`, which `rewind` cuts back by its column "epoch"."""
        self.check()
        path = self.path / name
        with open(path, "a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, tables.COLUMNS[name], lineterminator="\n")
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)

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
        _replace(self.path / name, lambda file: file.write(text.encode()))

    def rewind(self, epoch: int, count: int) -> None:
        """Cuts off everything recorded after `epoch`, or starts the records; `count` is N."""
        (self.path / "margins.npz").unlink(missing_ok=True)  # left by a process that ended inside `finish`
        _cut(self.path / "metrics.csv", read.METRICS, epoch)
        for name in ("removals.csv", "collapse.csv"):
            if (self.path / name).is_file():
                _cut(self.path / name, tables.COLUMNS[name], epoch)
        partial = self.path / read.PARTIAL
        if partial.is_file():
            rows = read.partial_rows(partial, count)
            kept = int((np.ascontiguousarray(rows[:, 0]).view(np.int32) <= epoch).sum())
            # A new file: cutting off what a reader has mapped would end the reader.
            _replace(partial, lambda file: rows[:kept].tofile(file))

    def finish(self, summary: dict[str, Any]) -> None:
        """Assembles margins.npz from what was recorded and writes summary.json, after which the run is over."""
        partial = self.path / read.PARTIAL
        if partial.is_file() and partial.stat().st_size:
            margins = read.read_margins(self.path)
            _replace(self.path / "margins.npz", lambda file: np.savez(file, **margins._asdict()))
        _write_json(self.path / "summary.json", summary)
        partial.unlink(missing_ok=True)


# These change no result.
MOVABLE = ("data.dir", "data.cache_dir", "compress.base", "stability.base", "figures",
           "checkpoint_seconds", "log_every_seconds")
NEW, OPEN, OVER = "new", "open", "over"


def difference(stored: Any, wanted: Any) -> list[str]:
    """Lines "key: stored -> wanted" for the keys in which two configs differ, MOVABLE ones left out.

    A key that the stored config lacks came with a later version, and had its default before.
    """
    default, old, new = (json.loads(json.dumps(flatten(config))) for config in (default_config(), stored, wanted))
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
    unborn = {".lock", "config.json.new"}  # what a process leaves that dies before its run has begun
    if not workdir.exists() or not any(p for p in workdir.iterdir() if p.name not in unborn):
        return NEW
    if not (workdir / "config.json").is_file():
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
        raise InputError(f"{path} was started by launch/{job}.py, which continues it; choose another --workdir for "
                         f"launch/{description['job']}.py")
    for key in ("versions", "device"):
        if stored[key] != description[key]:
            logging.warning("%s was started with %s %s, goes on with %s", path, key, stored[key], description[key])
    if stored["data"]["digest"] != description["data"]["digest"]:
        raise InputError(f"{path} was started on other data of the name {stored['data']['name']!r}: the digest was "
                         f"{stored['data']['digest'][:12]}, is {description['data']['digest'][:12]}; "
                         "restore the data or choose another --workdir")
