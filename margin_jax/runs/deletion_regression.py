"""Equation (4) of appendix B: minima of least squares on a network's features, and what deletions leave of them."""

import numpy as np

from margin_jax.deletion import interpolates, least_squares, regression_side, residual_of
from margin_jax.runs.deletion_sets import Row, deletions, row_of


def regression_rows(counts: tuple[int, ...], seed: int, features: np.ndarray, targets: np.ndarray, margins: np.ndarray,
                    draws: int) -> list[Row]:
    """Rows of an interpolating minimum, of some examples, and of one that does not interpolate, of all.

    Args:
      counts, seed, draws: as of `deletions`.
      features: (N, D) float64.
      targets: (N, C) float64.
      margins: (N,) raw.

    Returns:
      The rows; none of a minimum that these features do not have.
    """
    few = interpolable(features, targets, margins, seed)
    rows = _minimum("interpolating", counts, seed, features[few], targets[few], margins[few], draws) if few.size else []
    if not interpolates(features, targets, least_squares(features, targets)):
        rows += _minimum("not interpolating", counts, seed, features, targets, margins, draws)
    return rows


def _minimum(minimum: str, counts: tuple[int, ...], seed: int, features: np.ndarray, targets: np.ndarray,
             margins: np.ndarray, draws: int) -> list[Row]:
    solution = least_squares(features, targets)
    sizes = np.linalg.norm(features, axis=1) * np.linalg.norm(features @ solution - targets, axis=1)
    before = regression_side(features, targets, solution, np.ones(margins.size, bool))
    rows = []
    for deletion in deletions(counts, margins, seed, draws):
        side = regression_side(features, targets, solution, deletion.left)
        weight = float(sizes[~deletion.left].sum() / sizes.sum()) if minimum != "interpolating" else float("nan")
        rows.append(row_of(4, "least squares", minimum, deletion, residual_of(side, before, weight)))
    return rows


def interpolable(features: np.ndarray, targets: np.ndarray, margins: np.ndarray, seed: int) -> np.ndarray:
    """Rows whose targets a linear model of their features meets.

    As many as half the features, or that halved until they are met, which dead units may ask for; one half of them
    those of smallest margin, the others drawn from the rest.

    Args:
      features: (N, D) float64.
      targets: (N, C) float64.
      margins: (N,) raw.
      seed: of the draw.

    Returns:
      (n,) ascending rows; n = 0 if not even one can be met.
    """
    order = np.argsort(margins, kind="stable")
    count = min(max(features.shape[1] // 2, 1), margins.size)
    while count:
        near = order[:-(-count // 2)]
        rest = np.random.default_rng(seed).permutation(order[near.size:])[:count - near.size]
        chosen = np.sort(np.concatenate([near, rest]))
        if interpolates(features[chosen], targets[chosen], least_squares(features[chosen], targets[chosen])):
            return chosen
        count //= 2
    return np.empty(0, np.int64)
