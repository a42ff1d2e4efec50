"""Initial weights: `normal` with a standard deviation, and PyTorch's default."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

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
        return nn.initializers.normal(std)
    if name == "pytorch":
        return _within_fan_in
    raise ValueError(f"expected an initialiser of {INITS}, got {name!r}")


def _within_fan_in(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    bound = 1 / math.sqrt(fan_in(shape))
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def bias_init(name: str, inputs: int) -> nn.initializers.Initializer:
    """Initialiser of biases: zero for "normal"; uniform within +-1/sqrt(inputs) for "pytorch", its default."""
    if name == "normal":
        return nn.initializers.zeros_init()
    bound = 1 / math.sqrt(inputs)
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)
