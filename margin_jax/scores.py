"""Rivals of the margin that look at one network: EL2N and GraNd, a score per example.

All per-example arrays are in the order of ascending data set ids. Scores that look at the course of training are in
`margin_jax.dynamics`; which end of a score a selection keeps, in `margin_jax.rules`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from margin_jax.pieces import map_pieces


def _gaps(logits: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """f_j - f_y of one example, (C,) float, NaN if y is out of range; and which classes are not y, (C,) boolean."""
    if logits.ndim != 1 or logits.shape[0] < 2:
        raise ValueError(f"expected logits of shape (C,) for each example with C >= 2, got {logits.shape}")
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    others = jnp.arange(logits.shape[0]) != label
    own = jnp.sum(jnp.where(others, 0, logits)) + jnp.where(jnp.all(others), jnp.nan, 0)
    return logits - own, others


def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Cross-entropy of one example, with a gradient that is exact to rounding however confident the network is.

    Written log(1 + sum_{j != y} exp(f_j - f_y)). The usual gradient has a component p_y - 1, which float32 rounds to
    0 from a margin of about 17 on.

    Args:
      logits: (C,) float, C >= 2.
      label: () integer in 0..C-1.

    Returns:
      () float >= 0 in nats; NaN, like its gradient, where the label is out of range.

    Raises:
      ValueError: logits of another shape.
    """
    gaps, others = _gaps(logits, label)
    return jax.nn.softplus(jax.nn.logsumexp(gaps, where=others))


def _el2n(logits: jax.Array, label: jax.Array) -> jax.Array:
    # With e = 1 - p_y the norm is e sqrt(1 + sum_{j != y} (p_j / e)^2): no difference that cancels, no tiny square.
    gaps, others = _gaps(logits, label)
    shares = jax.nn.softmax(gaps, where=others)
    return jax.nn.sigmoid(jax.nn.logsumexp(gaps, where=others)) * jnp.sqrt(1 + jnp.sum(jnp.square(shares)))


def el2n(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """EL2N = ||softmax(f) - onehot(y)||_2 of N examples (Paul, Ganguli and Dziugaite 2021).

    Args:
      logits: (N, C) float, C >= 2.
      labels: (N,) integer in 0..C-1.

    Returns:
      (N,) float in [0, sqrt(2)], at least float32, exact to rounding until the probability of an error underflows; NaN
      where the label is out of range.

    Raises:
      ValueError: fewer than two classes, or logits that are not a matrix.
    """
    return jax.vmap(_el2n)(logits, labels)


def _tree_norm(tree: Any) -> jax.Array:
    """L2 norm over all leaves, scaled by the largest entry: squares of gradients below 1e-19 underflow in float32."""
    leaves = jax.tree.leaves(tree)
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in leaves]))
    scale = jnp.where(jnp.isfinite(largest) & (largest > 0), largest, 1)
    return scale * jnp.sqrt(sum(jnp.sum(jnp.square(leaf / scale)) for leaf in leaves))


def grand(loss_fn: Callable[..., jax.Array], params: Any, arrays: tuple[jax.Array, ...], piece: int = 50) -> jax.Array:
    """GraNd = ||grad_theta loss_n||_2 over all parameters, for any loss (Paul, Ganguli and Dziugaite 2021).

    The gradients of one piece are alive at a time: P times the parameters, beside the activations.

    Args:
      loss_fn: (params, *row) -> () float, the loss of one example; `row` is one row of every entry of `arrays`.
      params: pytree of float arrays.
      arrays: tuple of arrays (N, ...), N >= 1.
      piece: P, rows at once, static; N need not divide by it.

    Returns:
      (N,) float >= 0.

    Raises:
      ValueError: piece < 1, no rows, or arrays of different length.
    """

    def norm(*row: jax.Array) -> jax.Array:
        return _tree_norm(jax.grad(loss_fn)(params, *row))

    return map_pieces(jax.vmap(norm), arrays, piece)


def network_grand(apply_fn: Callable[[Any, jax.Array], jax.Array], params: Any, images: jax.Array, labels: jax.Array,
                  piece: int = 50) -> jax.Array:
    """GraNd of the cross-entropy of a network.

    A network with BatchNorm is taken in evaluation mode, with its running statistics held constant: a batch of one
    has no statistics of its own, and those of a larger batch would mix the gradients of its examples.

    Args:
      apply_fn: any function (params, x (1, ...)) -> logits (1, C), in evaluation mode.
      params: pytree of float arrays; running statistics are not among them.
      images: (N, ...) inputs in the form that `apply_fn` accepts.
      labels: (N,) integer labels.
      piece: as in `grand`.

    Returns:
      (N,) float >= 0; NaN where the label is out of range.
    """
    return grand(lambda params, image, label: cross_entropy(apply_fn(params, image[None])[0], label), params,
                 (images, labels), piece)
