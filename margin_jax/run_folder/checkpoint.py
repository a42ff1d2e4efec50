"""Checkpoints: the arrays of a pytree under the names of its fields; the only module that imports Orbax.

Orbax keeps the newest ones and never leaves half of one. The arrays themselves are one .npz, which every process of
several can write: Orbax's own handler writes NumPy arrays in process 0 alone, and refuses those on the devices of one
process. What it wrote of single networks in earlier versions is read.
"""

import dataclasses
import pathlib
import time
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from margin_jax.errors import InputError

ARRAYS = "arrays.npz"
ITEM = "default"  # Orbax's folder for the one thing that a checkpoint holds


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their names in it, such as ".state.params['dense']['kernel']", in its order."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@dataclasses.dataclass
class _Arrays(ocp.args.CheckpointArgs):
    tree: Any


class _ArraysHandler(ocp.CheckpointHandler):
    """Leaves of a pytree as one .npz, whichever process this is."""

    def save(self, directory: Any, args: _Arrays) -> None:
        np.savez(pathlib.Path(directory) / ARRAYS, **named_leaves(args.tree))

    def restore(self, directory: Any, args: _Arrays) -> Any:
        names = list(named_leaves(args.tree))
        with np.load(pathlib.Path(directory) / ARRAYS) as file:
            if set(file.files) != set(names):
                raise InputError(f"{directory} is a checkpoint of another version of margin_jax; run the job again in "
                                 "a new --workdir, or finish it with that version")
            return jax.tree.unflatten(jax.tree.structure(args.tree), [file[name] for name in names])


ocp.args.register_with_handler(_ArraysHandler, for_save=True, for_restore=True)(_Arrays)


class Checkpoints:
    """The checkpoints of one run: the newest two under `latest`, the one at separation under `separation`.

    Saving waits for the disk, so that what a later step donates cannot change what is written.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        """Opens or creates `directory`, which belongs to this process alone."""
        self._root, process = pathlib.Path(directory).absolute(), jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"process_{process}")
        self._managers = {}
        for name, keep in (("latest", 2), ("separation", 1)):
            (self._root / name).mkdir(parents=True, exist_ok=True)
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

    def save(self, epoch: int, tree: Any, name: str = "latest") -> None:
        """Saves a pytree of arrays as of the end of `epoch`; an existing checkpoint of that epoch is kept.

        Args:
          epoch: epochs finished.
          tree: pytree of arrays.
          name: "latest" or "separation".
        """
        if epoch not in self._managers[name].all_steps():
            self._managers[name].save(epoch, args=_Arrays(jax.tree.map(np.asarray, tree)))
        if name == "latest":
            self._saved_at = time.monotonic()

    def latest_epoch(self, name: str = "latest") -> int | None:
        """The epoch of the newest complete checkpoint, or None."""
        return self._managers[name].latest_step()

    def restore(self, like: Any, epoch: int | None = None, name: str = "latest") -> Any:
        """Reads a checkpoint.

        Args:
          like: pytree of arrays of the wanted structure, shapes and dtypes.
          epoch: which one; the newest if absent.
          name: "latest" or "separation".

        Returns:
          The stored pytree, NumPy arrays bit for bit as they were saved.

        Raises:
          InputError: a checkpoint of another version.
        """
        epoch, like = self.latest_epoch(name) if epoch is None else epoch, jax.tree.map(np.asarray, like)
        stored = self._root / name / str(epoch) / ITEM
        if (stored / ARRAYS).is_file():
            return self._managers[name].restore(epoch, args=_Arrays(like))
        with ocp.StandardCheckpointer() as earlier:
            return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(earlier.restore(stored, like)))
