"""BatchNorm whose statistics ignore padded and removed rows.

Initial weights: `normal` with a standard deviation, and PyTorch's default.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

FEATURES = "features"  # the name under which a Flax module sows the input of its last dense layer


EPSILON = 1e-5
MOMENTUM = 0.9  # of the running statistics; PyTorch writes the same as momentum=0.1


def masked_moments(x: jax.Array, weights: jax.Array, axis: str | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Moments of each channel over the rows of weight 1, on all devices of the axis.

    Args:
      x: (B, H, W, C) float, this device's rows.
      weights: (B,) float, 1 for rows that count and 0 for rows that do not; all 0 is allowed on some of the devices.
      axis: name of the device axis, or None for one device.

    Returns:
      Count () float, mean (C,) and population variance (C,).
    """
    count = jnp.sum(weights) * (x.shape[1] * x.shape[2])
    counts = weights[:, None, None, None] > 0  # a choice, not a product: 0 * NaN is NaN
    mean = jnp.sum(jnp.where(counts, x, 0), (0, 1, 2)) / jnp.maximum(count, 1)
    squares = jnp.sum(jnp.where(counts, jnp.square(x - mean[None, None, None]), 0), (0, 1, 2))
    if axis is None:
        return count, mean, squares / count
    # One exchange; parts are combined around the common mean (Chan, Golub and LeVeque 1979), not by raw squares.
    parts = lax.all_gather(jnp.stack([jnp.full_like(mean, count), mean, squares]), axis)
    total = jnp.sum(parts[:, 0], 0)
    mean = jnp.sum(parts[:, 0] * parts[:, 1], 0) / total
    squares = jnp.sum(parts[:, 2] + parts[:, 0] * jnp.square(parts[:, 1] - mean[None]), 0)
    return total[0], mean, squares / total


class MaskedBatchNorm(nn.Module):
    """Batch normalisation over (B, H, W) with a weight per row (Ioffe and Szegedy 2015; PyTorch's conventions).

    In training, mean and variance are taken over the rows of weight 1 alone; the variance that normalises is the
    population's, the one that enters the running average is the sample's (n/(n - 1)), as in PyTorch. A step with a
    single value per channel, which PyTorch refuses, has variance zero and is left out of the running variance.

    `axis` names the device axis over which a step's rows are shared out; the statistics are then those of all of them.
    """

    axis: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, weights: jax.Array) -> jax.Array:
        """Normalises each channel.

        Args:
          x: (B, H, W, C) float.
          train: statistics of the batch (and running ones updated) or the running ones.
          weights: (B,) float, 1 for rows that count and 0 for rows that do not; at least one 1. Ignored if not `train`.

        Returns:
          (B, H, W, C) float.
        """
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones_init(), (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        if train:
            count, mean, var = masked_moments(x, weights, None if self.is_initializing() else self.axis)
            if not self.is_initializing():
                sample = jnp.where(count > 1, var * (count / jnp.maximum(count - 1, 1)), running_var.value)
                running_mean.value = MOMENTUM * running_mean.value + (1 - MOMENTUM) * mean
                running_var.value = MOMENTUM * running_var.value + (1 - MOMENTUM) * sample
        else:
            mean, var = running_mean.value, running_var.value
        factor = scale / jnp.sqrt(var + EPSILON)
        return x * factor[None, None, None] + (bias - mean * factor)[None, None, None]


INITS = ("pytorch", "normal")


def fan_in(shape: tuple[int, ...]) -> int:
    """Inputs of one output unit: the product of all axes of a kernel (..., in, out) but the last."""
    return math.prod(shape[:-1])


def kernel_init(name: str, std: float) -> nn.initializers.Initializer:
    """Initialiser of convolution and dense kernels.

    Args:
      name: "normal", N(0, std^2), as in the paper's figure 2; "pytorch", uniform within +-1/sqrt(fan_in), which is
        what PyTorch's convolution and linear layers start from (Kaiming uniform with a = sqrt(5)).
      std: standard deviation, used by "normal" alone.

    Returns:
      A function (key, shape, dtype) -> array of that shape.

    Raises:
      ValueError: unknown name.
    """
    if name == "normal":
        return nn.initializers.normal(std, jnp.float32)
    if name == "pytorch":
        return _within_fan_in
    raise ValueError(f"expected an initialiser of {INITS}, got {name!r}")


def _within_fan_in(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    bound = 1 / math.sqrt(fan_in(shape))
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def bias_init(name: str, inputs: int) -> nn.initializers.Initializer:
    """Initialiser of biases: zero for "normal"; uniform within +-1/sqrt(inputs) for "pytorch", its default."""
    if name == "normal":
        return nn.initializers.constant(0, jnp.float32)
    bound = 1 / math.sqrt(inputs)
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)
