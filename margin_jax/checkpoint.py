"""Checkpoints with Orbax: the only module that imports it."""

import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp


class Checkpoints:
    """The checkpoints of one run: the newest two under `latest`, the one at separation under `separation`.

    Saving waits for the disk, so that what a later step donates cannot change what is written.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        """Opens or creates `directory`."""
        root = pathlib.Path(directory).absolute()
        self._managers = {name: ocp.CheckpointManager(root / name, options=ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, enable_async_checkpointing=False)) for name, keep in
            (("latest", 2), ("separation", 1))}

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
            self._managers[name].save(epoch, args=ocp.args.StandardSave(jax.tree.map(np.asarray, tree)))

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
                               args=ocp.args.StandardRestore(abstract))
