"""Which examples are deleted for the table of appendix B, and how a row of it is written."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from margin_jax.deletion import Residual

Row = dict[str, Any]


class Deletion(NamedTuple):
    """Which examples are deleted.

    Attributes:
      choice: "none", "smallest", "largest" (by margin) or "random".
      draw: number of the random draw, 0 otherwise.
      removed: how many.
      left: (N,) boolean.
    """

    choice: str
    draw: int
    removed: int
    left: np.ndarray


def deletions(counts: tuple[int, ...], margins: np.ndarray, seed: int, draws: int) -> Iterator[Deletion]:
    """None first, then each count below N by each choice.

    Args:
      counts: how many to delete.
      margins: (N,) raw; ties go to the smaller id.
      seed: of the random draws, whose larger sets contain the smaller ones.
      draws: how many random sets of each count.
    """
    size = margins.size
    orders = [("smallest", 0, np.argsort(margins, kind="stable")), ("largest", 0, np.argsort(-margins, kind="stable"))]
    orders += [("random", draw, np.random.default_rng((seed, draw)).permutation(size)) for draw in range(draws)]
    yield Deletion("none", 0, 0, np.ones(size, bool))
    for count in sorted(count for count in counts if count < size):
        for choice, draw, order in orders:
            yield Deletion(choice, draw, count, ~np.isin(np.arange(size), order[:count]))


def row_of(equation: int, layer: str, minimum: str, deletion: Deletion, found: Residual) -> Row:
    """A row with the columns `tables.DELETION`."""
    return {"equation": equation, "layer": layer, "minimum": minimum, "choice": deletion.choice, "draw": deletion.draw,
            "removed": deletion.removed, "examples": int(deletion.left.sum()), **found._asdict()}
