"""How well a measure ranks trained networks by an error: Spearman, Kendall, sign error and partial correlation.

Every function takes the error that a measure predicts, `predicted` (R,), and the error itself, `target` (R,), of R
networks. Turn a measure round first where it claims the opposite: for one whose larger values promise a lower error,
such as the area under the margin curve, `predicted` is minus the measure. **A positive correlation then always means
that the measure predicts as it claims**, and a sign error below one half means the same.

A bootstrap is B rows of `counts` (B, R), how often each network is in each draw; see `estimates.counts`. All draws are
taken at once, without a loop: by sorting for ranks, as products of matrices of R by R for pairs. A network drawn twice
ties with itself in both columns. Such a pair says nothing, and no sum over pairs below has it in: not Kendall's, where
both its signs are 0, nor the sign error, which leaves out all pairs that tie in `target`.

Values are only compared, so infinity is merely the largest, and only exactly equal values tie.
"""

from collections.abc import Sequence

import numpy as np

from margin_jax.errors import InputError
from margin_jax.statistics.checks import checked_numbers


def checked(predicted: np.ndarray, target: np.ndarray,
            counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three as float64, `counts` being ones (R,) if absent.

    Raises:
      InputError: shapes that do not fit, no real numbers, or a NaN.
    """
    predicted, target = checked_numbers(predicted, "predicted"), checked_numbers(target, "target")
    if predicted.ndim != 1 or predicted.shape != target.shape:
        raise InputError(f"expected two columns (R,) of one length, got {predicted.shape} and {target.shape}; "
                         "give one value per network")
    if np.isnan(predicted).any() or np.isnan(target).any():
        raise InputError("expected values without NaN, got some; leave out the networks where one is undefined")
    counts = np.ones(predicted.shape) if counts is None else checked_numbers(counts, "counts")
    if counts.shape[-1:] != predicted.shape or not (counts >= 0).all():
        raise InputError(f"expected counts (..., {predicted.size}) >= 0, got {counts.shape}; make them by "
                         "margin_jax.statistics.estimates.counts from draws among these networks")
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
    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    drawn = np.add.reduceat(counts[..., order], starts, axis=-1)  # how often each value is
    return (np.cumsum(drawn, axis=-1) - (drawn - 1) / 2)[..., place]


def over_pairs(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sum of values_ij over the ordered pairs of a draw; (R, R) and (..., R) -> (...,)."""
    return ((counts @ values) * counts).sum(-1)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where below is not positive."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


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
      InputError: shapes that do not fit, no real numbers, or a NaN.
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
      InputError: shapes that do not fit, no real numbers, or a NaN.
    """
    return rank_correlation(predicted, target, covariates, counts, len(covariates) + 3)


def rank_correlation(predicted: np.ndarray, target: np.ndarray, covariates: Sequence[np.ndarray],
                     counts: np.ndarray | None, fewest: int) -> np.ndarray:
    """`partial_spearman` wherever at least `fewest` different networks are drawn; arguments and errors as there."""
    predicted, target, counts = checked(predicted, target, counts)
    columns = [predicted, target, *(checked(covariate, target)[0] for covariate in covariates)]
    centre = (counts.sum(-1, keepdims=True) + 1) / 2
    centred = np.stack([ranks(column, counts) - centre for column in columns], -1)
    covariance = np.swapaxes(centred * counts[..., None], -1, -2) @ centred
    both, cross, others = covariance[..., :2, :2], covariance[..., :2, 2:], covariance[..., 2:, 2:]
    # Covariates may repeat one another: the pseudo-inverse regresses on what they span.
    left = both - cross @ np.linalg.pinv(others, rcond=RESIDUAL, hermitian=True) @ np.swapaxes(cross, -1, -2)
    before, after = np.diagonal(both, axis1=-2, axis2=-1), np.diagonal(left, axis1=-2, axis2=-1)
    defined = (after > RESIDUAL * before).all(-1) & ((counts > 0).sum(-1) >= fewest)
    return np.clip(ratio(left[..., 0, 1], np.sqrt(np.where(defined, after.prod(-1), 0.0))), -1, 1)


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
      InputError: shapes that do not fit, no real numbers, or a NaN.
    """
    predicted, target, counts = checked(predicted, target, counts)
    s, t = signs(predicted), signs(target)
    untied = over_pairs(s * s, counts) * over_pairs(t * t, counts)
    return ratio(over_pairs(s * t, counts), np.sqrt(untied))


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
      InputError: shapes that do not fit, no real numbers, or a NaN.
    """
    predicted, target, counts = checked(predicted, target, counts)
    s, t = signs(predicted), signs(target)
    return 0.5 - ratio(over_pairs(s * t, counts), over_pairs(t * t, counts)) / 2
