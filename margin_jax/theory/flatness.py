"""How flat a margin curve is (section 4.3), free of scale; one definition for NumPy and for JAX arrays.

The bare spread of normalised margins would follow rho, which grows or, under L2, falls through training, whatever
becomes of the curve's shape. Nothing here imports JAX: functions take the namespace of the array that they get (the
Python array API standard), so that figures show what users compute.
"""

from typing import Any


def coefficient_of_variation(normalised: Any, where: Any = None) -> Any:
    """Standard deviation over mean of the counted margins.

    Args:
      normalised: (..., N) float, normalised margins, of NumPy or JAX.
      where: (N,) boolean, the rows to count; all if absent.

    Returns:
      (...) float; NaN where the mean is not positive, of which no spread is a share.
    """
    xp = normalised.__array_namespace__()
    chosen = {} if where is None else {"where": where}
    mean, spread = xp.mean(normalised, axis=-1, **chosen), xp.std(normalised, axis=-1, **chosen)
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
