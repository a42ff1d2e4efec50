"""The distribution of margins: curve, order, separation, support sets, the three AUC readings, counts, flatness.

One definition for NumPy and for JAX arrays, eager, jitted or mapped: functions take the namespace of the array that
they get (the Python array API standard). Nothing here imports JAX, so that jobs record and figures show what users
compute.

Most functions take normalised margins (N,) and an optional boolean `where` (N,) that names the rows to count; removed
rows may hold anything, NaN included. gamma is in units of the normalised margin. The AUC readings and counts of raw
margins against gamma * rho are those of normalised ones against gamma.

Flatness (section 4.3) has no scale: the bare spread of normalised margins would follow rho, which grows or, under L2,
falls through training, whatever becomes of the curve's shape.
"""

import operator
from typing import Any

import numpy as np

from margin_jax.errors import InputError

_QUIET = {"over": "ignore", "under": "ignore", "divide": "ignore", "invalid": "ignore"}  # of NumPy; JAX is always quiet


def _arrays(values: Any, where: Any = None, name: str = "normalised margins") -> tuple[Any, Any]:
    """The namespace of some values and the values, half precision as float32; shapes and types are checked.

    Raises:
      InputError: values that are no array (..., N) of floats, or a `where` that is no boolean mask (N,).
    """
    if not hasattr(values, "__array_namespace__"):
        raise InputError(f"expected {name} as an array of NumPy or JAX, got {type(values).__name__}; use np.asarray")
    xp, half = values.__array_namespace__(), values.dtype.name in ("float16", "bfloat16")
    if not half and not xp.isdtype(values.dtype, "real floating") or values.ndim < 1 or not values.shape[-1]:
        raise InputError(f"expected {name} as floats (..., N), N >= 1, got {values.dtype} {values.shape}")
    if where is not None and (not hasattr(where, "dtype") or where.dtype != bool or where.shape != values.shape[-1:]):
        raise InputError(f"expected `where` as a boolean mask {values.shape[-1:]}, got "
                         f"{getattr(where, 'dtype', type(where).__name__)} {getattr(where, 'shape', '')}")
    if isinstance(where, np.ndarray) and not where.any():
        raise InputError("expected a `where` that counts one row or more, got one that counts none")
    return xp, values.astype(xp.float32) if half else values


def _column(values: Any, where: Any = None, name: str = "normalised margins") -> tuple[Any, Any]:
    """As `_arrays`, of one network: values (N,)."""
    xp, values = _arrays(values, where, name)
    if values.ndim != 1:
        raise InputError(f"expected {name} (N,) of one network, got {values.shape}; of many take them one by one, or "
                         "use jax.vmap")
    return xp, values


def _checked_gamma(gamma: Any) -> None:
    """Refuses a gamma that is no number, and a known one that is NaN or negative."""
    if np.shape(gamma) != ():
        raise InputError(f"expected one gamma >= 0, got an array {np.shape(gamma)}; take gammas one by one")
    if isinstance(gamma, int | float | np.generic | np.ndarray) and not gamma >= 0:
        raise InputError(f"expected gamma >= 0, in units of the normalised margin, got {gamma}")


@np.errstate(**_QUIET)
def normalised_margins(values: Any, rho: Any = None, log_rho: Any = None) -> Any:
    """Normalised margins eta_n / rho (section 3); shapes (N,) and () give (N,).

    Args:
      values: (..., N) float raw margins, of NumPy or JAX.
      rho: a shape that divides `values`, > 0.
      log_rho: in place of rho its logarithm, as of `norms.log_rho`, for networks so deep that rho is beyond the type.

    Returns:
      (..., N) float; NaN where rho is 0, infinite or NaN, so that a rho beyond its type never passes as margins of 0.

    Raises:
      InputError: values that are no floats, or not exactly one of rho and its logarithm.
    """
    if (rho is None) == (log_rho is None):
        raise InputError("expected either rho or log_rho, got both or none")
    if not hasattr(values, "__array_namespace__"):
        values = np.asarray(values)
        values = values if values.dtype.kind == "f" else values.astype(np.float64)
    if not values.ndim:
        return normalised_margins(values[None], rho, log_rho)[0]
    xp, values = _arrays(values, name="margins")
    if rho is None:
        size = xp.exp(xp.log(xp.abs(values)) - log_rho)
        return xp.where(xp.isfinite(xp.asarray(log_rho)), xp.sign(values) * size, xp.nan)
    quotient = values / rho
    rho = xp.asarray(rho, dtype=quotient.dtype)
    return xp.where((rho > 0) & (rho < xp.inf), quotient, xp.nan)


def margin_curve(normalised: Any) -> tuple[Any, Any]:
    """The margin curve of figures 1 to 3: normalised margins ascending, against their rank n/N.

    Args:
      normalised: (N,) normalised margins, of NumPy or JAX.

    Returns:
      ranks (N,) = 1/N, 2/N, ..., 1 and the sorted margins (N,).
    """
    xp, normalised = _column(normalised)
    count = normalised.shape[0]
    return xp.arange(1, count + 1) / count, xp.sort(normalised)


def separated(values: Any, where: Any = None) -> Any:
    """Whether the data are separated: every kept margin is > 0 (a NaN is not).

    Args:
      values: (N,) margins, of NumPy or JAX.
      where: (N,) boolean, the kept rows; all rows if absent.

    Returns:
      () boolean.
    """
    xp, values = _column(values, where, "margins")
    positive = values > 0
    return xp.all(positive if where is None else positive | ~where)


def ascending(values: Any, ids: Any) -> Any:
    """Rows (N,) from the smallest value to the largest, ties by id, NaN last; values (N,) float, ids (N,) integer."""
    xp, values = _column(values, name="margins")
    if getattr(ids, "shape", None) != values.shape:
        raise InputError(f"expected an id for each of {values.shape} margins, got {getattr(ids, 'shape', type(ids))}")
    return xp.lexsort((ids, values))


def support_set(values: Any, ids: Any, k: int) -> Any:
    """Ids of the k smallest margins, S_k, smallest margin first; ties by id.

    Args:
      values: (N,) margins, of NumPy or JAX.
      ids: (N,) integer ids, in any order.
      k: static, 1..N.

    Returns:
      (k,) ids.

    Raises:
      InputError: k outside 1..N, or arrays that do not fit.
    """
    order = ascending(values, ids)
    try:
        number = operator.index(k)
    except TypeError:
        number = 0
    if not 1 <= number <= order.shape[0]:
        raise InputError(f"expected an integer 1 <= k <= N = {order.shape[0]}, got k = {k}")
    return ids[order[:number]]


def overlap(first: Any, second: Any) -> Any:
    """overlap@k of figure 6: the size of S_k ∩ S'_k over k, for two sets of k distinct ids each; () float."""
    if first.shape != second.shape or len(first.shape) != 1 or not first.shape[0]:
        raise InputError(f"expected two sets of ids (k,) of the same size k >= 1, got {first.shape} and {second.shape}")
    xp = first.__array_namespace__()
    return xp.mean(xp.isin(first, second))


def _counted(where: Any) -> dict[str, Any]:
    """The keyword of a reduction that leaves out the rows not to count."""
    return {} if where is None else {"where": where}


def smallest(normalised: Any, where: Any = None) -> Any:
    """The smallest normalised margin, () float."""
    xp, normalised = _arrays(normalised, where)
    return xp.min(normalised) if where is None else xp.min(normalised, where=where, initial=xp.inf)


@np.errstate(**_QUIET)
def ramp_loss(normalised: Any, gamma: Any) -> Any:
    """Ramp loss of each example (appendix A.1): 1 for m <= 0, 1 - m/gamma on [0, gamma], 0 above.

    Args:
      normalised: (N,) normalised margins m, of NumPy or JAX.
      gamma: () >= 0; at 0 this is the 0-1 loss, with m = 0 an error.

    Returns:
      (N,) float in [0, 1]; NaN where m is NaN, or where gamma is traced and NaN or negative.

    Raises:
      InputError: margins that are no floats, or a gamma that is NaN or negative.
    """
    _checked_gamma(gamma)
    xp, normalised = _arrays(normalised)
    gamma = xp.asarray(gamma, normalised.dtype)
    slope = 1 - xp.clip(normalised / xp.where(gamma > 0, gamma, 1), 0, 1)
    step = xp.where(xp.isnan(normalised) | ~(gamma >= 0), xp.nan, (normalised <= 0).astype(normalised.dtype))
    return xp.where(gamma > 0, slope, step)


def auc_mean(normalised: Any, where: Any = None) -> Any:
    """Area under the whole margin curve, which is the mean normalised margin (section 4.2, reading 1); () float."""
    xp, normalised = _arrays(normalised, where)
    return xp.mean(normalised, **_counted(where))


def auc_ramp(normalised: Any, gamma: Any, where: Any = None) -> Any:
    """1 - empirical ramp loss = mean of clip(m / gamma, 0, 1) (section 2.2 and A.1, reading 2); () float in [0, 1]."""
    return 1 - auc_mean(ramp_loss(normalised, gamma), where)


def _in_tail(normalised: Any, gamma: Any, where: Any) -> Any:
    _checked_gamma(gamma)
    tail = normalised <= smallest(normalised, where) + gamma
    return tail if where is None else tail & where


def auc_tail(normalised: Any, gamma: Any, where: Any = None) -> Any:
    """Area under the margin curve over the points with m <= smallest + gamma (section 4.2, reading 3); () float.

    The rank axis keeps its unit: the sum over the tail is divided by the number of all counted examples. NaN where a
    counted margin or gamma is.
    """
    xp, normalised = _column(normalised, where)
    outside = xp.where(xp.isnan(smallest(normalised, where) + gamma), xp.nan, 0).astype(normalised.dtype)
    return auc_mean(xp.where(_in_tail(normalised, gamma, where), normalised, outside), where)


def small_margin_count(normalised: Any, gamma: Any, where: Any = None) -> Any:
    """Number of examples with m <= smallest + gamma (section 4.2); () int32, at least 1; 0 where a margin is NaN."""
    xp, normalised = _column(normalised, where)
    return xp.sum(_in_tail(normalised, gamma, where), dtype=xp.int32)


@np.errstate(**_QUIET)
def coefficient_of_variation(normalised: Any, where: Any = None) -> Any:
    """Standard deviation over mean of the counted margins.

    Args:
      normalised: (..., N) float, normalised margins, of NumPy or JAX.
      where: (N,) boolean, the rows to count; all if absent.

    Returns:
      (...) float; NaN where the mean is not positive, of which no spread is a share.
    """
    xp, normalised = _arrays(normalised, where)
    mean, spread = (reduce(normalised, axis=-1, **_counted(where)) for reduce in (xp.mean, xp.std))
    return xp.where(mean > 0, spread / xp.where(mean > 0, mean, 1), xp.nan)


@np.errstate(**_QUIET)
def relative_iqr(normalised: Any, where: Any = None) -> Any:
    """Interquartile range over median of the counted margins: flatness without regard to the tails.

    Args:
      normalised: (..., N) float, normalised margins, of NumPy or JAX.
      where: (N,) boolean, the rows to count; all if absent.

    Returns:
      (...) float; quartiles are interpolated linearly. NaN where the median is not positive or a counted margin is NaN.
    """
    xp, normalised = _arrays(normalised, where)
    quartiles = xp.asarray([0.25, 0.5, 0.75])
    if where is None:
        low, median, high = xp.quantile(normalised, quartiles, axis=-1)
    else:
        where = xp.broadcast_to(where, normalised.shape)
        unknown = xp.any(where & xp.isnan(normalised), axis=-1, keepdims=True)
        counted = xp.where(where & ~unknown, normalised, xp.where(unknown, 0, xp.nan))  # a median of 0 becomes NaN
        low, median, high = xp.nanquantile(counted, quartiles, axis=-1)
    return xp.where(median > 0, (high - low) / xp.where(median > 0, median, 1), xp.nan)
