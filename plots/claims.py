"""What a 95% interval says of a claim of the paper, in figures and in the JSON beside them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from plots.intervals import Interval

REPRODUCED, NOT, OPEN = "reproduced", "not reproduced", "open"


def above(interval: Interval) -> str:
    """The verdict on the claim that a quantity is above 0: open where its interval holds 0, or there is none."""
    low, high = interval.mean - interval.half, interval.mean + interval.half
    return REPRODUCED if low > 0 else NOT if high < 0 else OPEN  # NaN is neither


def inside(stated: float, interval: tuple[float, float]) -> str:
    """The verdict on a number that the paper states: reproduced where it lies in our interval."""
    return REPRODUCED if interval[0] <= stated <= interval[1] else NOT


def together(verdicts: Sequence[str]) -> str:
    """The verdict on a claim made of several: all of them have to hold, one that does not is enough to fail."""
    return NOT if NOT in verdicts else REPRODUCED if verdicts and set(verdicts) == {REPRODUCED} else OPEN


def plain(number: float) -> float | None:
    """A number for JSON, which has neither NaN nor infinity."""
    return float(number) if np.isfinite(number) else None


def row(interval: Interval) -> dict[str, Any]:
    """An interval for JSON: mean, ends and count; None for what there is not."""
    mean, half = float(interval.mean), float(interval.half)
    return {"mean": plain(mean), "low": plain(mean - half), "high": plain(mean + half), "n": int(interval.n)}
