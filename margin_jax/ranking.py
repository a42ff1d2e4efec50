"""How well a measure ranks trained networks by an error: Spearman, Kendall, sign error and partial correlation.

Every function takes the error that a measure predicts, `predicted` (R,), and the error itself, `target` (R,), of R
networks. Turn a measure round first where it claims the opposite: for one whose larger values promise a lower error,
such as the area under the margin curve, `predicted` is minus the measure. **A positive correlation then always means
that the measure predicts as it claims**, and a sign error below one half means the same.

A bootstrap is B rows of `counts` (B, R), how often each network is in each draw; see `margin_jax.orders`. A network
drawn twice ties with itself in both columns. Such a pair says nothing, and no sum over pairs below has it in: not
Kendall's, where both its signs are 0, nor the sign error, which leaves out all pairs that tie in `target`.
"""

from collections.abc import Sequence

import numpy as np

from margin_jax import orders

# Below this share of a rank's variance, what a regression leaves is rounding: half-integer ranks leave far more.
RESIDUAL = 1e-9


def spearman(predicted: np.ndarray, target: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Spearman's correlation: Pearson's of the ranks.

    Args:
      predicted: (R,) float, the error the measure predicts; see the module.
      target: (R,) float, the error.
      counts: (..., R), how often each network is in each draw; each network once if absent.

    Returns:
      (...,) float64 in [-1, 1], positive where the measure predicts as it claims; NaN where a column is constant or
      fewer than three different networks are drawn.

    Raises:
      ValueError: shapes that do not fit, or a NaN.
    """
    return partial_spearman(predicted, target, (), counts)


def partial_spearman(predicted: np.ndarray, target: np.ndarray, covariates: Sequence[np.ndarray],
                     counts: np.ndarray | None = None) -> np.ndarray:
    """Spearman's correlation given covariates: that of the residuals after a linear regression on their ranks.

    For one covariate z this is (r_pt - r_pz r_tz) / sqrt((1 - r_pz^2)(1 - r_tz^2)) with Spearman's correlations r. It
    takes out what follows the covariates' ranks linearly, and no more: a measure that rises and then falls with the
    init std keeps a residual. A constant covariate takes out nothing.

    Args:
      predicted: (R,) float, the error the measure predicts; see the module.
      target: (R,) float, the error.
      covariates: K columns, each (R,) float without NaN.
      counts: (..., R), how often each network is in each draw; each network once if absent.

    Returns:
      (...,) float64 in [-1, 1], positive where the measure predicts as it claims; NaN where the covariates explain a
      column in full, or fewer than K + 3 different networks are drawn (the residuals of fewer always correlate by 1).

    Raises:
      ValueError: shapes that do not fit, or a NaN.
    """
    predicted, target, counts = orders.checked(predicted, target, counts)
    columns = [predicted, target, *(orders.checked(covariate, target)[0] for covariate in covariates)]
    centre = (counts.sum(-1, keepdims=True) + 1) / 2
    centred = np.stack([orders.ranks(column, counts) - centre for column in columns], -1)
    covariance = np.swapaxes(centred * counts[..., None], -1, -2) @ centred
    own, cross, others = covariance[..., :2, :2], covariance[..., :2, 2:], covariance[..., 2:, 2:]
    # Covariates may repeat one another: the pseudo-inverse regresses on what they span.
    left = own - cross @ np.linalg.pinv(others, rcond=RESIDUAL, hermitian=True) @ np.swapaxes(cross, -1, -2)
    before, after = np.diagonal(own, axis1=-2, axis2=-1), np.diagonal(left, axis1=-2, axis2=-1)
    defined = (after > RESIDUAL * before).all(-1) & ((counts > 0).sum(-1) >= len(columns) + 1)
    return np.clip(orders.ratio(left[..., 0, 1], np.sqrt(np.where(defined, after.prod(-1), 0.0))), -1, 1)


def kendall(predicted: np.ndarray, target: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Kendall's tau-b: sum of s_ij t_ij over pairs / sqrt(sum of s_ij^2 * sum of t_ij^2).

    s_ij and t_ij are the signs of the pair's differences, 0 for a tie. A network's pairs with itself have both 0.

    Args:
      predicted: (R,) float, the error the measure predicts; see the module.
      target: (R,) float, the error.
      counts: (..., R), how often each network is in each draw; each network once if absent.

    Returns:
      (...,) float64 in [-1, 1], positive where the measure predicts as it claims; NaN where a column is constant.

    Raises:
      ValueError: shapes that do not fit, or a NaN.
    """
    predicted, target, counts = orders.checked(predicted, target, counts)
    s, t = orders.signs(predicted), orders.signs(target)
    untied = orders.over_pairs(s * s, counts) * orders.over_pairs(t * t, counts)
    return orders.ratio(orders.over_pairs(s * t, counts), np.sqrt(untied))


def sign_error(predicted: np.ndarray, target: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Mean sign error: how often the measure orders two networks wrongly.

    The mean of (1 - s_ij t_ij) / 2 over the pairs with t_ij != 0 (Dziugaite et al. 2020, "In search of robust measures
    of generalization", with all pairs of networks for their pairs of environments). A pair the measure ties counts
    one half, as a tossed coin would. A pair that ties in `target` has no order to predict and is left out.

    Args:
      predicted: (R,) float, the error the measure predicts; see the module.
      target: (R,) float, the error.
      counts: (..., R), how often each network is in each draw; each network once if absent.

    Returns:
      (...,) float64 in [0, 1]: 0 where every pair is ordered as the measure claims, 1/2 for a coin and for a constant
      measure, 1 where every pair is the other way round; NaN where `target` is constant.

    Raises:
      ValueError: shapes that do not fit, or a NaN.
    """
    predicted, target, counts = orders.checked(predicted, target, counts)
    s, t = orders.signs(predicted), orders.signs(target)
    return 0.5 - orders.ratio(orders.over_pairs(s * t, counts), orders.over_pairs(t * t, counts)) / 2
