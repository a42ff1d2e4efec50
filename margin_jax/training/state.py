"""The pytrees that training carries: examples on the device, the state of one network, what an epoch saw.

The state includes that of an optimiser from optax, whose learning rate is data, not code: changing it compiles nothing.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from margin_jax.models.network import BatchStats, Network, Params


class Examples(NamedTuple):
    """A data set on the device, passed as an argument: constants of this size cost seconds of compilation.

    Attributes:
      images: (N, H, W, C) uint8 or float32, as read.
      labels: (N,) int32.
      mean: (C,) float32, subtracted from every pixel of a channel.
      std: (C,) float32, by which the difference is divided.
      index: (N',) int32 rows of `images` and `labels` that make up the training set, in its order, where these hold
        more than it; None where they are the training set.
    """

    images: jax.Array
    labels: jax.Array
    mean: jax.Array
    std: jax.Array
    index: jax.Array | None = None


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


# Stands for the margin of a row that no step has read. Not NaN, which `--debug` would take for a fault.
NOT_SEEN = -math.inf


class EpochStats(NamedTuple):
    """What the steps of one epoch saw, each before its own update.

    Attributes:
      loss: () float32, mean cross-entropy over the kept rows, in nats, without the L2 term.
      errors: () int32, kept rows whose margin was not > 0.
      steps: () int32.
      bad_step: () int32, the first step, counted from 0, whose loss was not finite, or the last one if it left
        parameters that are not; -1 if all is well.
      margins: (N,) float32, raw margins by id; `NOT_SEEN` in rows that were not visited.
    """

    loss: jax.Array
    errors: jax.Array
    steps: jax.Array
    bad_step: jax.Array
    margins: jax.Array


def examples_of_arrays(images: np.ndarray, labels: np.ndarray, mean: np.ndarray, std: np.ndarray) -> Examples:
    """Puts a split on the default device; shapes and dtypes as in `Examples`."""
    return Examples(jnp.asarray(images), jnp.asarray(labels, jnp.int32), jnp.asarray(mean, jnp.float32),
                    jnp.asarray(std, jnp.float32))


def standardised(images: jax.Array, examples: Examples) -> jax.Array:
    """Pixels (B, H, W, C) of any dtype as float32 with the mean and std of `examples` applied per channel."""
    return (images.astype(jnp.float32) - examples.mean[None, None, None]) / examples.std[None, None, None]


def training_rows(examples: Examples, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Standardised pixels (P, H, W, C) float32 and labels (P,) of some rows (P,) int32 of the training set."""
    rows = rows if examples.index is None else examples.index[rows]
    return standardised(examples.images[rows], examples), examples.labels[rows]


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


def with_optimizer(state: TrainState, optimizer: optax.GradientTransformation, learning_rate: float,
                   keep: bool) -> TrainState:
    """The same network with another optimiser or learning rate.

    Args:
      state: of the network.
      optimizer: from `make_optimizer`.
      learning_rate: the one from now on.
      keep: whether the optimiser's own state (momentum) goes on, for which it must be of the same kind; else it is
        fresh.
    """
    opt_state = state.opt_state if keep else optimizer.init(state.params)
    rates = opt_state.hyperparams | {"learning_rate": jnp.float32(learning_rate)}
    return state._replace(opt_state=opt_state._replace(hyperparams=rates))


def parameter_distance(params: Params, origin: Params) -> float:
    """Relative distance ||theta - theta_0|| / ||theta_0|| over all parameters, in float64 on the host.

    Args:
      params: parameter pytree, theta.
      origin: the same pytree, theta_0.
    """
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64))
             for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(origin), strict=True)]
    return float(np.sqrt(sum(np.sum((a - b) ** 2) for a, b in pairs) / sum(np.sum(b**2) for _, b in pairs)))


OPTIMIZERS = ("sgd", "adam")


def _sgd(learning_rate: jax.Array, weight_decay: jax.Array, momentum: float) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum or None))


def _adam(learning_rate: jax.Array, weight_decay: jax.Array) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(learning_rate))


def make_optimizer(name: str, learning_rate: float, momentum: float = 0.9,
                   weight_decay: float = 0.0) -> optax.GradientTransformation:
    """SGD with momentum, or Adam, with L2 regularisation.

    Weight decay is added to the gradient of every parameter before momentum, as PyTorch's SGD and Adam do: it is the
    gradient of weight_decay / 2 * ||W||^2, not decoupled decay.

    Args:
      name: "sgd", v <- momentum v + g, w <- w - learning_rate v; "adam" with beta 0.9, 0.999 and epsilon 1e-8.
      learning_rate: constant; kept in the optimiser's state under `hyperparams`.
      momentum: in [0, 1), used by "sgd" alone.
      weight_decay: >= 0; kept in the optimiser's state too.

    Returns:
      A gradient transformation.

    Raises:
      ValueError: unknown name.
    """
    if name == "sgd":
        return optax.inject_hyperparams(_sgd, static_args=("momentum",), hyperparam_dtype=jnp.float32)(
            learning_rate=learning_rate, weight_decay=weight_decay, momentum=momentum)
    if name == "adam":
        return optax.inject_hyperparams(_adam, hyperparam_dtype=jnp.float32)(
            learning_rate=learning_rate, weight_decay=weight_decay)
    raise ValueError(f"expected an optimiser of {OPTIMIZERS}, got {name!r}")
