"""Epoch order and batch shapes from the mask.

An epoch visits the kept rows only, in steps of `batch` rows, the last one partial. How many rows are kept, and so how
many steps there are, is traced: it changes no shape. What is static is a `Plan`, the shape of the piece of rows that
goes through the network at once, and `make_plan` chooses it such that a training set that shrinks from N to 1 meets
at most ceil(log2 N) + 1 different plans for a batch size, while the rows computed stay below twice the rows kept.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Plan(NamedTuple):
    """Static shape of a step; one compiled epoch per value.

    Attributes:
      piece: rows that go through the network at once; rows beyond the step's own are padding of weight zero.
      single: whether a step is one piece. If not, gradients of its pieces are added up, which is exact for networks
        whose examples do not interact (no BatchNorm).
    """

    piece: int
    single: bool


def power_of_two(count: int) -> int:
    """The smallest power of two >= count, for count >= 1."""
    return 1 << (count - 1).bit_length()


def make_plan(batch_size: int, kept: int, piece_limit: int, whole: bool,
              devices: int = 1, total: int | None = None) -> tuple[Plan, int]:
    """Chooses the step's shape.

    Args:
      batch_size: rows per step, or 0 for full gradient descent.
      kept: rows kept, >= 1.
      piece_limit: most rows in one piece where a step may be cut into pieces, >= 1.
      whole: True if a step must be one piece, because BatchNorm takes its statistics over the whole batch.
      devices: devices among which a step's rows are shared out.
      total: N, if known: then a step on everything is not padded beyond N.

    Returns:
      The plan and the rows per step, min(batch_size, kept), which the epoch takes as a traced number.
    """
    batch = min(batch_size or kept, kept)
    fixed = batch == batch_size  # otherwise the step is all that is kept, whose count shrinks: round it up
    share = -(-batch // devices)
    if whole or share <= piece_limit:
        padded = power_of_two(share) if total is None else min(power_of_two(share), -(-total // devices))
        return Plan(share if fixed else padded, True), batch
    if not fixed:
        return Plan(piece_limit, False), batch
    pieces = -(-share // piece_limit)
    return Plan(-(-share // pieces), False), batch


def epoch_order(mask: jax.Array, key: jax.Array, shuffle: bool) -> tuple[jax.Array, jax.Array]:
    """Rows in the order in which an epoch visits them.

    Args:
      mask: (N,) boolean, the kept rows; at least one.
      key: PRNG key of this epoch, used only with `shuffle`.
      shuffle: static; False keeps ascending ids, as the paper does. True draws a new order: the kept rows in the order
        of one permutation of all N.

    Returns:
      order (N,) int32: the kept rows first, then the first kept row again and again, so that padding gathers a row
      that may be read (removed rows may hold NaN); and kept () int32.
    """
    count = mask.shape[0]
    rows = jnp.arange(count, dtype=jnp.int32)
    if shuffle:
        rows = jax.random.permutation(key, rows)
    chosen = mask[rows]
    places = jnp.where(chosen, jnp.cumsum(chosen) - 1, count)
    kept = jnp.sum(mask, dtype=jnp.int32)
    order = jnp.zeros(count, jnp.int32).at[places].set(rows, mode="drop")
    return jnp.where(jnp.arange(count) < kept, order, order[0]), kept


def piece_rows(order: jax.Array, start: jax.Array, stop: jax.Array, piece: int) -> tuple[jax.Array, jax.Array]:
    """The rows of one piece.

    Args:
      order: (N,) int32 of `epoch_order`.
      start: () int, position in `order` of the piece's first row.
      stop: () int, position just after the step's last row.
      piece: static, rows in a piece; it may reach past `stop` and past N.

    Returns:
      rows (piece,) int32 and weights (piece,) float32, 1 for the step's own rows and 0 for padding.
    """
    positions = start + jnp.arange(piece)
    valid = positions < stop
    return order[jnp.where(valid, positions, 0)], valid.astype(jnp.float32)
