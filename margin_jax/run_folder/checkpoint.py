"""Checkpoints with Orbax: the only module that imports it."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

ARRAYS = "arrays.npz"


@dataclasses.dataclass
class _Arrays(ocp.args.CheckpointArgs):
    tree: Any


class _OwnArrays(ocp.CheckpointHandler):
    """Leaves of a pytree as one .npz, whichever process this is.

    Orbax's own handler writes NumPy arrays in process 0 alone and refuses those that lie on one process's devices.
    """

    def save(self, directory: Any, args: _Arrays) -> None:
        np.savez(pathlib.Path(directory) / ARRAYS, *jax.tree.leaves(args.tree))

    def restore(self, directory: Any, args: _Arrays) -> Any:
        with np.load(pathlib.Path(directory) / ARRAYS) as file:
            return jax.tree.unflatten(jax.tree.structure(args.tree), [file[name] for name in file.files])


ocp.args.register_with_handler(_OwnArrays, for_save=True, for_restore=True)(_Arrays)


class Checkpoints:
    """The checkpoints of one run: the newest two under `latest`, the one at separation under `separation`.

    Saving waits for the disk, so that what a later step donates cannot change what is written.
    """

    def __init__(self, directory: str | pathlib.Path, own: bool = False) -> None:
        """Opens or creates `directory`.

        Args:
          directory: where they lie.
          own: whether each of several processes has checkpoints of its own; else all write one together.
        """
        root, self._own = pathlib.Path(directory).absolute(), own
        process = jax.process_index()
        several = ocp.options.MultiprocessingOptions(
            primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"process_{process}")
        self._managers = {}
        for name, keep in (("latest", 2), ("separation", 1)):
            (root / name).mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=keep, create=False, enable_async_checkpointing=False,
                **({"multiprocessing_options": several} if own else {}))
            self._managers[name] = ocp.CheckpointManager(
                root / name, options=options, item_handlers=_OwnArrays() if own else None)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        for manager in self._managers.values():
            manager.close()

    def save(self, epoch: int, tree: Any, name: str = "latest") -> None:
        """Saves a pytree of arrays as of the end of `epoch`; an existing checkpoint of that epoch is kept.

        Args:
          epoch: epochs finished.
          tree: pytree of arrays.
          name: "latest" or "separation".
        """
        if epoch not in self._managers[name].all_steps():
            arrays = jax.tree.map(np.asarray, tree)
            self._managers[name].save(epoch, args=_Arrays(arrays) if self._own else ocp.args.StandardSave(arrays))

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
        """
        manager = self._managers[name]
        abstract = jax.tree.map(np.asarray, like)
        return manager.restore(manager.latest_step() if epoch is None else epoch,
                               args=_Arrays(abstract) if self._own else ocp.args.StandardRestore(abstract))
