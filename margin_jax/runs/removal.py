"""Applying a rule of `masks` to the rows that are kept."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax import masks
from margin_jax.state import seed_keys


def kept_after(config: Any, margins: np.ndarray, labels: np.ndarray, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask after a removal by `config.compress`.

    Args:
      config: the config; `compress.rule`, `compress.keep`, `compress.ids` and, for the rule "random", `seed`.
      margins: (N,) raw margins; normalised ones would order alike.
      labels: (N,) int32, what is trained on.
      ids: (N,) int64.
      mask: (N,) boolean, the rows kept so far.

    Returns:
      (N,) boolean.
    """
    section = config.compress
    if section.rule == "ids":
        return masks.of_ids(ids, np.asarray(section.ids)) & mask
    scores, within = jnp.asarray(margins), jnp.asarray(mask)
    choose = {
        "smallest": lambda: masks.smallest(scores, section.keep, within),
        "largest": lambda: masks.largest(scores, section.keep, within),
        "random": lambda: masks.random(seed_keys(config.seed)[2], section.keep, within),
        "balanced": lambda: masks.balanced(scores, jnp.asarray(labels), section.keep, within),
    }
    return np.array(jax.device_get(choose[section.rule]()))
