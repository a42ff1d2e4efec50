"""Writing a run folder: the only module that creates, appends to and finishes one.

Nothing is ever overwritten: a finished run is refused, an unfinished one is continued by the same config alone, and
rows recorded after the checkpoint that a run resumes from are cut off before they are computed again.
"""

import csv
import fcntl
import io
import json
import math
import os
import pathlib
import time
from typing import Any

import numpy as np

from margin_jax import records, tables
from margin_jax.errors import InputError


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


class RunFolder:
    """An open run folder, locked against a second process; use as a context manager."""

    def __init__(self, workdir: str | pathlib.Path, wait: float = 0.0) -> None:
        """Opens or creates the folder; call `workdir.inspect` first.

        Args:
          workdir: the folder.
          wait: seconds for which another process may hold it.

        Raises:
          InputError: the folder cannot be written, or another process holds it.
        """
        self.path = pathlib.Path(workdir).absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "w")  # noqa: SIM115, held until close
        except OSError as error:
            raise InputError(f"cannot write to {self.path} ({error.strerror}); choose another --workdir") from error
        until = time.monotonic() + wait
        while not self._locked():
            if time.monotonic() >= until:
                self._lock.close()
                raise InputError(f"another process is running in {self.path}; wait for it or choose another "
                                 "--workdir")
            time.sleep(0.1)

    def _locked(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            return False

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

    def record(self, row: dict[str, float], margins: np.ndarray | None) -> None:
        """Appends one recorded epoch: a row of metrics.csv and, where they are kept, the raw margins (N,) float32."""
        if margins is not None:
            with open(self.path / records.PARTIAL, "ab") as file:
                file.write(np.int32(row["epoch"]).tobytes() + np.ascontiguousarray(margins, np.float32).tobytes())
        with open(self.path / "metrics.csv", "a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, records.METRICS, lineterminator="\n").writerow(row)

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Appends a row to the table `name` of `tables.COLUMNS`, which `rewind` cuts back by its column "epoch"."""
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
        _replace(self.path / name, lambda file: file.write(text.encode()))

    def rewind(self, epoch: int, count: int) -> None:
        """Cuts off everything recorded after `epoch`, or starts the records; `count` is N."""
        (self.path / "margins.npz").unlink(missing_ok=True)  # left by a process that ended inside `finish`
        _cut(self.path / "metrics.csv", records.METRICS, epoch)
        for name in ("removals.csv", "collapse.csv"):
            if (self.path / name).is_file():
                _cut(self.path / name, tables.COLUMNS[name], epoch)
        partial = self.path / records.PARTIAL
        if partial.is_file():
            rows = records.partial_rows(partial, count)
            kept = int((np.ascontiguousarray(rows[:, 0]).view(np.int32) <= epoch).sum())
            # A new file: cutting off what a reader has mapped would end the reader.
            _replace(partial, lambda file: rows[:kept].tofile(file))

    def finish(self, summary: dict[str, Any]) -> None:
        """Assembles margins.npz from what was recorded and writes summary.json, after which the run is over."""
        partial = self.path / records.PARTIAL
        if partial.is_file() and partial.stat().st_size:
            margins = records.read_margins(self.path)
            _replace(self.path / "margins.npz", lambda file: np.savez(file, **margins._asdict()))
        _write_json(self.path / "summary.json", summary)
        partial.unlink(missing_ok=True)
