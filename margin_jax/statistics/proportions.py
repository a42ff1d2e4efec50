"""Shares: k of n examples, such as support vectors that were there already, with intervals and p-values.

Student's t over the shares of three seeds has no width where all three are equal, and leaves [0, 1] near its ends.
Wilson's interval has neither fault, but takes all examples as independent, which those of one seed are not.
`share_evidence` takes both. docs/verdicts.md has the rule, results/coverage how often such intervals hold the truth.
"""

import numpy as np
import scipy

from margin_jax.errors import InputError
from margin_jax.statistics import hypotheses
from margin_jax.statistics.checks import checked_level
from margin_jax.statistics.estimates import LEVEL, Estimate
from margin_jax.statistics.hypotheses import Evidence


def wilson_interval(hits: int, of: int, level: float = LEVEL) -> Estimate:
    """A share with Wilson's score interval (Wilson 1927), without a correction for continuity.

    Args:
      hits: k, 0 <= k <= of.
      of: n >= 1 examples, independent of one another.
      level: in (0, 1).

    Returns:
      The share k / n in [0, 1] and the ends, which lie in [0, 1] too; n counts examples.

    Raises:
      InputError: counts that are none.
    """
    _check(np.asarray(hits), np.asarray(of))
    if np.ndim(hits):
        raise InputError(f"expected one count of hits, got {np.shape(hits)}; several seeds go to share_evidence")
    checked_level(level)
    ends = scipy.stats.binomtest(int(hits), int(of)).proportion_ci(level, "wilson")
    return Estimate(hits / of, float(ends.low), float(ends.high), int(of))


def share_evidence(hits: np.ndarray, of: np.ndarray) -> Evidence:
    """A share over seeds: the hull of Wilson's interval of all examples and Student's t over the seeds' shares.

    Wilson's is right where seeds do not differ, and never without width; Student's t where they do. The p-value of a
    bound is the larger of the two, so that it is below 0.05 exactly where the bound lies outside the hull.

    Args:
      hits: (S,) how many examples of each seed.
      of: (S,) of how many, each >= 1.

    Returns:
      The pooled share in [0, 1] with its interval cut to [0, 1], n counting seeds. With one seed it is Wilson's
      interval, which speaks of no other seed.

    Raises:
      InputError: counts that are none, or of different lengths.
    """
    hits, of = np.asarray(hits), np.asarray(of)
    _check(hits, of)
    pooled = wilson_interval(hits.sum(), of.sum())
    seeds = hypotheses.t_evidence(hits / of)
    low, high = np.fmin(pooled.low, seeds.estimate.low), np.fmax(pooled.high, seeds.estimate.high)
    hull = Estimate(float(pooled.value), float(max(low, 0)), float(min(high, 1)), hits.size)

    def p_value(bound: float) -> float:
        return float(np.fmax(score_p_value(hits.sum(), of.sum(), bound), seeds.p_value(bound)))

    return Evidence(hull, p_value)


def score_p_value(hits: int, of: int, bound: float) -> float:
    """The two-sided p-value of the score test that the true share is `bound`, which Wilson's interval inverts.

    A bound outside of (0, 1) that is not the share itself is impossible: 0.
    """
    if not 0 < bound < 1:
        return float(hits / of == bound)
    z = (hits / of - bound) / np.sqrt(bound * (1 - bound) / of)
    return float(2 * scipy.stats.norm.sf(abs(z)))


def _check(hits: np.ndarray, of: np.ndarray) -> None:
    whole = np.issubdtype(hits.dtype, np.integer) and np.issubdtype(of.dtype, np.integer)
    if not whole or hits.shape != of.shape or not hits.size or (of < 1).any() or (hits < 0).any() or (hits > of).any():
        raise InputError(f"expected whole numbers 0 <= hits <= of and of >= 1, as many of one as of the other, got "
                         f"{hits.tolist()} of {of.tolist()}; give counts of examples, not shares or percent")
