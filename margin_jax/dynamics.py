"""Rivals of the margin that look at the course of training: forgetting events and AUM, a score per example.

`Dynamics` records what they need, from the logit margins that the training steps see. Any framework may compute these:
arrays that NumPy understands go in. A *presentation* is one training step that reads the example; the end of an epoch
is none. All per-example arrays are in the order of ascending data set ids.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Dynamics(NamedTuple):
    """What training has shown of each example, over its presentations so far.

    Attributes:
      presentations: (N,) int32, how often a training step has read the example.
      correct: (N,) boolean, whether it was correct at its last presentation; False before the first.
      learned: (N,) boolean, whether it was correct at any presentation.
      forgotten: (N,) int32, presentations at which it was not correct after having been so at the one before.
      margin_sum: (N,) float32, sum of its logit margins over presentations.
    """

    presentations: jax.Array
    correct: jax.Array
    learned: jax.Array
    forgotten: jax.Array
    margin_sum: jax.Array


def fresh_dynamics(count: int) -> Dynamics:
    """The record of N = `count` examples before training."""
    # Five arrays of their own: one array in two fields could not be donated to a compiled step.
    return Dynamics(jnp.zeros(count, jnp.int32), jnp.zeros(count, bool), jnp.zeros(count, bool),
                    jnp.zeros(count, jnp.int32), jnp.zeros(count, jnp.float32))


def present(dynamics: Dynamics, margins: jax.Array, shown: jax.Array) -> Dynamics:
    """Adds one presentation of every example that is shown, usually those of one epoch.

    Args:
      dynamics: the record so far.
      margins: (N,) float, logit margins that the training steps saw, each before its own update; rows that are not
        shown may hold anything. A NaN margin that is shown is not correct, and makes the AUM of its row NaN.
      shown: (N,) boolean; the other rows, for instance removed ones, stay as they are.

    Returns:
      The new record.

    Raises:
      ValueError: arrays that do not cover all N examples, or `shown` that is no boolean mask.
    """
    margins, shown, last = jnp.asarray(margins, jnp.float32), jnp.asarray(shown), jnp.asarray(dynamics.correct)
    if not margins.shape == shown.shape == last.shape or shown.dtype != bool:
        raise ValueError(f"expected margins and a boolean mask of all {last.shape} examples, got {margins.shape} and "
                         f"{shown.dtype} {shown.shape}")
    correct = margins > 0
    return Dynamics(
        presentations=dynamics.presentations + shown.astype(jnp.int32),
        correct=jnp.where(shown, correct, last),
        learned=dynamics.learned | (shown & correct),
        forgotten=dynamics.forgotten + (shown & last & ~correct).astype(jnp.int32),
        margin_sum=dynamics.margin_sum + jnp.where(shown, margins, 0),
    )


def forgetting(dynamics: Dynamics) -> jax.Array:
    """Forgetting events (Toneva et al. 2019): correct at one presentation and not at the next.

    Args:
      dynamics: the record.

    Returns:
      (N,) int32; an example that was never learned counts as its number of presentations, which is 0 for one that was
      never presented.
    """
    return jnp.where(dynamics.learned, dynamics.forgotten, dynamics.presentations)


def aum(dynamics: Dynamics) -> jax.Array:
    """AUM, the mean logit margin over presentations (Pleiss et al. 2020); (N,) float32, NaN if never presented."""
    count = dynamics.presentations
    return jnp.where(count > 0, dynamics.margin_sum / jnp.maximum(count, 1), jnp.nan)
