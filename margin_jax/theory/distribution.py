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

from typing import Any


def normalised_margins(values: Any, rho: Any) -> Any:
    """Normalised margins eta_n / rho (section 3); shapes (N,) and () give (N,)."""
    return values / rho


def margin_curve(normalised: Any) -> tuple[Any, Any]:
    """The margin curve of figures 1 to 3: normalised margins ascending, against their rank n/N.

    Args:
      normalised: (N,) normalised margins, of NumPy or JAX.

    Returns:
      ranks (N,) = 1/N, 2/N, ..., 1 and the sorted margins (N,).
    """
    xp, count = normalised.__array_namespace__(), normalised.shape[0]
    return xp.arange(1, count + 1) / max(count, 1), xp.sort(normalised)


def separated(values: Any, where: Any = None) -> Any:
    """Whether the data are separated: every kept margin is > 0 (a NaN is not).

    Args:
      values: (N,) margins, of NumPy or JAX.
      where: (N,) boolean, the kept rows; all rows if absent.

    Returns:
      () boolean.
    """
    positive = values > 0
    return values.__array_namespace__().all(positive if where is None else positive | ~where)


def ascending(values: Any, ids: Any) -> Any:
    """Rows (N,) from the smallest value to the largest, ties by id, NaN last; values (N,) float, ids (N,) integer."""
    return values.__array_namespace__().lexsort((ids, values))


def support_set(values: Any, ids: Any, k: int) -> Any:
    """Ids of the k smallest margins, S_k, smallest margin first; ties by id.

    Args:
      values: (N,) margins, of NumPy or JAX.
      ids: (N,) integer ids, in any order.
      k: static, 1..N.

    Returns:
      (k,) ids.

    Raises:
      ValueError: k outside 1..N.
    """
    if not 1 <= k <= values.shape[0]:
        raise ValueError(f"expected 1 <= k <= N = {values.shape[0]}, got k = {k}")
    return ids[ascending(values, ids)[:k]]


def overlap(first: Any, second: Any) -> Any:
    """overlap@k of figure 6: the size of S_k ∩ S'_k over k, for two sets of k distinct ids each; () float."""
    if first.shape != second.shape:
        raise ValueError(f"expected two sets of the same size k, got {first.shape} and {second.shape}")
    xp = first.__array_namespace__()
    return xp.mean(xp.isin(first, second))


def _counted(where: Any) -> dict[str, Any]:
    """The keyword of a reduction that leaves out the rows not to count."""
    return {} if where is None else {"where": where}


def smallest(normalised: Any, where: Any = None) -> Any:
    """The smallest normalised margin, () float."""
    xp = normalised.__array_namespace__()
    return xp.min(normalised) if where is None else xp.min(normalised, where=where, initial=xp.inf)


def ramp_loss(normalised: Any, gamma: Any) -> Any:
    """Ramp loss of each example (appendix A.1): 1 for m <= 0, 1 - m/gamma on [0, gamma], 0 above.

    Args:
      normalised: (N,) normalised margins m, of NumPy or JAX.
      gamma: () >= 0; at 0 this is the 0-1 loss, with m = 0 an error.

    Returns:
      (N,) float in [0, 1]; NaN where m is NaN.
    """
    xp = normalised.__array_namespace__()
    gamma = xp.asarray(gamma, normalised.dtype)
    slope = 1 - xp.clip(normalised / xp.where(gamma > 0, gamma, 1), 0, 1)
    step = xp.where(xp.isnan(normalised), xp.nan, (normalised <= 0).astype(normalised.dtype))
    return xp.where(gamma > 0, slope, step)


def auc_mean(normalised: Any, where: Any = None) -> Any:
    """Area under the whole margin curve, which is the mean normalised margin (section 4.2, reading 1); () float."""
    return normalised.__array_namespace__().mean(normalised, **_counted(where))


def auc_ramp(normalised: Any, gamma: Any, where: Any = None) -> Any:
    """1 - empirical ramp loss = mean of clip(m / gamma, 0, 1) (section 2.2 and A.1, reading 2); () float in [0, 1]."""
    return 1 - auc_mean(ramp_loss(normalised, gamma), where)


def _in_tail(normalised: Any, gamma: Any, where: Any) -> Any:
    tail = normalised <= smallest(normalised, where) + gamma
    return tail if where is None else tail & where


def auc_tail(normalised: Any, gamma: Any, where: Any = None) -> Any:
    """Area under the margin curve over the points with m <= smallest + gamma (section 4.2, reading 3); () float.

    The rank axis keeps its unit: the sum over the tail is divided by the number of all counted examples.
    """
    xp = normalised.__array_namespace__()
    return auc_mean(xp.where(_in_tail(normalised, gamma, where), normalised, 0), where)


def small_margin_count(normalised: Any, gamma: Any, where: Any = None) -> Any:
    """Number of examples with m <= smallest + gamma (section 4.2); () int32, at least 1."""
    xp = normalised.__array_namespace__()
    return xp.sum(_in_tail(normalised, gamma, where), dtype=xp.int32)


def coefficient_of_variation(normalised: Any, where: Any = None) -> Any:
    """Standard deviation over mean of the counted margins.

    Args:
      normalised: (..., N) float, normalised margins, of NumPy or JAX.
      where: (N,) boolean, the rows to count; all if absent.

    Returns:
      (...) float; NaN where the mean is not positive, of which no spread is a share.
    """
    xp = normalised.__array_namespace__()
    mean, spread = (reduce(normalised, axis=-1, **_counted(where)) for reduce in (xp.mean, xp.std))
    return xp.where(mean > 0, spread / xp.where(mean > 0, mean, 1), xp.nan)


def relative_iqr(normalised: Any, where: Any = None) -> Any:
    """Interquartile range over median of the counted margins: flatness without regard to the tails.

    Args:
      normalised: (..., N) float, normalised margins, of NumPy or JAX.
      where: (N,) boolean, the rows to count; all if absent.

    Returns:
      (...) float; quartiles are interpolated linearly. NaN where the median is not positive.
    """
    xp = normalised.__array_namespace__()
    quartiles = xp.asarray([0.25, 0.5, 0.75])
    if where is None:
        low, median, high = xp.quantile(normalised, quartiles, axis=-1)
    else:
        low, median, high = xp.nanquantile(xp.where(where, normalised, xp.nan), quartiles, axis=-1)
    return xp.where(median > 0, (high - low) / xp.where(median > 0, median, 1), xp.nan)
