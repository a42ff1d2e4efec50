"""Boolean masks over the training set: which examples are kept. Which rule takes which scores: `margin_jax.rules`.

The mask is the only thing that compression changes. Every rule takes scores (N,) in the order of ascending ids and the
rows still kept, and returns a mask (N,) that keeps *exactly* `keep` of them (all, if fewer are left); ties go to the
smaller id. `keep` may be traced, so that one compiled program serves every count. A NaN score ranks last, after every
number, under each rule, class by class too. Raw and normalised margins order alike, except for ties that the rounding
of a division makes, so that raw ones are to be preferred.
"""

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax.errors import InputError

RULES = ("smallest", "largest", "random", "balanced", "el2n", "grand", "forgetting", "aum", "ids")


def _first(order: jax.Array, keep: int | jax.Array, within: jax.Array) -> jax.Array:
    """Mask of the first `keep` rows of `order` (N,), a permutation in which the rows of `within` come first."""
    chosen = jnp.arange(order.shape[0]) < jnp.minimum(keep, jnp.sum(within))
    return jnp.zeros(order.shape, bool).at[order].set(chosen)


def _kept(scores: jax.Array, within: jax.Array | None) -> jax.Array:
    return jnp.ones(scores.shape, bool) if within is None else within


def reversed_scores(scores: jax.Array) -> jax.Array:
    """Scores (N,) of any number type, or boolean, in the opposite order; NaN stays NaN."""
    # The complement of integers, since minus 0 is the smallest of unsigned numbers.
    return -scores if jnp.issubdtype(scores.dtype, jnp.floating) else ~scores


def smallest(scores: jax.Array, keep: int | jax.Array, within: jax.Array | None = None) -> jax.Array:
    """Keeps the rows with the `keep` smallest scores.

    Args:
      scores: (N,) float, for instance margins; removed rows may hold anything.
      keep: how many to keep, >= 0; may be traced.
      within: (N,) boolean, the rows to choose from; all if absent.

    Returns:
      (N,) boolean.
    """
    within = _kept(scores, within)
    # lexsort is stable, so that equal keys stay in the order of ids; NaN sorts after every number.
    return _first(jnp.lexsort((scores, ~within)), keep, within)


def largest(scores: jax.Array, keep: int | jax.Array, within: jax.Array | None = None) -> jax.Array:
    """Keeps the rows with the `keep` largest scores; arguments as in `smallest`, ties to the smaller id as well."""
    return smallest(reversed_scores(scores), keep, within)


def random_scores(key: jax.Array, count: int) -> jax.Array:
    """Scores (N,) int32 of N = `count` rows for the rule "random": a permutation of 0..N-1, drawn with `key`."""
    return jax.random.permutation(key, count)


def random(key: jax.Array, keep: int | jax.Array, within: jax.Array) -> jax.Array:
    """Keeps `keep` rows of `within` (N,) drawn uniformly without replacement with `key`; (N,) boolean."""
    return smallest(random_scores(key, within.shape[0]), keep, within)


def balanced(scores: jax.Array, labels: jax.Array, keep: int | jax.Array,
             within: jax.Array | None = None) -> jax.Array:
    """Keeps the smallest scores class by class, in equal shares.

    Classes are filled in turn: the smallest of every class, then the second smallest of every class, and so on, within
    a turn in the order of scores. The counts of two classes thus differ by at most one, unless a class has run out. One
    with only NaN left has run out as long as any other has numbers.

    Args:
      scores: (N,) float.
      labels: (N,) integer classes.
      keep: how many to keep in all, >= 0; may be traced.
      within: (N,) boolean, the rows to choose from; all if absent.

    Returns:
      (N,) boolean.
    """
    within = _kept(scores, within)
    count = scores.shape[0]
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
    wanted = np.asarray(wanted)
    unknown = np.setdiff1d(wanted, ids)
    if wanted.size == 0 or unknown.size or np.unique(wanted).size != wanted.size:
        raise InputError(f"expected one or more distinct ids of the training set, got {wanted.size} ids of which "
                         f"{wanted.size - np.unique(wanted).size} are repeats and {unknown.size} are not in it"
                         f"{f', the first of these {unknown[0]}' if unknown.size else ''}; name each id once")
    return np.isin(ids, wanted)
