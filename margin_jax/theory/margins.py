"""Classification margins, pure functions: logits and labels in, margins out.

The margin of an example is defined on logits (Banburski et al. 2021, section 2.1)

    eta_n = f_{y_n}(x_n) - max_{j != y_n} f_j(x_n)

and is positive exactly when the example is strictly correctly classified: a tie of two logits is an error. The margin
subtracts the largest *other* logit, not the second largest, which would be wrong for every misclassified example.

All per-example arrays are in the order of ascending data set ids, whatever order the batches ran in. What is read
off many margins, normalised or not, is in `margin_jax.theory.distribution`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax.errors import InputError
from margin_jax.parallel import map_pieces
from margin_jax.theory.checks import checked_labels, checked_logits, is_array


def margin(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Margin of one example.

    Args:
      logits: (C,) floating, C >= 2 classes.
      label: () integer in 0..C-1.

    Returns:
      () float32, or float64 of float64 logits: the label's logit minus the largest other logit; NaN where the label is
      out of range.

    Raises:
      InputError: fewer than two classes, logits that are not a vector of floats, or a label that is no integer.
    """
    if not is_array(logits) or logits.ndim != 1 or logits.shape[0] < 2:
        raise InputError(f"expected logits of one example, shape (C,) with C >= 2, got {np.shape(logits)}; "
                         "for a batch (N, C) use margins()")
    return _margin(checked_logits(logits[None])[0], checked_labels(jnp.reshape(jnp.asarray(label), -1), 1)[0])


def _margin(logits: jax.Array, label: jax.Array) -> jax.Array:
    of_label = jnp.arange(logits.shape[0]) == label
    value = jnp.max(jnp.where(of_label, logits, -jnp.inf)) - jnp.max(jnp.where(of_label, -jnp.inf, logits))
    return jnp.where(jnp.any(of_label), value, jnp.nan)


def margins(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Margins of N examples.

    Args:
      logits: (N, C) floating, C >= 2 classes.
      labels: (N,) integer in 0..C-1, or a column (N, 1).

    Returns:
      (N,) float32, or float64 of float64 logits, `margin` of every row; NaN where a label is out of range.

    Raises:
      InputError: logits or labels of another shape or type, such as one-hot labels.
    """
    logits = checked_logits(logits)
    return jax.vmap(_margin)(logits, checked_labels(labels, logits.shape[0]))


def network_margins(apply_fn: Callable[[Any, jax.Array], jax.Array], params: Any, images: jax.Array,
                    labels: jax.Array, piece: int = 100) -> jax.Array:
    """Margins of all N examples under a network, holding the activations of one piece at a time.

    Args:
      apply_fn: any function (params, x (P, ...)) -> logits (P, C).
      params: any pytree that `apply_fn` accepts.
      images: (N, ...) inputs in the form that `apply_fn` accepts.
      labels: (N,) integer in 0..C-1, or a column (N, 1).
      piece: rows per piece, static; N need not divide by it.

    Returns:
      (N,) margins in the order of the rows, as of `margins`.

    Raises:
      InputError: labels of another shape or type, or a network that gives anything else than logits (P, C).
      ValueError: piece < 1, no rows, or images and labels of different length.
    """
    return map_pieces(lambda x, y: margins(checked_logits(apply_fn(params, x), x.shape[0]), y),
                      (images, checked_labels(labels)), piece)
