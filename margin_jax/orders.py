"""Signs and ranks of networks by one column of numbers, for many draws of a bootstrap at once.

A draw is a row of `counts` (R,): how often each of R networks is in it. B rows are a few products of matrices of R by
R, without a loop over draws and in memory that grows as R * (R + B). Values are only compared, so infinity is merely
the largest, and only exactly equal values tie.
"""

import numpy as np


def checked(predicted: np.ndarray, target: np.ndarray,
            counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three as float64, `counts` being ones (R,) if absent.

    Raises:
      ValueError: shapes that do not fit, or a NaN.
    """
    predicted, target = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    if predicted.ndim != 1 or predicted.shape != target.shape:
        raise ValueError(f"expected two columns (R,) of one length, got {predicted.shape} and {target.shape}; "
                         "give one value per network")
    if np.isnan(predicted).any() or np.isnan(target).any():
        raise ValueError("expected values without NaN, got some; leave out the networks where one is undefined")
    counts = np.ones(predicted.shape) if counts is None else np.asarray(counts, np.float64)
    if counts.shape[-1:] != predicted.shape:
        raise ValueError(f"expected counts (..., {predicted.size}), got {counts.shape}; make them by "
                         "margin_jax.bootstrap.counts from draws among these networks")
    return predicted, target, counts


def signs(values: np.ndarray) -> np.ndarray:
    """sign(v_i - v_j) of every pair, (R, R) float64 in {-1, 0, 1}; infinities of one sign tie."""
    place = np.unique(values, return_inverse=True)[1].astype(np.float64)
    return np.sign(place[:, None] - place[None])


def ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Rank of every network among those of a draw, 1 the smallest; equal values share the mean of their ranks.

    Args:
      values: (R,) float without NaN.
      counts: (..., R), how often each network is drawn.

    Returns:
      (..., R) float64; of no meaning where a network is not drawn.
    """
    return counts @ ((1 - signs(values)) / 2) + 0.5


def over_pairs(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sum of values_ij over the ordered pairs of a draw; (R, R) and (..., R) -> (...,)."""
    return ((counts @ values) * counts).sum(-1)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where below is not positive."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
