"""The pytrees that training carries: examples on the device, the state of one network, what an epoch saw."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from margin_jax.network import BatchStats, Network, Params


class Examples(NamedTuple):
    """A data set on the device, passed as an argument: constants of this size cost seconds of compilation.

    Attributes:
      images: (N, H, W, C) uint8 or float32, as read.
      labels: (N,) int32.
      mean: (C,) float32, subtracted from every pixel of a channel.
      std: (C,) float32, by which the difference is divided.
    """

    images: jax.Array
    labels: jax.Array
    mean: jax.Array
    std: jax.Array


class TrainState(NamedTuple):
    """Everything that training one network changes; restoring it continues the run bit for bit.

    Attributes:
      params: parameter pytree.
      batch_stats: running statistics of BatchNorm, {} without.
      opt_state: optax state, learning rate included.
      key: raw PRNG key data, uint32; the key of epoch e is this one folded with e, so it never changes.
      epoch: () int32, epochs finished.
    """

    params: Params
    batch_stats: BatchStats
    opt_state: Any
    key: jax.Array
    epoch: jax.Array


class EpochStats(NamedTuple):
    """What the steps of one epoch saw, each before its own update.

    Attributes:
      loss: () float32, mean cross-entropy over the kept rows, in nats, without the L2 term.
      errors: () int32, kept rows whose margin was not > 0.
      steps: () int32.
      bad_step: () int32, the first step, counted from 0, whose loss was not finite, or the last one if it left
        parameters that are not; -1 if all is well.
    """

    loss: jax.Array
    errors: jax.Array
    steps: jax.Array
    bad_step: jax.Array


def make_examples(images: np.ndarray, labels: np.ndarray, mean: np.ndarray, std: np.ndarray) -> Examples:
    """Puts a split on the default device; shapes and dtypes as in `Examples`."""
    return Examples(jnp.asarray(images), jnp.asarray(labels, jnp.int32), jnp.asarray(mean, jnp.float32),
                    jnp.asarray(std, jnp.float32))


def standardised(images: jax.Array, examples: Examples) -> jax.Array:
    """Pixels (B, H, W, C) of any dtype as float32 with the mean and std of `examples` applied per channel."""
    return (images.astype(jnp.float32) - examples.mean[None, None, None]) / examples.std[None, None, None]


def seed_keys(seed: int) -> jax.Array:
    """The independent keys of a run, (3,): initial weights, data order, random choices of what to keep."""
    return jax.random.split(jax.random.key(seed), 3)


def make_state(network: Network, optimizer: optax.GradientTransformation, image_shape: tuple[int, ...],
               seed: int) -> TrainState:
    """A fresh network.

    Args:
      network: its pure functions.
      optimizer: from `make_optimizer`.
      image_shape: (H, W, C).
      seed: of the initial weights and of every later draw of this network; the two use different keys.

    Returns:
      The state at epoch 0.
    """
    init_key, run_key = seed_keys(seed)[:2]
    params, batch_stats = jax.jit(network.init)(init_key, jnp.zeros((1, *image_shape), jnp.float32))
    return TrainState(params, batch_stats, optimizer.init(params), jax.random.key_data(run_key), jnp.int32(0))
