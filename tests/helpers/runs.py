"""A run in seconds: an npz data set of random pictures and a config for it."""

import numpy as np

from helpers.networks import small_arrays
from margin_jax.config import default_config


def write_npz(path, count: int = 30, num_classes: int = 3, **changes) -> None:
    """A separable data set: each class has its own brightness under noise."""
    arrays = {}
    for name, rows, seed in (("train", count, 0), ("test", 12, 1)):
        images, labels = small_arrays(rows, num_classes, size=4, seed=seed)
        arrays[f"{name}_images"] = (images // 8 + 60 * labels[:, None, None, None]).astype(np.uint8)
        arrays[f"{name}_labels"] = labels
    arrays["train_ids"] = np.arange(count) * 3 + 1  # ids are not positions
    np.savez(path, **(arrays | changes))


def run_config(path, **changes):
    """A config for the file; keys in `changes` write "__" for "."."""
    config = default_config()
    config.update({"data": {"name": "npz", "dir": str(path)}, "model": {"widths": (4,)}, "batch_size": 7,
                   "epochs": 4, "devices": 1, "checkpoint_seconds": 0.0, "log_every_seconds": 0.0})
    for key, value in changes.items():
        section, *last = key.split("__")
        if last:
            config[section][last[0]] = value
        else:
            config[section] = value
    return config
