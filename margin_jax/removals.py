"""The removal schedule of figure 4 as data: how many examples are kept after every removal."""

from collections.abc import Sequence
from typing import Any

Schedule = Sequence[tuple[int, int]]


def is_schedule(pairs: Any) -> bool:
    """Whether `pairs` are (until, step) with whole numbers > 0 whose `until` falls strictly."""
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
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
