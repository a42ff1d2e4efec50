"""The rules of a selection: which scores each takes, and which end of them it keeps.

Scores go in as their own functions give them, never turned round by the caller: a selection that ascends in one branch
and descends in another is decided here, once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from margin_jax import masks


class Ranking(NamedTuple):
    """How a rule ranks examples.

    Attributes:
      score: what it ranks by: "margins" of `margin_jax.margins`, "random" of `masks.random_scores`, "el2n" or "grand"
        of `margin_jax.scores`, "forgetting" or "aum" of `margin_jax.dynamics`.
      largest: whether it keeps the largest values, else the smallest.
      balanced: whether it is class by class whatever is asked for.
    """

    score: str
    largest: bool = False
    balanced: bool = False


# All of masks.RULES but "ids", which takes no score. The rivals keep their hardest examples. For EL2N, GraNd and
# forgetting events that is the selection of their papers; the paper on AUM looks among the smallest for wrong labels.
RANKINGS = {
    "smallest": Ranking("margins"),
    "largest": Ranking("margins", largest=True),
    "random": Ranking("random"),
    "balanced": Ranking("margins", balanced=True),
    "el2n": Ranking("el2n", largest=True),
    "grand": Ranking("grand", largest=True),
    "forgetting": Ranking("forgetting", largest=True),
    "aum": Ranking("aum"),
}


def choose(rule: str, scores: jax.Array, labels: jax.Array, keep: int | jax.Array, within: jax.Array | None = None,
           balanced: bool = False) -> jax.Array:
    """Keeps exactly `keep` rows, all if there are fewer, by one of RANKINGS.

    Ties go to the smaller id, and NaN ranks last.

    Args:
      rule: static, a key of RANKINGS.
      scores: (N,) float or integer, what `RANKINGS[rule].score` names; rows outside `within` may hold anything.
      labels: (N,) integer classes.
      keep: how many to keep in all, >= 0; may be traced.
      within: (N,) boolean, the rows to choose from; all if absent.
      balanced: static; class by class in equal shares, see `masks.balanced`. An option of every rule.

    Returns:
      (N,) boolean.

    Raises:
      ValueError: a rule that is unknown or takes no score.
    """
    if rule not in RANKINGS:
        raise ValueError(f"expected a rule with a score, one of {tuple(RANKINGS)}, got {rule!r}")
    ranking, scores = RANKINGS[rule], jnp.asarray(scores)
    ascending = masks.reversed_scores(scores) if ranking.largest else scores
    if balanced or ranking.balanced:
        return masks.balanced(ascending, jnp.asarray(labels), keep, within)
    return masks.smallest(ascending, keep, within)
