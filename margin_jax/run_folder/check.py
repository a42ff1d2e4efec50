"""Verifies a work folder of any job: what is whole, what is damaged and what to do. No JAX."""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from margin_jax.errors import InputError
from margin_jax.run_folder import checksums, read
from margin_jax.run_folder.checksums import MANIFEST, DamagedError

AGAIN = "run the same command again: it goes on from the checkpoint before, or begins anew"


class Finding(NamedTuple):
    """What is said of one folder or file.

    Attributes:
      path: the folder or file.
      good: whether it is whole.
      message: what is so, and what to do where it is damaged.
    """

    path: pathlib.Path
    good: bool
    message: str

    def __str__(self) -> str:
        return self.message if self.message.startswith(str(self.path)) else f"{self.path}: {self.message}"


def check(workdir: str | pathlib.Path) -> list[Finding]:
    """Compares every file below a work folder that has a checksum with it; reads all of them.

    Args:
      workdir: of any job, over or interrupted; of one that goes on, files may change meanwhile.

    Returns:
      What is found, folder by folder.

    Raises:
      InputError: no folder of a job lies there.
    """
    root = pathlib.Path(workdir).absolute()
    names = ("config.json", MANIFEST, "summary.json", "metrics.csv", "checkpoints", "groups")
    folders = [path for path in (root, *sorted(root.rglob("*"))) if path.is_dir() and any(
        (path / name).exists() for name in names)]
    if not folders:
        raise InputError(f"{root} holds no job of margin_jax; give its --workdir")
    return [finding for folder in folders for finding in (*_files(folder), *_checkpoints(folder))]


def _files(folder: pathlib.Path) -> Iterator[Finding]:
    """The files that manifest.json lists."""
    try:
        listed = checksums.read_manifest(folder)
    except DamagedError as error:
        yield Finding(folder / MANIFEST, False, str(error))
        return
    over, bad = (folder / "summary.json").is_file() or "summary.json" in listed, 0
    for name in sorted(listed):
        message = _damage(folder / name)
        if message:
            bad += 1
            yield Finding(folder / name, False, message)
    if not listed:
        if (folder / "config.json").is_file() or (folder / "summary.json").is_file():
            yield _unlisted(folder)
    elif not bad:
        yield Finding(folder, True, f"{len(listed)} files whole, {'over' if over else 'not over'}")


def _unlisted(folder: pathlib.Path) -> Finding:
    path = folder / "config.json"
    try:
        schema = read.read_json(folder, "config.json").get("schema", 1) if path.is_file() else 1
    except InputError as error:
        return Finding(path, False, str(error))
    if schema > 1:
        return Finding(folder / MANIFEST, False, "it is missing: what it listed can be read, but not verified")
    return Finding(folder, True, "of an earlier version, without checksums: not verified")


def _damage(path: pathlib.Path) -> str:
    """What is wrong with a listed file, and what to do; "" if nothing is."""
    try:
        checksums.check_absent(path)
        if path.is_file():
            checksums.check_file(path)
    except DamagedError as error:
        return str(error)
    return ""


def _checkpoints(folder: pathlib.Path) -> Iterator[Finding]:
    """The checkpoints below a folder, and whether the records reach them."""
    roots = [folder / "checkpoints", *sorted((folder / "groups").glob("*"))]
    for root in (root for root in roots if root.is_dir()):
        steps = [path for path in sorted(root.glob("*/*")) if path.name.isdigit()]
        good = 0
        for step in steps:
            findings = _checkpoint(root, step)
            good += not findings
            yield from findings
        if steps and good == len(steps):
            yield Finding(root, True, f"{good} checkpoints whole")
        if not steps and not (folder / "summary.json").is_file() and _recorded(folder):
            yield Finding(root, False, f"no checkpoint is left, although something is recorded; {checksums.ADVICE}")


def _recorded(folder: pathlib.Path) -> bool:
    path = folder / "metrics.csv"
    return path.is_file() and path.read_bytes().count(b"\n") > 1


def _checkpoint(root: pathlib.Path, step: pathlib.Path) -> list[Finding]:
    item = step / "default"
    if not (item / checksums.ARRAYS).is_file() and (item / "_METADATA").is_file():
        return []  # of an earlier version, without a checksum
    try:
        records: dict[str, Any] = checksums.records_of(item) or {}
    except DamagedError as error:
        return [Finding(step, False, f"{str(error).removesuffix(f'; {checksums.ADVICE}')}; {AGAIN}")]
    messages = [(path, read.damaged_record(path, marks)) for path, marks in (
        ((root.parent / name).resolve(), marks) for name, marks in records.items())
        if not (path / "summary.json").is_file()]  # a run that is over has its manifest
    return [Finding(path, False, f"{message}, which its checkpoint {step.name} needs; {AGAIN}")
            for path, message in messages if message]
