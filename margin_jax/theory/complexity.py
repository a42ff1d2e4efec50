"""Predictors of the test error that look at the weights: products of norms, spectral complexity, path norm, distances.

Layers are taken as the linear operators that they are on the images that they are applied to. A convolution is a matrix
A of (pixels out x channels out, pixels in x channels in). Its spectral norm is that of neither the kernel as a patch
matrix (`norms.layer_norm`) nor the Fourier transform of the kernel, which is exact for circular padding and stride 1
only (Sedghi, Gupta and Long 2019). Here A is applied, never built.

Measures of a ConvNet with BatchNorm are taken on the function that it computes, BatchNorm folded into the convolutions
with its running statistics, of the initial weights with those of a fresh network (as Jiang et al. 2020 fold it).
Biases, folded ones too, enter the path norm alone. Max-pooling is 1-Lipschitz, as ReLU is, and enters no product.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from margin_jax.models.convnet import Geometry, Layer, apply_linear, convnet_layers, fold_batch_norm, is_convnet
from margin_jax.theory import norms
from margin_jax.theory.norms import layer_norm

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
    unit = jnp.ones((), layer.kernel.dtype)
    _, largest, residual, _ = lax.while_loop(unfinished, step, (start, unit, unit, jnp.int32(0)))
    return jnp.where(residual > tolerance, jnp.nan, jnp.sqrt(jnp.maximum(largest, 0)))


def spectral_norm(layer: Layer, key: jax.Array | None = None, tolerance: float = TOLERANCE,
                  limit: int = LIMIT) -> jax.Array:
    """Largest singular value of a layer as applied, without its bias.

    Of a convolution by power iteration on A^T A with a block of vectors and Rayleigh-Ritz values, until the residual
    ||A^T A v - s^2 v|| <= tolerance s^2, which puts s^2 within that share of the square of a singular value; the error
    is of second order in the residual and has been at most 2e-6 of s on random kernels. Of a dense layer by its
    singular value decomposition. Compiles, and maps over kernels under `jax.vmap`.

    Args:
      layer: as `convnet.Layer`; scale matters not, down to weights of 1e-30.
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
    with jax.default_matmul_precision("highest"):  # a GPU's TF32 has errors above the tolerance: NaN for 5 of 12
        return scale * _power_iteration(unit, jax.random.key(0) if key is None else key, tolerance, limit)


def two_one_norm(layer: Layer) -> jax.Array:
    """||A^T||_{2,1} = sum over outputs of the L2 norm of the weights into that output (Bartlett et al. 2017), exactly.

    A convolution has an output per position and channel. At the border fewer of its taps lie on the image, so that the
    result is a little less than positions times the norms of the kernel's channels.

    Args:
      layer: as `convnet.Layer`.

    Returns:
      () float >= 0.
    """
    squares = layer._replace(kernel=jnp.square(layer.kernel))
    return jnp.sum(jnp.sqrt(apply_linear(squares, jnp.ones((1, *layer.shape), layer.kernel.dtype))))


def operator_norms(params: Any, image_shape: tuple[int, int, int],
                   geometry: Geometry = Geometry()) -> dict[str, jax.Array]:
    """Spectral norm of every weight layer of a ConvNet as applied to images of one shape.

    Args:
      params: of a ConvNet without BatchNorm; else fold it first (`convnet.fold_batch_norm`).
      image_shape: (H, W, C).
      geometry: of the ConvNet.

    Returns:
      () float by the path of the kernel in the pytree, as `norms.layer_norms`.

    Raises:
      ValueError: another architecture, BatchNorm, or images or a geometry that the layers do not fit.
    """
    return {name: spectral_norm(layer) for name, layer in convnet_layers(params, image_shape, geometry).items()}


class NetworkNorms(NamedTuple):
    """What the measures need to know of the weights, float32; K weight layers in one order, NaN what is not defined.

    Attributes:
      frobenius: (K,) ||W_k||_F.
      spectral: (K,) spectral norm of the layer as applied.
      moved: (K,) ||A_k^T - M_k^T||_{2,1}, the distance of the operator from its initial one.
      log_path: () natural logarithm of the path norm.
      distance: () ||W - W_0|| over all weight layers.
      initial: () ||W_0|| over all weight layers.
    """

    frobenius: jax.Array
    spectral: jax.Array
    moved: jax.Array
    log_path: jax.Array
    distance: jax.Array
    initial: jax.Array


def log_path_norm(layers: Sequence[Layer]) -> jax.Array:
    """Natural logarithm of the path norm sqrt(sum over paths of prod w^2) of a ReLU network (Neyshabur et al. 2015).

    A path leads from a pixel, or from a bias, to an output. Their sum is that of the outputs on an all-ones input with
    every weight and bias squared and the four values of a max-pooling added up, each of which is on a path of its own;
    every layer's output is divided by its largest entry, so that none overflows.

    Args:
      layers: in the order in which they are applied, between them ReLUs and, after those so marked, max-pooling.

    Returns:
      () float; -inf if no path leads through.
    """
    x, log_scale = jnp.ones(layers[0].shape, layers[0].kernel.dtype), 0.0
    for layer in layers:
        x = apply_linear(layer._replace(kernel=jnp.square(layer.kernel)), x.reshape(1, *layer.shape))
        if layer.bias is not None:
            x += jnp.square(layer.bias * jnp.exp(-0.5 * log_scale)).reshape((1,) * (x.ndim - 1) + (-1,))
        if layer.pooled:
            height, width = x.shape[1] // 2, x.shape[2] // 2
            x = x[:, :2 * height, :2 * width].reshape(1, height, 2, width, 2, -1).sum((2, 4))
        scale = jnp.where(jnp.max(x) == 0, 1, jnp.max(x))
        x, log_scale = x / scale, log_scale + jnp.log(scale)
    return 0.5 * (jnp.log(jnp.sum(x)) + log_scale)


def log_spectral_complexity(spectral: np.ndarray, moved: np.ndarray) -> float:
    """ln R_A of Bartlett, Foster and Telgarsky 2017, equation (1.2), for 1-Lipschitz activations, in float64.

    R_A = (prod_k ||A_k||_sigma) (sum_k (||A_k^T - M_k^T||_{2,1} / ||A_k||_sigma)^{2/3})^{3/2}

    A_k is the matrix of the layer as applied and M_k that of its initial weights, so that a convolution enters with
    every position that it is applied at (`two_one_norm`).

    Args:
      spectral: (K,) ||A_k||_sigma.
      moved: (K,) ||A_k^T - M_k^T||_{2,1}.

    Returns:
      -inf at the initial weights or where a layer is zero.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs, log_moved = np.log(np.asarray(spectral, np.float64)), np.log(np.asarray(moved, np.float64))
        if np.isneginf(logs).any() or np.isneginf(log_moved).all():
            return -math.inf
        return float(logs.sum() + 1.5 * np.logaddexp.reduce((log_moved - logs) * 2 / 3))


@functools.partial(jax.jit, static_argnames=("image_shape", "geometry"))
def network_norms(params: Any, initial: Any, batch_stats: Any, image_shape: tuple[int, int, int],
                  geometry: Geometry = Geometry()) -> NetworkNorms:
    """Norms of one network; for a stack of networks use `jax.vmap`.

    Args:
      params: parameter pytree.
      initial: the same pytree at initialisation.
      batch_stats: running statistics of BatchNorm, {} without.
      image_shape: (H, W, C), static.
      geometry: of a ConvNet, static.

    Returns:
      Its norms. Of an architecture other than ConvNet `spectral`, `moved` and `log_path` are NaN, and the others are
      of the weights as they are, with nothing folded.

    Raises:
      ValueError: images or a geometry that a ConvNet's layers do not fit.
    """
    chained = is_convnet(params)
    if chained:
        params, initial = fold_batch_norm(params, batch_stats), fold_batch_norm(initial)
    frobenius = norms.layer_norms(params)
    moved = jnp.stack(list(norms.layer_norms(jax.tree.map(jnp.subtract, params, initial)).values()))
    start = jnp.stack(list(norms.layer_norms(initial).values()))
    spectral = operator_moved = jnp.full(len(frobenius), jnp.nan)
    log_path = jnp.float32(jnp.nan)
    if chained:
        layers, first = (convnet_layers(tree, image_shape, geometry) for tree in (params, initial))
        spectral = jnp.stack([spectral_norm(layers[name]) for name in frobenius])
        operator_moved = jnp.stack([two_one_norm(layers[name]._replace(kernel=layers[name].kernel - first[name].kernel))
                                    for name in frobenius])
        log_path = log_path_norm(list(layers.values()))
    return NetworkNorms(jnp.stack(list(frobenius.values())), spectral, operator_moved, log_path,
                        norms.layer_norm(moved), norms.layer_norm(start))


def norm_measures(weights: NetworkNorms, margin: float) -> dict[str, float]:
    """The measures of `measures.MEASURES` that look at the weights, in float64.

    Args:
      weights: norms of one network.
      margin: gamma_hat, 10th percentile of its raw training margins; unless > 0, what is divided by it is NaN.

    Returns:
      By name.
    """
    count, log_margin = len(weights.frobenius), math.log(margin) if margin > 0 else math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        frobenius, spectral = (2 * float(np.log(np.asarray(values, np.float64)).sum())
                               for values in (weights.frobenius, weights.spectral))
        complexity, path = log_spectral_complexity(weights.spectral, weights.moved), float(weights.log_path)
        return {
            "log_frobenius_product": frobenius,
            "log_frobenius_product_over_margin": frobenius - 2 * log_margin,
            "frobenius_sum": count * float(np.exp(frobenius / count)),
            "frobenius_sum_over_margin": count * float(np.exp((frobenius - 2 * log_margin) / count)),
            "log_spectral_product": spectral,
            "log_spectral_product_over_margin": spectral - 2 * log_margin,
            "log_spectral_complexity": complexity,
            "log_spectral_complexity_over_margin": complexity - log_margin,
            "log_path_norm": path,
            "log_path_norm_over_margin": path - log_margin,
            "parameter_norm": float(np.sqrt((np.asarray(weights.frobenius, np.float64) ** 2).sum())),
            "distance_from_init": float(weights.distance),
            "relative_distance_from_init": float(np.float64(weights.distance) / np.float64(weights.initial)),
        }
