"""What the functions of statistics accept, checked before any compute: numbers, columns, draws, levels.

A wrong shape would be broadcast or flattened to a wrong number, and text or complex numbers end in NumPy's own errors.
NaN stays what each function says of it.
"""

import operator
from typing import Any

import numpy as np

from margin_jax.errors import InputError


def checked_numbers(values: Any, name: str) -> np.ndarray:
    """Real numbers of any shape as float64; booleans are 0 and 1.

    Raises:
      InputError: rows of different lengths, text, objects or complex numbers.
    """
    try:
        array = np.asarray(values)
        # "V" holds bfloat16 and its like, which NumPy itself does not know.
        if array.dtype.kind in "biufV":
            return array.astype(np.float64)
        kind = str(array.dtype)
    except (ValueError, TypeError) as error:
        kind = str(error)
    raise InputError(f"expected {name} as an array of real numbers, got {kind}; give numbers, NaN for a missing one")


def checked_column(values: Any, name: str, size: int | None = None) -> np.ndarray:
    """One number per thing, (R,) float64.

    Args:
      values: the numbers.
      name: of the argument, for the message.
      size: R that it must have; any if absent.

    Raises:
      InputError: no numbers, another rank or another length.
    """
    array = checked_numbers(values, name)
    if array.ndim != 1 or size is not None and array.size != size:
        raise InputError(f"expected {name} as a column ({'R' if size is None else size},), got {array.shape}; give one "
                         "number for each")
    return array


def checked_draws(values: Any, name: str = "draws") -> np.ndarray:
    """The statistic of every draw, (B,) float64; InputError as `checked_column`."""
    return checked_column(values, name)


def checked_level(level: Any) -> float:
    """A share of draws in (0, 1), as it is; InputError for 0, 1, NaN or percent."""
    if not 0 < level < 1:
        raise InputError(f"expected a level in (0, 1), such as 0.95, got {level}")
    return level


def checked_resamples(resamples: Any) -> int:
    """A number of draws B >= 0; InputError for a fraction or a negative number."""
    try:
        number = operator.index(resamples)
    except TypeError:
        number = -1
    if number < 0:
        raise InputError(f"expected resamples >= 0, a whole number of draws, got {resamples!r}")
    return number
