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

from margin_jax.parallel import map_pieces


def margin(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Margin of one example.

    Args:
      logits: (C,) float, C >= 2 classes.
      label: () integer in 0..C-1.

    Returns:
      () float: the label's logit minus the largest other logit; NaN where the label is out of range.

    Raises:
      ValueError: fewer than two classes, or logits that are not a vector.
    """
    if logits.ndim != 1 or logits.shape[0] < 2:
        raise ValueError(f"expected logits of one example, shape (C,) with C >= 2, got {logits.shape}; "
                         "for a batch (N, C) use margins()")
    of_label = jnp.arange(logits.shape[0]) == label
    value = jnp.max(jnp.where(of_label, logits, -jnp.inf)) - jnp.max(jnp.where(of_label, -jnp.inf, logits))
    return jnp.where(jnp.any(of_label), value, jnp.nan)


margins = jax.vmap(margin)
margins.__doc__ = """Margins of N examples: `margin` mapped over logits (N, C) and labels (N,), giving (N,)."""


def network_margins(apply_fn: Callable[[Any, jax.Array], jax.Array], params: Any, images: jax.Array,
                    labels: jax.Array, piece: int = 100) -> jax.Array:
    """Margins of all N examples under a network, holding the activations of one piece at a time.

    Args:
      apply_fn: any function (params, x (P, ...)) -> logits (P, C).
      params: any pytree that `apply_fn` accepts.
      images: (N, ...) inputs in the form that `apply_fn` accepts.
      labels: (N,) integer labels.
      piece: rows per piece, static; N need not divide by it.

    Returns:
      (N,) margins in the order of the rows.
    """
    return map_pieces(lambda x, y: margins(apply_fn(params, x), y), (images, labels), piece)
