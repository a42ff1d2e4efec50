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

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax.errors import InputError
from margin_jax.theory.checks import checked_count, checked_labels, checked_mask, is_array, precise

RULES = ("smallest", "largest", "random", "balanced", "el2n", "grand", "forgetting", "aum", "kkt", "dual", "kcenter",
         "window", "stratified", "ids")
# Scores, and whether their largest values are the hardest examples, else the smallest.
HARDEST_IS_LARGEST = {"margins": False, "el2n": True, "grand": True, "forgetting": True, "aum": False, "kkt": True,
                      "dual": True}


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
    turn = _places((scores,), (labels, ~within))
    return _first(jnp.lexsort((scores, turn, jnp.isnan(scores), ~within)), keep, within)


def _groups(groups: tuple[jax.Array, ...], keys: tuple[jax.Array, ...] = ()) -> tuple[jax.Array, jax.Array]:
    """Rows by group, then by the keys, the last of which is the first to count, then by id.

    Returns:
      order: (N,) rows; starts: (N,) boolean, where a group begins in that order.
    """
    order = jnp.lexsort((*keys, *groups))
    changes = functools.reduce(operator.or_, ((group[order][1:] != group[order][:-1]) for group in groups))
    return order, jnp.concatenate([jnp.ones(1, bool), changes])


def _places(keys: tuple[jax.Array, ...], groups: tuple[jax.Array, ...]) -> jax.Array:
    """(N,) int32: the place of each row in its group, from 0, by the keys as of `_groups`."""
    order, starts = _groups(groups, keys)
    position = jnp.arange(order.size, dtype=jnp.int32)
    return jnp.zeros_like(position).at[order].set(position - jax.lax.cummax(jnp.where(starts, position, 0)))


def _of_group(values: jax.Array, groups: tuple[jax.Array, ...], reduce: Callable[..., jax.Array]) -> jax.Array:
    """(N,): the sum, minimum or maximum of `values` over the group of each row; `reduce` is a segment's of JAX."""
    order, starts = _groups(groups)
    segments = jnp.cumsum(starts) - 1
    totals = reduce(values[order], segments, num_segments=values.size, indices_are_sorted=True)
    return jnp.zeros(values.shape, totals.dtype).at[order].set(totals[segments])


def _count(where: jax.Array, groups: tuple[jax.Array, ...]) -> jax.Array:
    """(N,) int32: how many rows of `where` (N,) the group of each row has."""
    return _of_group(where.astype(jnp.int32), groups, jax.ops.segment_sum)


class Cut(NamedTuple):
    """What the rules "window" and "stratified" need beside scores.

    Attributes:
      difficulty: the score that says how hard an example is, a key of HARDEST_IS_LARGEST.
      hardest: share in [0, 1] of the examples, the hardest, that is left out; fewer where too few would be left.
      strata: equal ranges of the score, >= 1; of "stratified" alone.
      order: (N,) integers, all different, such as `random_scores`, by which "stratified" draws from a stratum.
    """

    difficulty: str = "aum"
    hardest: float = 0.1
    strata: int = 50
    order: jax.Array | None = None


class _Candidates(NamedTuple):
    """What is left to choose from, group by group.

    Attributes:
      groups: the keys that tell groups apart, rows outside the choice being groups of their own.
      keep: (N,) int32, how many rows are kept of the group of each row.
      cut: (N,) int32, how many of it, the hardest, are left out.
      place: (N,) int32, the place of each row in its group, the hardest first and NaN last.
    """

    groups: tuple[jax.Array, ...]
    keep: jax.Array
    cut: jax.Array
    place: jax.Array


def _candidates(scores: jax.Array, keep: int | jax.Array, labels: jax.Array | None, within: jax.Array,
                hardest: float) -> _Candidates:
    """The groups are the classes of `labels`, in equal shares, or all rows without; `scores` are the hardest first."""
    keep = jnp.minimum(keep, jnp.sum(within))
    if labels is None:
        groups, kept = (~within,), jnp.broadcast_to(keep, scores.shape)
    else:
        labels = jnp.asarray(checked_labels(labels, scores.size))
        groups = (labels, ~within)
        kept = _count(balanced_mask(scores, labels, keep, within), groups)
    numbers = _count(~jnp.isnan(scores), groups)
    cut = jnp.minimum(jnp.floor(hardest * numbers).astype(jnp.int32), jnp.maximum(numbers - kept, 0))
    return _Candidates(groups, kept, cut, _places((scores,), groups))


def window_mask(scores: jax.Array, keep: int | jax.Array, cut: Cut = Cut(), labels: jax.Array | None = None,
                within: jax.Array | None = None) -> jax.Array:
    """Leaves out the hardest share and keeps the next hardest (best window selection, Choi, Ki and Chung 2024).

    Args:
      scores: (N,) float or integer, what `cut.difficulty` names.
      keep: how many to keep in all, in 1..N; may be traced.
      cut: `difficulty` and `hardest` are used; of n numbers floor(hardest n) are left out, or n - keep if that is less.
      labels: (N,) integer classes: class by class in equal shares, each without its own hardest; absent: all as one.
      within: (N,) boolean, the rows to choose from; all if absent.

    Returns:
      (N,) boolean.

    Raises:
      InputError: arrays of another shape or type, an unknown difficulty, or a number out of range.
    """
    scores, keep, within = _hardest_first(scores, keep, cut, within)
    left = _candidates(scores, keep, labels, within, cut.hardest)
    return within & (left.place >= left.cut) & (left.place < left.cut + left.keep)


def stratified_mask(scores: jax.Array, keep: int | jax.Array, cut: Cut, labels: jax.Array | None = None,
                    within: jax.Array | None = None) -> jax.Array:
    """Leaves out the hardest share, then keeps as many of each of equal ranges of the score, drawn at random.

    Coverage-centric selection (Zheng, Liu, Lai and Prakash 2023, algorithm 1): strata are filled in turn, so that one
    with too few gives all it has; what does not divide goes to those with the most examples, of these to the easiest.

    Args:
      scores, keep, labels, within: as of `window_mask`; strata are ranges between the hardest and the easiest left.
      cut: all of it is used; `order` must be given.

    Returns:
      (N,) boolean.

    Raises:
      InputError: as of `window_mask`, or no order to draw by.
    """
    if cut.order is None or jnp.shape(cut.order) != jnp.shape(scores):
        raise InputError("expected an order (N,) to draw by in the rule 'stratified', got "
                         f"{None if cut.order is None else jnp.shape(cut.order)} for scores {jnp.shape(scores)}; give "
                         "Cut(order=random_scores(key, N))")
    if cut.strata < 1:
        raise InputError(f"expected strata >= 1, got {cut.strata}")
    # Ranges are of the numbers themselves: the places that checked scores may be would not do.
    values = precise(scores.astype(np.float32) if isinstance(scores, np.ndarray) else scores)
    values = -values if HARDEST_IS_LARGEST.get(cut.difficulty) else values
    scores, keep, within = _hardest_first(scores, keep, cut, within)
    left = _candidates(scores, keep, labels, within, cut.hardest)
    unknown = jnp.isnan(scores)
    open_ = within & (left.place >= left.cut)
    numbers = open_ & ~unknown
    low = _of_group(jnp.where(numbers, values, jnp.inf), left.groups, jax.ops.segment_min)
    high = _of_group(jnp.where(numbers, values, -jnp.inf), left.groups, jax.ops.segment_max)
    share = jnp.nan_to_num((values - low) / jnp.where(high > low, high - low, 1))
    stratum = jnp.clip(jnp.floor(share * cut.strata), 0, cut.strata - 1).astype(jnp.int32)
    strata = (stratum, unknown, ~open_, *left.groups)
    turn, size = _places((jnp.asarray(cut.order),), strata), _count(numbers, strata)
    place = _places((-stratum, -size, turn, unknown, ~open_), left.groups)
    return open_ & (place < left.keep)


def _hardest_first(scores: Any, keep: Any, cut: Cut, within: Any) -> tuple[jax.Array, Any, jax.Array]:
    """Checked scores, in the order that has the hardest first, count and rows to choose from."""
    if cut.difficulty not in HARDEST_IS_LARGEST:
        raise InputError(f"expected a difficulty of {tuple(HARDEST_IS_LARGEST)}, got {cut.difficulty!r}")
    if not 0 <= cut.hardest <= 1:
        raise InputError(f"expected a share hardest in [0, 1], got {cut.hardest}")
    scores = checked_scores(scores)
    keep, within = checked_count(keep, scores.size), _kept(scores, within)
    return reversed_scores(scores) if HARDEST_IS_LARGEST[cut.difficulty] else scores, keep, within


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
        "forgetting", "aum", "dual" or "kcenter" of `theory.scores`, "kkt" of `theory.deletion`; "" is that of
        `Cut.difficulty`.
      largest: whether it keeps the largest values, else the smallest.
      balanced: whether it is class by class whatever is asked for.
    """

    score: str
    largest: bool = False
    balanced: bool = False


# All of RULES but "ids", which takes no score. The rivals keep their hardest examples. For EL2N, GraNd, forgetting
# events and DUAL that is the selection of their papers; the paper on AUM looks among the smallest for wrong labels.
RANKINGS = {
    "smallest": Ranking("margins"),
    "largest": Ranking("margins", largest=True),
    "random": Ranking("random"),
    "balanced": Ranking("margins", balanced=True),
    "el2n": Ranking("el2n", largest=True),
    "grand": Ranking("grand", largest=True),
    "forgetting": Ranking("forgetting", largest=True),
    "aum": Ranking("aum"),
    "kkt": Ranking("kkt", largest=True),
    "dual": Ranking("dual", largest=True),
    "kcenter": Ranking("kcenter"),
    "window": Ranking(""),
    "stratified": Ranking(""),
}


class NamedRule(NamedTuple):
    """A rule as a config names it: "window", "el2n@20", "grand@0+balanced".

    Attributes:
      name: of RULES.
      epoch: after which its score is taken, 0 at initialisation; None where the name says none.
      balanced: class by class in equal shares.
    """

    name: str
    epoch: int | None
    balanced: bool


def named_rule(text: str) -> NamedRule:
    """Reads a rule as a config names it.

    Raises:
      InputError: an unknown rule, an epoch that is no whole number >= 0, one of a rule that looks at no network, or
        equal shares of one that has them already or names every example.
    """
    name, balanced = text.removesuffix("+balanced"), text.endswith("+balanced")
    name, at, epoch = name.partition("@")
    if name not in RULES or at and not (epoch.isascii() and epoch.isdigit() and len(epoch) < 10):
        raise InputError(f"expected a rule of {', '.join(RULES)}, or one with the epoch of its score or equal shares "
                         f"of the classes, such as el2n@20 or el2n@20+balanced, got {text!r}")
    if at and name in ("random", "ids") or balanced and name in ("ids", "balanced"):
        raise InputError(f"expected the rule {name!r} without {'an epoch' if at else 'equal shares'}, got {text!r}; it "
                         f"{'looks at no network' if at else 'names every example, or is so already'}")
    return NamedRule(name, int(epoch) if at else None, balanced)


def select(rule: str, scores: jax.Array, keep: int | jax.Array, labels: jax.Array | None = None,
           within: jax.Array | None = None, balanced: bool = False, cut: Cut = Cut()) -> jax.Array:
    """Keeps exactly `keep` rows, all of `within` if it has fewer, by one of RANKINGS.

    Ties go to the smaller id, and NaN ranks last.

    Args:
      rule: static, a key of RANKINGS.
      scores: (N,) float or integer, what `RANKINGS[rule].score` names; rows outside `within` may hold anything.
      keep: how many to keep in all, in 1..N; may be traced.
      labels: (N,) integer classes, needed where classes are kept in equal shares.
      within: (N,) boolean, the rows to choose from; all if absent.
      balanced: static; class by class in equal shares, see `balanced_mask`. An option of every rule. For "kcenter" the
        scores must be a traversal by class, `scores.farthest_first` with these labels.
      cut: static but for `order`; for "window" and "stratified".

    Returns:
      (N,) boolean.

    Raises:
      InputError: a rule that is unknown or takes no score, equal shares without labels, arrays of another shape or
        type, or a count out of range.
    """
    if rule not in RANKINGS:
        raise InputError(f"expected a rule with a score, one of {tuple(RANKINGS)}, got {rule!r}")
    ranking, by_class = RANKINGS[rule], balanced or RANKINGS[rule].balanced
    if by_class and labels is None:
        raise InputError(f"expected labels (N,) for equal shares of the classes with rule {rule!r}, got none")
    if rule in ("window", "stratified"):
        mask = window_mask if rule == "window" else stratified_mask
        return mask(scores, keep, cut, labels if by_class else None, within)
    scores = checked_scores(scores)
    ascending = reversed_scores(scores) if ranking.largest else scores
    return balanced_mask(ascending, labels, keep, within) if by_class else smallest(ascending, keep, within)


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
