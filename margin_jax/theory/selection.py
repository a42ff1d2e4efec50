"""Which examples are kept: boolean masks over the training set, the rules that make them, the schedule of figure 4.

The mask is the only thing that compression changes. Every rule takes scores (N,) in the order of ascending ids and the
rows still kept, and returns a mask (N,) that keeps *exactly* `keep` of them (all, if fewer are left); ties go to the
smaller id. `keep` is in 1..N. It may be traced, so that one compiled program serves every count; it is then not
checked, and less than 1 keeps nothing. A NaN score ranks last, after every
number, under each rule, class by class too. Raw and normalised margins order alike, except for ties that the rounding
of a division makes, so that raw ones are to be preferred.

A rule says which scores it takes and which end of them it keeps. Scores go in as their own functions give them, never
turned round by the caller: whether a selection ascends or descends is decided here, once. The schedule of figure 4 is
data: how many examples are kept after every removal.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax.errors import InputError
from margin_jax.theory.checks import checked_count, checked_labels, checked_mask, is_array

RULES = ("smallest", "largest", "random", "balanced", "el2n", "grand", "forgetting", "aum", "ids")


def _first(order: jax.Array, keep: int | jax.Array, within: jax.Array) -> jax.Array:
    """Mask of the first `keep` rows of `order` (N,), a permutation in which the rows of `within` come first."""
    chosen = jnp.arange(order.shape[0]) < jnp.minimum(keep, jnp.sum(within))
    return jnp.zeros(order.shape, bool).at[order].set(chosen)


def _kept(scores: jax.Array, within: jax.Array | None) -> jax.Array:
    return jnp.ones(scores.shape, bool) if within is None else checked_mask(within, scores.shape[0], "within")


def checked_scores(scores: Any) -> jax.Array:
    """Scores (N,) as JAX ranks them.

    Those of NumPy that have more bits than JAX keeps are replaced by their places, since rounding would make ties, and
    normalised margins of deep networks would be 0.

    Args:
      scores: (N,) float, integer or boolean, N >= 1.

    Returns:
      (N,) numbers of the same order, ties and NaN.

    Raises:
      InputError: another shape or type.
    """
    scores = scores if is_array(scores) else np.asarray(scores)
    real = any(jnp.issubdtype(scores.dtype, kind) for kind in (jnp.floating, jnp.integer, bool))
    if scores.ndim != 1 or not scores.size or not real:
        raise InputError(f"expected scores (N,) of real numbers, one for each example, got {scores.dtype} "
                         f"{scores.shape}")
    if isinstance(scores, np.ndarray) and jax.dtypes.canonicalize_dtype(scores.dtype) != scores.dtype:
        places = np.unique(scores, return_inverse=True)[1].astype(np.int32)
        known = ~np.isnan(scores)
        return jnp.asarray(places if known.all() else np.where(known, places, np.nan).astype(np.float32))
    return jnp.asarray(scores)


def reversed_scores(scores: jax.Array) -> jax.Array:
    """Scores (N,) of any number type, or boolean, in the opposite order; NaN stays NaN."""
    # The complement of integers, since minus 0 is the smallest of unsigned numbers.
    return -scores if jnp.issubdtype(scores.dtype, jnp.floating) else ~scores


def smallest(scores: jax.Array, keep: int | jax.Array, within: jax.Array | None = None) -> jax.Array:
    """Keeps the rows with the `keep` smallest scores.

    Args:
      scores: (N,) float, for instance margins; removed rows may hold anything.
      keep: how many to keep, in 1..N; all are where `within` has fewer. May be traced.
      within: (N,) boolean, the rows to choose from; all if absent.

    Returns:
      (N,) boolean.

    Raises:
      InputError: scores or `within` of another shape or type, or a count out of range.
    """
    scores = checked_scores(scores)
    keep, within = checked_count(keep, scores.shape[0]), _kept(scores, within)
    # lexsort is stable, so that equal keys stay in the order of ids; NaN sorts after every number.
    return _first(jnp.lexsort((scores, ~within)), keep, within)


def random_scores(key: jax.Array, count: int) -> jax.Array:
    """Scores (N,) int32 of N = `count` rows for the rule "random": a permutation of 0..N-1, drawn with `key`."""
    return jax.random.permutation(key, count)


def balanced_mask(scores: jax.Array, labels: jax.Array, keep: int | jax.Array,
                  within: jax.Array | None = None) -> jax.Array:
    """Keeps the smallest scores class by class, in equal shares.

    Classes are filled in turn: the smallest of every class, then the second smallest of every class, and so on, within
    a turn in the order of scores. The counts of two classes thus differ by at most one, unless a class has run out. One
    with only NaN left has run out as long as any other has numbers.

    Args:
      scores: (N,) float.
      labels: (N,) integer classes.
      keep: how many to keep in all, in 1..N; all are where `within` has fewer. May be traced.
      within: (N,) boolean, the rows to choose from; all if absent.

    Returns:
      (N,) boolean.

    Raises:
      InputError: scores, labels or `within` of another shape or type, or a count out of range.
    """
    scores = checked_scores(scores)
    count = scores.shape[0]
    keep, within, labels = checked_count(keep, count), _kept(scores, within), jnp.asarray(checked_labels(labels, count))
    order = jnp.lexsort((scores, labels, ~within))
    grouped, position = labels[order], jnp.arange(count)
    left = within[order]
    changes = (grouped[1:] != grouped[:-1]) | (left[1:] != left[:-1])
    starts = jnp.concatenate([jnp.ones(1, bool), changes])
    turn_in_order = position - jax.lax.cummax(jnp.where(starts, position, 0))
    turn = jnp.zeros(count, jnp.int32).at[order].set(turn_in_order.astype(jnp.int32))
    return _first(jnp.lexsort((scores, turn, jnp.isnan(scores), ~within)), keep, within)


def of_ids(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Mask of explicitly named ids.

    Args:
      ids: (N,) integer ids of the training set.
      wanted: (k,) integer ids to keep, in any order.

    Returns:
      (N,) boolean with exactly k rows.

    Raises:
      InputError: no id, an id named twice, or one that is not in the training set.
    """
    wanted, ids = np.asarray(wanted), np.asarray(ids)
    if wanted.ndim != 1 or wanted.size and not np.issubdtype(wanted.dtype, np.integer):
        raise InputError(f"expected ids as a list of integers, got {wanted.dtype} {wanted.shape}; of a boolean mask "
                         "give ids[mask]")
    unknown = np.setdiff1d(wanted, ids)
    if wanted.size == 0 or unknown.size or np.unique(wanted).size != wanted.size:
        raise InputError(f"expected one or more distinct ids of the training set, got {wanted.size} ids of which "
                         f"{wanted.size - np.unique(wanted).size} are repeats and {unknown.size} are not in it"
                         f"{f', the first of these {unknown[0]}' if unknown.size else ''}; name each id once")
    return np.isin(ids, wanted)


class Ranking(NamedTuple):
    """How a rule ranks examples.

    Attributes:
      score: what it ranks by: "margins" of `theory.margins`, "random" of `random_scores`, "el2n", "grand",
        "forgetting" or "aum" of `theory.scores`.
      largest: whether it keeps the largest values, else the smallest.
      balanced: whether it is class by class whatever is asked for.
    """

    score: str
    largest: bool = False
    balanced: bool = False


# All of RULES but "ids", which takes no score. The rivals keep their hardest examples. For EL2N, GraNd and
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


def select(rule: str, scores: jax.Array, keep: int | jax.Array, labels: jax.Array | None = None,
           within: jax.Array | None = None, balanced: bool = False) -> jax.Array:
    """Keeps exactly `keep` rows, all of `within` if it has fewer, by one of RANKINGS.

    Ties go to the smaller id, and NaN ranks last.

    Args:
      rule: static, a key of RANKINGS.
      scores: (N,) float or integer, what `RANKINGS[rule].score` names; rows outside `within` may hold anything.
      keep: how many to keep in all, in 1..N; may be traced.
      labels: (N,) integer classes, needed where classes are kept in equal shares.
      within: (N,) boolean, the rows to choose from; all if absent.
      balanced: static; class by class in equal shares, see `balanced_mask`. An option of every rule.

    Returns:
      (N,) boolean.

    Raises:
      InputError: a rule that is unknown or takes no score, equal shares without labels, arrays of another shape or
        type, or a count out of range.
    """
    if rule not in RANKINGS:
        raise InputError(f"expected a rule with a score, one of {tuple(RANKINGS)}, got {rule!r}")
    ranking, scores = RANKINGS[rule], checked_scores(scores)
    ascending = reversed_scores(scores) if ranking.largest else scores
    if balanced or ranking.balanced:
        if labels is None:
            raise InputError(f"expected labels (N,) for equal shares of the classes with rule {rule!r}, got none")
        return balanced_mask(ascending, labels, keep, within)
    return smallest(ascending, keep, within)


Schedule = Sequence[tuple[int, int]]


def is_schedule(pairs: Any) -> bool:
    """Whether `pairs` are (until, step) with whole numbers > 0 whose `until` falls strictly."""
    if not isinstance(pairs, (tuple, list)) or not all(isinstance(pair, (tuple, list)) and len(pair) == 2
                                                       for pair in pairs):
        return False
    numbers = [number for pair in pairs for number in pair]
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in numbers)
    untils = [pair[0] for pair in pairs]
    return bool(numbers) and whole and all(a > b for a, b in zip(untils, untils[1:], strict=False))


def kept_counts(total: int, schedule: Schedule) -> list[int]:
    """How many examples are kept after each removal.

    The paper's schedule ((10000, 5000), (1000, 1000), (100, 100), (10, 10), (1, 1)) takes 50,000 to 45,000, ...,
    10,000, 9,000, ..., 1,000, 900, ..., 100, 90, ..., 10, 9, ..., 1 (figure 4, section C.5).

    Args:
      total: examples before the first removal, N.
      schedule: pairs (until, step): `step` examples are removed at a time until `until` are left; the last removal of a
        pair stops at `until` where the step does not divide.

    Returns:
      Strictly falling counts below `total`; pairs whose `until` is not below what is left add nothing.

    Raises:
      ValueError: no schedule, see `is_schedule`.
    """
    if not is_schedule(schedule):
        raise ValueError(f"expected pairs (until, step) of whole numbers > 0, until falling, got {schedule!r}")
    counts, left = [], total
    for until, step in schedule:
        while left > until:
            left = max(left - step, until)
            counts.append(left)
    return counts
