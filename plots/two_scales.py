"""Two rows of panels for one y axis: the lower zooms on what matters, the upper goes on from where it ends."""

from collections.abc import Sequence

import numpy as np


def limits(near: Sequence[np.ndarray], everything: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Bottom and top of the zoom, and the top of the upper panels, for values that are not negative.

    Args:
      near: what the zoom should hold, arrays of any shape; NaN is left out.
      everything: all that is drawn; the zoom reaches down to its smallest value.
    """
    values, whole = _finite(near), _finite(everything)
    if not whole.size:
        return 0.0, 1.0, 2.0
    values = values if values.size else whole
    low, high = min(whole.min(), values.min()), values.max()
    pad = 0.06 * (high - low) or 0.5
    # Errors are not negative, whatever the end of an interval.
    return max(low - pad, -0.03 * high), high + 2 * pad, max(whole.max(), high + 2 * pad)


def _finite(arrays: Sequence[np.ndarray]) -> np.ndarray:
    values = np.concatenate([np.ravel(array) for array in arrays]) if len(arrays) else np.zeros(0)
    return values[np.isfinite(values)]


def frame(panels: np.ndarray, zoom: tuple[float, float, float]) -> None:
    """Sets the y limits of panels (2, ...), upper row first, that share y by rows; dots mark the change of scale."""
    low, high, top = zoom
    panels[1, 0].set_ylim(low, high)
    panels[0, 0].set_ylim(high, top + (0.06 * (top - high) or 1.0))
    for axes in panels[0]:
        axes.spines["bottom"].set_linestyle((0, (1, 2)))
        axes.tick_params(bottom=False)
    for axes in panels[:, 1:].ravel():
        axes.tick_params(left=False)
        axes.grid(axis="y", linewidth=0.3, alpha=0.5)
