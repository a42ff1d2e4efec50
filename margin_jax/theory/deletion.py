"""Appendix B of the paper: what is left of a minimum when examples are deleted.

A minimum is a zero of a sum over the training examples. After a deletion the sum over those left is no longer zero; how
far from it, in the scale of its terms, is a `Residual`, from two `Side`s: the sum before the deletion and after it.

Equation (5), classification, for every layer k and any number of classes, the margin in place of y f: in normalised
weights V_k = W_k / rho_k, with rho = prod_k rho_k and m_n = eta_n / rho,

    sum_n exp(-eta_n) (dm_n/dV_k - V_k m_n) = 0.

Of a positively homogeneous network dm_n/dV_k = (rho_k / rho) d eta_n/dW_k, so that each term is the part of a gradient
that is orthogonal to V_k. The factors exp(-eta_n) underflow long before training ends. Here they are divided by their
sum over the examples left, which is the same equation: the left side becomes a mean of the terms, with weights that the
smallest margins dominate, and means after different deletions can be compared.

Equation (4), regression: sum_n (f(x_n) - y_n) df(x_n)/dA = 0 of a model that is linear in fixed features.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax.errors import InputError
from margin_jax.parallel import map_pieces, sum_pieces
from margin_jax.theory.checks import checked_labels, checked_weights
from margin_jax.theory.margins import margins
from margin_jax.theory.norms import layer_norms, weight_layers

_ROUNDING = 1e-9  # of numbers about 1: least squares of badly conditioned features
ApplyFn = Callable[[Any, jax.Array], jax.Array]


class Side(NamedTuple):
    """The left side of an equation.

    Attributes:
      value: float64 of the shape of its weights, 0 at a critical point.
      scale: what its terms would add up to if they did not cancel, float.
    """

    value: np.ndarray
    scale: float


class Residual(NamedTuple):
    """How far an equation is from holding.

    Attributes:
      residual: ||left side||; of (5) in normalised margin per unit of V_k.
      relative: residual over the scale of the left side; of (5) 0 where the terms cancel and 1 where all agree.
      change: ||left side - left side before the deletion|| over the scale before.
      weight: share that the deleted examples had of the terms' norms before; NaN where these are rounding alone.
    """

    residual: float
    relative: float
    change: float
    weight: float


def residual_of(now: Side, before: Side, weight: float) -> Residual:
    """Compares a left side with that before the deletion.

    Args:
      now: of the examples left.
      before: of all examples, of the same shape.
      weight: as of `Residual`.

    Returns:
      The numbers of `Residual`, floats; `relative` and `change` are NaN where the scale they divide by is 0.
    """
    size = float(np.linalg.norm(now.value))
    change = float(np.linalg.norm(now.value - before.value))
    return Residual(size, size / now.scale if now.scale else math.nan,
                    change / before.scale if before.scale else math.nan, weight)


def homogeneous(params: Any, batch_stats: Any) -> bool:
    """Whether a ReLU network with these parameters is positively homogeneous in each layer, as (5) needs.

    Args:
      params: pytree of arrays, or of their shapes.
      batch_stats: pytree of running statistics, empty without BatchNorm.

    Returns:
      True if there is no BatchNorm and no bias: no running statistics, and no parameter but weight layers.
    """
    return not jax.tree.leaves(batch_stats) and len(weight_layers(params)) == len(jax.tree.leaves(params))


def soft_weights(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """exp(-eta_n) over its sum, the factors of (5).

    Args:
      values: (N,) float, raw margins on logits.
      where: (N,) boolean, the examples left, one at least.

    Returns:
      (N,) float64 that add up to 1, 0 where an example is deleted.
    """
    values, where = np.asarray(values, np.float64), np.asarray(where)
    if values.ndim != 1 or where.shape != values.shape or where.dtype != bool or not where.any():
        raise InputError(f"expected margins (N,) and a boolean mask of those left, one at least, got {values.shape} "
                         f"and {where.dtype} {where.shape} with {np.count_nonzero(where)} left")
    factors = np.where(where, np.exp(np.min(values[where]) - np.where(where, values, np.inf)), 0)
    return factors / factors.sum()


def weighted_gradient(apply_fn: ApplyFn, params: Any, images: jax.Array, labels: jax.Array, weights: jax.Array,
                      piece: int = 50) -> Any:
    """sum_n w_n d eta_n/dW, the activations of one piece alive at a time.

    Args:
      apply_fn: (params, x (P, ...)) -> logits (P, C).
      params: pytree of float arrays.
      images: (N, ...) inputs in the form that `apply_fn` accepts.
      labels: (N,) integer labels.
      weights: (N,) float.
      piece: P, static.

    Returns:
      The pytree of `params`, of the same types.

    Raises:
      ValueError: piece < 1, no rows, or arrays of different length.
    """

    def sums(x: jax.Array, y: jax.Array, factors: jax.Array, new: jax.Array) -> Any:
        return jax.grad(lambda p: jnp.sum(margins(apply_fn(p, x), y) * jnp.where(new, factors, 0)))(params)

    checked_weights(params)
    return sum_pieces(sums, (images, checked_labels(labels), weights), piece)


def term_norms(apply_fn: ApplyFn, params: Any, images: jax.Array, labels: jax.Array,
               piece: int = 50) -> dict[str, jax.Array]:
    """rho ||dm_n/dV_k - V_k m_n|| of every example n and layer k: the sizes of the terms of (5).

    Of a network with biases or BatchNorm, of which (5) does not hold, they are those of its weight layers, the other
    parameters and running statistics held fixed. The gradients of one piece are alive at a time.

    Args:
      apply_fn: (params, x (1, ...)) -> logits (1, C).
      params: pytree of float arrays.
      images: (N, ...) inputs in the form that `apply_fn` accepts.
      labels: (N,) integer labels.
      piece: P, rows at once, static.

    Returns:
      By the layer's path, such as "conv_0/kernel", (N,) float.

    Raises:
      ValueError: piece < 1, no rows, or arrays of different length.
    """
    checked_weights(params)
    norms, layers = layer_norms(params), weight_layers(params)

    def norms_of(image: jax.Array, label: jax.Array) -> dict[str, jax.Array]:
        eta, slope = jax.value_and_grad(lambda p: margins(apply_fn(p, image[None]), label[None])[0])(params)
        slopes = weight_layers(slope)
        return {name: jnp.sqrt(jnp.sum(jnp.square(norms[name] * slopes[name] - w / norms[name] * eta)))
                for name, w in layers.items()}

    return map_pieces(jax.vmap(norms_of), (images, checked_labels(labels)), piece)


def kkt_weights(values: np.ndarray, terms: dict[str, np.ndarray]) -> np.ndarray:
    """What share each example has of the terms of (5): mean over layers of exp(-eta_n) t_n / sum_m exp(-eta_m) t_m.

    (5) is the stationarity of the largest margin at which training of a homogeneous network arrives (Lyu and Li 2020),
    with exp(-eta_n) in place of its multipliers: examples of no weight could be deleted.

    Args:
      values: (N,) float, raw margins on logits.
      terms: of `term_norms`, t_n (N,) by layer.

    Returns:
      (N,) float64 >= 0 that add up to 1; a layer whose terms are all 0 does not count, and without any other the
      weights are those of `soft_weights`.

    Raises:
      InputError: terms of another number of examples, or margins as `soft_weights` refuses them.
    """
    factors = soft_weights(values, np.ones(np.shape(values), bool))
    shares = []
    for name, term in terms.items():
        if np.shape(term) != factors.shape:
            raise InputError(f"expected terms {factors.shape} of {name!r}, one for each margin, got {np.shape(term)}")
        sizes = factors * np.asarray(term, np.float64)
        shares += [sizes / sizes.sum()] if sizes.sum() > 0 else []
    return np.mean(shares, axis=0) if shares else factors


def network_sides(params: Any, gradient: Any, values: np.ndarray, weights: np.ndarray,
                  terms: dict[str, np.ndarray]) -> dict[str, Side]:
    """The left side of (5) for every layer, by its path, in float64 on the host.

    Args:
      params: pytree in which every leaf is a weight layer.
      gradient: of `weighted_gradient` with these weights.
      values: (N,) raw margins.
      weights: (N,) of `soft_weights`.
      terms: of `term_norms`.

    Returns:
      By the layer's path, its left side, with `value` of the shape of the layer's weights.
    """
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(params)]
    sizes = [float(np.linalg.norm(leaf)) for leaf in leaves]
    rho, mean = math.prod(sizes), float(weights @ np.asarray(values, np.float64))
    sides = {}
    for name, leaf, size, slope in zip(terms, leaves, sizes, jax.tree.leaves(gradient), strict=True):
        value = (size * np.asarray(slope, np.float64) - leaf / size * mean) / rho
        sides[name] = Side(value, float(weights @ np.asarray(terms[name], np.float64)) / rho)
    return sides


def least_squares(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The A of least norm that minimises ||features @ A - targets||.

    Args:
      features: (N, D) float64, h_n.
      targets: (N, C) float64, y_n.

    Returns:
      (D, C) float64.
    """
    return np.linalg.lstsq(features, targets, rcond=None)[0]


def interpolates(features: np.ndarray, targets: np.ndarray, solution: np.ndarray) -> bool:
    """Whether a solution meets its targets, but for rounding in float64.

    Args:
      features: (N, D) float64.
      targets: (N, C) float64.
      solution: (D, C) float64.
    """
    return bool(np.linalg.norm(features @ solution - targets) <= _ROUNDING * np.linalg.norm(targets))


def regression_side(features: np.ndarray, targets: np.ndarray, solution: np.ndarray, where: np.ndarray) -> Side:
    """The gradient of 1/n sum_n ||A^T h_n - y_n||^2 over the examples left: the left side of (4) times 2/n.

    Its scale is that of the terms at A = 0: those of an interpolating minimum are all rounding.

    Args:
      features: (N, D) float64, h_n.
      targets: (N, C) float64, y_n.
      solution: (D, C) float64, A.
      where: (N,) boolean, the examples left, one at least.

    Returns:
      The left side, with `value` (D, C).
    """
    h, y = features[where], targets[where]
    factor = 2 / len(h)
    scale = float(np.sum(np.linalg.norm(h, axis=1) * np.linalg.norm(y, axis=1)))
    return Side(factor * h.T @ (h @ solution - y), factor * scale)
