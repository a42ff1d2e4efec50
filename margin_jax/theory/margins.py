"""Classification margins, pure functions: logits and labels in, margins out.

The margin of an example is defined on logits (Banburski et al. 2021, section 2.1)

    eta_n = f_{y_n}(x_n) - max_{j != y_n} f_j(x_n)

and is positive exactly when the example is strictly correctly classified: a tie of two logits is an error. The margin
subtracts the largest *other* logit, not the second largest, which would be wrong for every misclassified example.

All per-example arrays are in the order of ascending data set ids, whatever order the batches ran in.

Numbers that summarise a margin distribution: the three AUC readings, ramp loss, small-margin count.

Every function takes normalised margins (N,) and an optional boolean `where` (N,) that names the rows to count; removed
rows may hold anything, NaN included. gamma is in units of the normalised margin.
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
    own = jnp.arange(logits.shape[0]) == label
    value = jnp.max(jnp.where(own, logits, -jnp.inf)) - jnp.max(jnp.where(own, -jnp.inf, logits))
    return jnp.where(jnp.any(own), value, jnp.nan)


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


def normalised_margins(values: jax.Array, rho: jax.Array) -> jax.Array:
    """Normalised margins eta_n / rho (section 3); shapes (N,) and () give (N,)."""
    return values / rho


def margin_curve(normalised: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The margin curve of figures 1 to 3: normalised margins ascending, against their rank n/N.

    Args:
      normalised: (N,) normalised margins.

    Returns:
      ranks (N,) = 1/N, 2/N, ..., 1 and the sorted margins (N,).
    """
    count = normalised.shape[0]
    return jnp.arange(1, count + 1) / count, jnp.sort(normalised)


def separated(values: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Whether the data are separated: every kept margin is > 0 (a NaN is not).

    Args:
      values: (N,) margins.
      where: (N,) boolean, the kept rows; all rows if absent.

    Returns:
      () boolean.
    """
    positive = values > 0
    return jnp.all(positive if where is None else positive | ~where)


def support_set(values: jax.Array, ids: jax.Array, k: int) -> jax.Array:
    """Ids of the k smallest margins, S_k, smallest margin first; ties by id.

    Args:
      values: (N,) margins.
      ids: (N,) integer ids, in any order.
      k: static, 1..N.

    Returns:
      (k,) ids.

    Raises:
      ValueError: k outside 1..N.
    """
    if not 1 <= k <= values.shape[0]:
        raise ValueError(f"expected 1 <= k <= N = {values.shape[0]}, got k = {k}")
    return ids[jnp.lexsort((ids, values))[:k]]


def overlap(first: jax.Array, second: jax.Array) -> jax.Array:
    """overlap@k of figure 6: the size of S_k ∩ S'_k over k, for two sets of k distinct ids each; () float."""
    if first.shape != second.shape:
        raise ValueError(f"expected two sets of the same size k, got {first.shape} and {second.shape}")
    return jnp.mean(jnp.isin(first, second))


def _mean(values: jax.Array, where: jax.Array | None) -> jax.Array:
    return jnp.mean(values) if where is None else jnp.mean(values, where=where)


def smallest(normalised: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """The smallest normalised margin, () float."""
    return jnp.min(normalised) if where is None else jnp.min(normalised, where=where, initial=jnp.inf)


def ramp_loss(normalised: jax.Array, gamma: float | jax.Array) -> jax.Array:
    """Ramp loss of each example (appendix A.1): 1 for m <= 0, 1 - m/gamma on [0, gamma], 0 above.

    Args:
      normalised: (N,) normalised margins m.
      gamma: () >= 0; at 0 this is the 0-1 loss, with m = 0 an error.

    Returns:
      (N,) float in [0, 1]; NaN where m is NaN.
    """
    gamma = jnp.asarray(gamma, normalised.dtype)
    slope = 1 - jnp.clip(normalised / jnp.where(gamma > 0, gamma, 1), 0, 1)
    step = jnp.where(jnp.isnan(normalised), jnp.nan, (normalised <= 0).astype(normalised.dtype))
    return jnp.where(gamma > 0, slope, step)


def auc_mean(normalised: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Area under the whole margin curve, which is the mean normalised margin (section 4.2, reading 1); () float."""
    return _mean(normalised, where)


def auc_ramp(normalised: jax.Array, gamma: float | jax.Array, where: jax.Array | None = None) -> jax.Array:
    """1 - empirical ramp loss = mean of clip(m / gamma, 0, 1) (section 2.2 and A.1, reading 2); () float in [0, 1]."""
    return 1 - _mean(ramp_loss(normalised, gamma), where)


def _in_tail(normalised: jax.Array, gamma: float | jax.Array, where: jax.Array | None) -> jax.Array:
    tail = normalised <= smallest(normalised, where) + gamma
    return tail if where is None else tail & where


def auc_tail(normalised: jax.Array, gamma: float | jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Area under the margin curve over the points with m <= smallest + gamma (section 4.2, reading 3); () float.

    The rank axis keeps its unit: the sum over the tail is divided by the number of all counted examples.
    """
    return _mean(jnp.where(_in_tail(normalised, gamma, where), normalised, 0), where)


def small_margin_count(normalised: jax.Array, gamma: float | jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Number of examples with m <= smallest + gamma (section 4.2); () int32, at least 1."""
    return jnp.sum(_in_tail(normalised, gamma, where), dtype=jnp.int32)
