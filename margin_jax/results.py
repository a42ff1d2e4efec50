"""Writing a run folder: the only module that creates, appends to and finishes one.

Nothing is ever overwritten: a finished run is refused, an unfinished one is continued by the same config alone, and
rows recorded after the checkpoint that a run resumes from are cut off before they are computed again.
"""

import csv
import fcntl
import json
import math
import os
import pathlib
from typing import Any

import numpy as np

from margin_jax import records
from margin_jax.config import flatten
from margin_jax.errors import InputError

MOVABLE = ("data.dir", "data.cache_dir", "checkpoint_seconds", "log_every_seconds")  # change no result


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


def difference(stored: Any, wanted: Any) -> list[str]:
    """Lines "key: stored -> wanted" for the keys in which two configs differ, MOVABLE ones left out."""
    old, new = (json.loads(json.dumps(flatten(config))) for config in (stored, wanted))
    absent = "(absent)"
    return [f"  {key}: {old.get(key, absent)!r} -> {new.get(key, absent)!r}" for key in sorted(old.keys() | new.keys())
            if old.get(key, absent) != new.get(key, absent) and key not in MOVABLE]


def inspect(workdir: str | pathlib.Path, config: Any) -> bool:
    """Says whether a work folder holds a run to continue; touches nothing.

    Args:
      workdir: the run folder, which need not exist.
      config: the config of this run, nested.

    Returns:
      True if an unfinished run of the same config lies there.

    Raises:
      InputError: a finished run, a run of another config, a folder that holds something else, or no permission.
    """
    if not str(workdir):
        raise InputError("expected --workdir=DIR, a folder for this run, got nothing")
    workdir = pathlib.Path(workdir).absolute()
    parent = next(p for p in (workdir, *workdir.parents) if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {parent}; choose a --workdir in a folder where you may")
    unborn = {".lock", "config.json.new"}  # what a process leaves that dies before its run has begun
    if not workdir.exists() or not any(p for p in workdir.iterdir() if p.name not in unborn):
        return False
    if not (workdir / "config.json").is_file():
        raise InputError(f"{workdir} is not empty and holds no run of margin_jax; choose another --workdir")
    if (workdir / "summary.json").is_file():
        status = records.read_json(workdir, "summary.json")["status"]
        raise InputError(f"{workdir} holds a run that is over ({status}), which is never overwritten; "
                         "choose another --workdir")
    lines = difference(records.read_json(workdir, "config.json")["config"], config)
    if lines:
        raise InputError(f"{workdir} holds a run of another config (stored -> given); choose another --workdir or "
                         "give the stored values:\n" + "\n".join(lines))
    return True


class RunFolder:
    """An open run folder, locked against a second process; use as a context manager."""

    def __init__(self, workdir: str | pathlib.Path) -> None:
        """Opens or creates the folder; call `inspect` first.

        Raises:
          InputError: the folder cannot be written, or another process holds it.
        """
        self.path = pathlib.Path(workdir).absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "w")  # noqa: SIM115, held until close
        except OSError as error:
            raise InputError(f"cannot write to {self.path} ({error.strerror}); choose another --workdir") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise InputError(f"another process is running in {self.path}; wait for it or choose another "
                             "--workdir") from None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.close()

    def start(self, description: dict[str, Any]) -> None:
        """Writes config.json, with which the folder counts as a run; `description` is what it holds."""
        _write_json(self.path / "config.json", description)

    def write_mask(self, **arrays: np.ndarray) -> None:
        """Writes mask.npz; arrays as in `records.read_mask`."""
        _replace(self.path / "mask.npz", lambda file: np.savez(file, **arrays))

    def record(self, row: dict[str, float], margins: np.ndarray) -> None:
        """Appends one recorded epoch: a row of metrics.csv and the raw margins (N,) float32."""
        with open(self.path / records.PARTIAL, "ab") as file:
            file.write(np.ascontiguousarray(margins, np.float32).tobytes())
        with open(self.path / "metrics.csv", "a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, records.METRICS, lineterminator="\n").writerow(row)

    def rewind(self, epoch: int, count: int) -> None:
        """Cuts off everything recorded after `epoch`, or starts the records; `count` is N."""
        (self.path / "margins.npz").unlink(missing_ok=True)  # left by a process that ended inside `finish`
        metrics, header = self.path / "metrics.csv", ",".join(records.METRICS) + "\n"
        lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True) if metrics.is_file() else []
        kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",")[0]) <= epoch]
        _replace(metrics, lambda file: file.write("".join([header, *kept]).encode()))
        partial = self.path / records.PARTIAL
        if partial.is_file():
            os.truncate(partial, 4 * count * len(kept))

    def finish(self, summary: dict[str, Any]) -> None:
        """Assembles margins.npz from what was recorded and writes summary.json, after which the run is over."""
        partial = self.path / records.PARTIAL
        if partial.is_file() and partial.stat().st_size:
            margins = records.read_margins(self.path)
            _replace(self.path / "margins.npz", lambda file: np.savez(file, **margins._asdict()))
        _write_json(self.path / "summary.json", summary)
        partial.unlink(missing_ok=True)
