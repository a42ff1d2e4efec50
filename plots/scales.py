"""The two scales that figures share: epochs as colours, margins in a power of ten."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

MARGIN = "normalised margin"
# The lightest tenth of viridis is too faint for a thin line on white paper.
EPOCHS = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, 256)), "viridis_on_white")


def epoch_colours(epochs: Sequence[int] | np.ndarray) -> ScalarMappable:
    """The colour of every epoch from the first to the last; `to_rgba(epoch)` gives one."""
    first, last = int(min(epochs)), int(max(epochs))
    pad = 0.5 if first == last else 0.0
    return ScalarMappable(Normalize(first - pad, last + pad), EPOCHS)


def epoch_colourbar(figure: Figure, colours: ScalarMappable, axes: Sequence[Axes] | np.ndarray) -> None:
    """Adds a slim colour bar labelled "epoch", with whole numbers, beside `axes`."""
    bar = figure.colorbar(colours, ax=list(axes), label="epoch", aspect=35, pad=0.02)
    bar.outline.set_linewidth(0.4)
    low, high = colours.get_clim()
    bar.set_ticks([(low + high) / 2] if high - low <= 1 and low % 1 else whole_ticks(low, high))


def whole_ticks(low: float, high: float, most: int = 6) -> list[int]:
    """At most about `most` whole numbers in [low, high] at a round step, so that epochs never read 2.5."""
    span = max(high - low, 1)
    step = next(s * 10**k for k in range(12) for s in (1, 2, 5) if span / (s * 10**k) <= most)
    return list(range(math.ceil(low / step) * step, math.floor(high) + 1, step))


def margin_axis(axis: Axis, values: np.ndarray) -> str:
    """Lets the ticks of an axis of margins read 1.5 instead of 0.0015.

    The power of ten goes into the axis label, where a reader sees it; matplotlib's own offset sits apart from it.

    Args:
      axis: an x or y axis that shows values in their own unit.
      values: what is shown, for its size; may be empty.

    Returns:
      The text for the axis label, such as "normalised margin (10⁻³)".
    """
    power = power_of_ten(values)
    axis.set_major_formatter(FuncFormatter(lambda value, _: signed(f"{round(value / 10.0**power, 9) + 0.0:g}")))
    return MARGIN + unit(power)


def frame(axes: Axes, drawn: Sequence[tuple[int, float, float]]) -> tuple[np.ndarray, str]:
    """Fits the y range to zero and the later half of the epochs drawn.

    Normalised margins shrink by orders of magnitude while rho grows, so that a range for all epochs would flatten
    every curve but the first few into a line.

    Args:
      axes: the panel, or one of several that share their y axis.
      drawn: epoch, smallest and largest value of every curve drawn, in the order of epochs.

    Returns:
      The two limits (2,), and a remark for a label, "" where every curve lies inside.
    """
    late = drawn[len(drawn) // 2:]
    low, high = min([0.0, *(d[1] for d in late)]), max([0.0, *(d[2] for d in late)])
    pad = 0.05 * (high - low)
    if pad:
        axes.set_ylim(low - pad, high + pad)
    beyond = [epoch for epoch, least, most in drawn if least < low - pad or most > high + pad]
    return np.array([low, high]), f"\n(epochs up to {max(beyond)} reach beyond the frame)" if beyond else ""


def power_of_ten(values: np.ndarray) -> int:
    """The power of ten to leave out of margins, so that the largest reads 2 to 20; 0 if they read well as they are."""
    largest = float(np.max(np.abs(values), initial=0.0))
    power = math.floor(math.log10(largest / 2)) if largest > 0 else 0
    return 0 if -1 <= power <= 2 else power


def unit(power: int) -> str:
    """What an axis label or a title says of a power of ten left out, such as " (10⁻³)"."""
    return f" ($10^{{{power}}}$)" if power else ""


def signed(number: str) -> str:
    """A number's text with a minus sign as wide as the digits, where Python writes a hyphen."""
    return number.replace("-", "\N{MINUS SIGN}")
