"""Norms of weight layers as linear operators on the images that they are applied to.

A convolution of stride 2 with zero padding is a matrix A of (pixels out x channels out, pixels in x channels in). Its
spectral norm is that of neither the kernel as a patch matrix (`norms.layer_norm`) nor the Fourier transform of the
kernel, which is exact for circular padding and stride 1 only (Sedghi, Gupta and Long 2019). Here A is applied, never
built.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from margin_jax.chain import Layer, apply_linear, convnet_layers
from margin_jax.norms import layer_norm

# Vectors iterated together. Singular values of convolutions lie close to one another, and one vector alone may settle
# on the second largest: over twenty starts on four random kernels one erred by up to 1e-4, four by 2e-6.
BLOCK = 4
TOLERANCE = 1e-4
LIMIT = 10_000


def _power_iteration(layer: Layer, key: jax.Array, tolerance: float, limit: int) -> jax.Array:
    size = int(np.prod(layer.shape))

    def multiply(vectors: jax.Array) -> jax.Array:  # A^T A, on columns (size, block)
        out, transpose = jax.vjp(lambda x: apply_linear(layer, x), vectors.T.reshape(-1, *layer.shape))
        return transpose(out)[0].reshape(-1, size).T

    def step(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        basis, _ = jnp.linalg.qr(state[0])
        image = multiply(basis)
        values, vectors = jnp.linalg.eigh(basis.T @ image)
        largest, vector = values[-1], vectors[:, -1]
        residual = jnp.linalg.norm(image @ vector - largest * (basis @ vector))
        return image, largest, residual / largest, state[3] + 1

    def unfinished(state: tuple[jax.Array, ...]) -> jax.Array:
        return (state[2] > tolerance) & (state[3] < limit)  # a residual NaN, of A = 0 or of weights NaN, ends it

    start = jax.random.normal(key, (size, min(BLOCK, size)), layer.kernel.dtype)
    one = jnp.ones((), layer.kernel.dtype)
    _, largest, residual, _ = lax.while_loop(unfinished, step, (start, one, one, jnp.int32(0)))
    return jnp.where(residual > tolerance, jnp.nan, jnp.sqrt(jnp.maximum(largest, 0)))


def spectral_norm(layer: Layer, key: jax.Array | None = None, tolerance: float = TOLERANCE,
                  limit: int = LIMIT) -> jax.Array:
    """Largest singular value of a layer as applied, without its bias.

    Of a convolution by power iteration on A^T A with a block of vectors and Rayleigh-Ritz values, until the residual
    ||A^T A v - s^2 v|| <= tolerance s^2, which puts s^2 within that share of the square of a singular value; the error
    is of second order in the residual and has been at most 2e-6 of s on random kernels. Of a dense layer by its
    singular value decomposition. Compiles, and maps over kernels under `jax.vmap`.

    Args:
      layer: as `chain.Layer`; scale matters not, down to weights of 1e-30.
      key: of the start vectors; a fixed one if None, so that the result is always the same.
      tolerance: relative; below 1e-6 float32 may not reach it.
      limit: of iterations.

    Returns:
      () float >= 0; NaN where `limit` iterations did not reach the tolerance, or for weights that are not finite.
    """
    if layer.kernel.ndim == 2:
        return layer_norm(layer.kernel, "spectral")
    largest = jnp.max(jnp.abs(layer.kernel))
    scale = jnp.where(largest > 0, largest, 1)  # squares of small weights would underflow
    unit = layer._replace(kernel=layer.kernel / scale)
    return scale * _power_iteration(unit, jax.random.key(0) if key is None else key, tolerance, limit)


def two_one_norm(layer: Layer) -> jax.Array:
    """||A^T||_{2,1} = sum over outputs of the L2 norm of the weights into that output (Bartlett et al. 2017), exactly.

    A convolution has an output per position and channel. At the border fewer of its taps lie on the image, so that the
    result is a little less than positions times the norms of the kernel's channels.

    Args:
      layer: as `chain.Layer`.

    Returns:
      () float >= 0.
    """
    squares = layer._replace(kernel=jnp.square(layer.kernel))
    return jnp.sum(jnp.sqrt(apply_linear(squares, jnp.ones((1, *layer.shape), layer.kernel.dtype))))


def operator_norms(params: Any, image_shape: tuple[int, int, int], stride: int = 2) -> dict[str, jax.Array]:
    """Spectral norm of every weight layer of a ConvNet as applied to images of one shape.

    Args:
      params: of a ConvNet without BatchNorm; else fold it first (`chain.fold_batch_norm`).
      image_shape: (H, W, C).
      stride: of its convolutions.

    Returns:
      () float by the path of the kernel in the pytree, as `norms.layer_norms`.

    Raises:
      ValueError: another architecture, BatchNorm, or images that the layers do not fit.
    """
    return {name: spectral_norm(layer) for name, layer in convnet_layers(params, image_shape, stride).items()}
