"""Checkpoints: the arrays of a pytree under the names of its fields; the only module that imports Orbax.

Orbax keeps the newest ones and never leaves half of one. The arrays themselves are one .npz, which every process of
several can write: Orbax's own handler writes NumPy arrays in process 0 alone, and refuses those on the devices of one
process. What it wrote of single networks in earlier versions is read. Nothing that Orbax writes beside the arrays is
needed to go on.
"""

import dataclasses
import json
import pathlib
import shutil
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from margin_jax.errors import InputError
from margin_jax.run_folder import checksums, lock, read
from margin_jax.run_folder.checksums import ARRAYS, DamagedError, damaged

ITEM = "default"  # Orbax's folder for the one thing that a checkpoint holds


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their names in it, such as ".state.params['dense']['kernel']", in its order."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@dataclasses.dataclass
class _Arrays(ocp.args.CheckpointArgs):
    tree: Any
    records: Any = None


class _ArraysHandler(ocp.CheckpointHandler):
    """Leaves of a pytree as one .npz, whichever process this is, with checksums."""

    def save(self, directory: Any, args: _Arrays) -> None:
        folder = pathlib.Path(directory)
        np.savez(folder / ARRAYS, **named_leaves(args.tree))
        checksums.seal(folder, args.records)

    def restore(self, directory: Any, args: _Arrays) -> Any:
        return _read_arrays(pathlib.Path(directory), args.tree)


def _read_arrays(folder: pathlib.Path, like: Any) -> Any:
    names = list(named_leaves(like))
    try:
        with open(folder / ARRAYS, "rb") as opened, np.load(opened) as file:
            stored = dict(file)
    except read.NOT_NPZ as error:
        raise damaged(folder / ARRAYS, error) from error
    if set(stored) != set(names):
        raise InputError(f"{folder} is a checkpoint of another version of margin_jax; run the job again in "
                         "a new --workdir, or finish it with that version")
    return jax.tree.unflatten(jax.tree.structure(like), [stored[name] for name in names])


ocp.args.register_with_handler(_ArraysHandler, for_save=True, for_restore=True)(_Arrays)


class Restored(NamedTuple):
    """A checkpoint to go on from.

    Attributes:
      tree: NumPy arrays, as they were saved.
      records: as of `Checkpoints.save`; {} of one of an earlier version.
    """

    tree: Any
    records: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run: the newest two under `latest`, the one at separation under `separation`.

    Saving waits for the disk, so that what a later step donates cannot change what is written.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        """Opens or creates `directory`, which belongs to this process alone; raises as `lock.check_place`."""
        self._root, process = pathlib.Path(directory).absolute(), jax.process_index()
        lock.check_place(self._root)
        alone = ocp.options.MultiprocessingOptions(
            primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"process_{process}")
        self._managers = {}
        for name, keep in (("latest", 2), ("separation", 1)):
            (self._root / name).mkdir(parents=True, exist_ok=True)
            for epoch in self._epochs(name):
                _forget_broken_metadata(self._root / name / str(epoch))
            options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=False, enable_async_checkpointing=False,
                                                   multiprocessing_options=alone)
            self._managers[name] = ocp.CheckpointManager(self._root / name, options=options,
                                                         item_handlers=_ArraysHandler())
        self._saved_at = time.monotonic()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        for manager in self._managers.values():
            manager.close()

    def due(self, every: float) -> bool:
        """Whether `every` seconds have passed since the newest of `latest` was saved, or since this was opened."""
        return time.monotonic() - self._saved_at >= every

    def _epochs(self, name: str) -> list[int]:
        """Of all checkpoints, the newest first."""
        return sorted((int(path.name) for path in (self._root / name).iterdir() if path.name.isdigit()), reverse=True)

    def save(self, epoch: int, tree: Any, name: str = "latest", records: dict[str, Any] | None = None) -> None:
        """Saves a pytree of arrays as of the end of `epoch`; an existing checkpoint of that epoch is kept.

        Args:
          epoch: epochs finished.
          tree: pytree of arrays.
          name: "latest" or "separation".
          records: by run folder, as seen from the folder above this one, what `RunFolder.marks` gives.

        Raises:
          FileNotFoundError: the folder of the job was moved or removed; it is not begun anew.
        """
        lock.check_place(self._root)
        if epoch not in self._epochs(name):
            self._managers[name].save(epoch, args=_Arrays(jax.tree.map(np.asarray, tree), records or {}))
        if name == "latest":
            self._saved_at = time.monotonic()

    def latest_epoch(self, name: str = "latest") -> int | None:
        """The epoch of the newest complete checkpoint, or None."""
        return max(self._epochs(name), default=None)

    def restore(self, like: Any, epoch: int | None = None, name: str = "latest") -> Any:
        """Reads a checkpoint.

        Args:
          like: pytree of arrays of the wanted structure, shapes and dtypes.
          epoch: which one; the newest if absent.
          name: "latest" or "separation".

        Returns:
          The stored pytree, NumPy arrays bit for bit as they were saved.

        Raises:
          InputError: no checkpoint, or one of another version.
          DamagedError: its checksum is another, or a part is missing.
        """
        epoch = self.latest_epoch(name) if epoch is None else epoch
        if epoch is None:
            raise DamagedError(f"{self._root / name} has no checkpoint; {checksums.ADVICE}")
        return self._checked(like, epoch, name).tree

    def _checked(self, like: Any, epoch: int, name: str = "latest") -> Restored:
        """A checkpoint whose checksums agree."""
        folder, like = self._root / name / str(epoch) / ITEM, jax.tree.map(np.asarray, like)
        if not (folder / ARRAYS).is_file() and (folder / "_METADATA").is_file():
            return Restored(_earlier(folder, like), {})
        records = checksums.records_of(folder)
        return Restored(_read_arrays(folder, like), records or {})

    def newest(self, like: Any, recorded: bool) -> Restored | None:
        """The newest checkpoint that is whole and that the records reach; newer ones are removed, with a warning.

        Args:
          like: pytree of arrays of the wanted structure, shapes and dtypes.
          recorded: whether anything is recorded that beginning anew would lose.

        Returns:
          None where a job begins anew.

        Raises:
          DamagedError: no checkpoint is good, and something is recorded.
          InputError: a checkpoint of another version.
        """
        epochs, messages = self._epochs("latest"), []
        for epoch in epochs:
            try:
                restored = self._checked(like, epoch)
            except DamagedError as error:
                messages.append(str(error).removesuffix(f"; {checksums.ADVICE}"))
                continue
            broken = next(filter(None, (read.damaged_record(self._root.parent / path, marks)
                                        for path, marks in restored.records.items())), "")
            if not broken:
                self._drop(epochs[:len(messages)], messages, f"going on from the checkpoint before, of epoch {epoch}")
                return restored
            messages.append(broken)
            recorded = True  # up to this checkpoint, which itself is whole
        if recorded:
            message = messages[0] if messages else f"{self._root} has lost its checkpoints"
            raise DamagedError(f"{message}; no checkpoint is left to go on from, and beginning anew would lose the "
                               f"records; {checksums.ADVICE}")
        self._drop(epochs, messages, "nothing else would be lost, beginning anew")
        return None

    def _drop(self, epochs: list[int], messages: list[str], so: str) -> None:
        if not epochs:
            return
        logging.warning("%s; %s", messages[0], so)
        for epoch in epochs:
            shutil.rmtree(self._root / "latest" / str(epoch))
        self._managers["latest"].reload()


def _earlier(folder: pathlib.Path, like: Any) -> Any:
    """A checkpoint that Orbax's own handler wrote in an earlier version, without a checksum of ours."""
    try:
        with ocp.StandardCheckpointer() as earlier:
            return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(earlier.restore(folder, like)))
    except Exception as error:  # whatever Orbax and TensorStore raise for damaged files
        raise damaged(folder, " ".join(str(error).split())[:200]) from error


def _forget_broken_metadata(folder: pathlib.Path) -> None:
    """Removes what Orbax says of a checkpoint where it is damaged: nothing needs it, and Orbax would report it."""
    path = folder / "_CHECKPOINT_METADATA"
    try:
        if path.is_file() and not isinstance(json.loads(path.read_bytes().decode("utf-8")), dict):
            path.unlink()
    except ValueError:
        path.unlink()
