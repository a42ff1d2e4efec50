"""Numbers that summarise a margin distribution: the three AUC readings, ramp loss, small-margin count, flatness.

Every function takes normalised margins (N,) and an optional boolean `where` (N,) that names the rows to count; removed
rows may hold anything, NaN included. gamma is in units of the normalised margin.
"""

import jax
import jax.numpy as jnp


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


def coefficient_of_variation(normalised: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Standard deviation over mean of the counted margins: how far the curve is from flat (section 4.3); () float.

    Free of scale, as `relative_iqr` is: the bare spread of normalised margins falls wherever rho grows, however steep
    the curve remains. NaN where the mean is not positive, of which no spread is a share.
    """
    mean = _mean(normalised, where)
    spread = jnp.std(normalised) if where is None else jnp.std(normalised, where=where)
    return jnp.where(mean > 0, spread / mean, jnp.nan)


def relative_iqr(normalised: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Interquartile range over median of the counted margins: flatness without regard to the tails; () float.

    Quartiles are interpolated linearly. NaN where the median is not positive.
    """
    quartiles = jnp.array([0.25, 0.5, 0.75])
    if where is None:
        low, median, high = jnp.quantile(normalised, quartiles)
    else:
        low, median, high = jnp.nanquantile(jnp.where(where, normalised, jnp.nan), quartiles)
    return jnp.where(median > 0, (high - low) / median, jnp.nan)
