"""One look for every figure: a paper column's width, readable type, colours safe for colour-blind readers.

Also the scales that figures share, epochs as colours and margins in a power of ten, and how files are written.
"""

import contextlib
import functools
import io
import logging
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from margin_jax.errors import InputError, nearest
from margin_jax.statistics.estimates import half_width, t_interval

SINGLE, DOUBLE = 3.3, 6.8  # inches: one and two columns of a paper
BLUE, ORANGE, GREEN, VERMILLION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#767676"  # Okabe and Ito
RC = {
    "font.size": 8, "axes.labelsize": 8, "axes.titlesize": 8, "figure.labelsize": 8, "figure.titlesize": 8,
    "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7, "legend.frameon": False,
    "legend.handlelength": 1.8, "legend.columnspacing": 1.2, "axes.linewidth": 0.6, "lines.linewidth": 1.0,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4, "ytick.minor.width": 0.4, "pdf.fonttype": 42, "savefig.dpi": 300,
    "figure.constrained_layout.w_pad": 0.03, "figure.constrained_layout.h_pad": 0.03,
}
# absl shows INFO messages, and writing a PDF gives a dozen of them on how its fonts were cut down.
logging.getLogger("fontTools").setLevel(logging.WARNING)
_P, _R = ParamSpec("_P"), TypeVar("_R")
_log = logging.getLogger(__name__)
_keep_files: ContextVar[bool] = ContextVar("keep_files", default=False)


class Lacking(InputError):
    """A folder that is whole, but not made for a figure: too few networks, epochs or examples, or some left out."""

    silent = False  # whether the figure is left out without a word unless it was asked for


def check_names(names: Iterable[str], figures: Iterable[str], refusal: str) -> None:
    """Checks names of figures.

    Args:
      names: asked for.
      figures: those that there are.
      refusal: starts the message, such as "a sweep has no figure".

    Raises:
      InputError: a name that is not among them, with the nearest one.
    """
    figures = list(figures)
    for name in names:
        if name not in figures:
            raise InputError(f"{refusal} {name!r}; nearest is {nearest(name, figures)!r} of {', '.join(figures)}")


def draw_all(figures: Mapping[str, Callable[[], list[pathlib.Path]]], asked: bool) -> list[pathlib.Path]:
    """Draws one figure after the other.

    Args:
      figures: name to what draws it and returns the files that it wrote.
      asked: whether they were asked for by name; else what a folder is not made for is left out with a line.

    Returns:
      All files written.

    Raises:
      InputError: what a figure refuses, with its name and the files written before.
    """
    paths: list[pathlib.Path] = []
    for name, draw_figure in figures.items():
        try:
            paths += draw_figure()
        except InputError as error:
            if isinstance(error, Lacking) and not asked:
                if not error.silent:
                    _log.warning("%s is left out: %s", name, error)
                continue
            done = f"; drawn without it: {', '.join(map(str, paths))}" if paths else ""
            raise InputError(f"{name}: {error}{done}") from error
    return paths


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorates a function that draws: it runs with this style whatever the user's matplotlibrc says."""

    @functools.wraps(draw)
    def inside(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with matplotlib.style.context(["default", RC]):
            return draw(*args, **kwargs)

    return inside


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches that needs neither a display nor pyplot's global state."""
    return Figure(figsize=(width, height), layout="constrained")


@styled
def save(figure: Figure, folder: str | pathlib.Path, name: str) -> list[pathlib.Path]:
    """Writes `name.png` at 300 dpi and `name.pdf`; the same figure gives the same bytes.

    Args:
      figure: what to write.
      folder: where to, made if absent; mostly `workdir / "figures"`.
      name: the file name without its ending.

    Returns:
      The two paths.

    Raises:
      InputError: the folder cannot be written to.
    """
    # Without a date and a version, a figure that did not change leaves no difference in a repository.
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
    contents = {}
    for kind, fields in metadata.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=fields)
        contents[kind] = buffer.getvalue()
    return [write(pathlib.Path(folder) / f"{name}.{kind}", content) for kind, content in contents.items()]


@contextlib.contextmanager
def keep_files() -> Iterator[None]:
    """A context in which `write` leaves files that are there as they are, so that only missing ones are written."""
    token = _keep_files.set(True)
    try:
        yield
    finally:
        _keep_files.reset(token)


def write(path: pathlib.Path, content: bytes) -> pathlib.Path:
    """Writes a file under another name and renames it, so that a viewer never loads half of one.

    Raises:
      InputError: no permission, or no space.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    if _keep_files.get() and path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    return path


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


def band(values: np.ndarray, axis: int = 0) -> tuple[Any, Any]:
    """Ends of the intervals for a band along a line; NaN for fewer than three seeds, whose band would hide the rest.

    Args:
      values: (S, ...) float; NaN is left out.
      axis: the axis of the seeds.
    """
    mean = t_interval(values, axis)
    return np.where(mean.n >= 3, mean.low, np.nan), np.where(mean.n >= 3, mean.high, np.nan)


def ends(values: np.ndarray, axis: int = 0) -> tuple[Any, Any]:
    """The part of an interval that an axis should have room for: its ends, or the seeds' range 1.5 times over.

    Two seeds have an interval thirteen times as wide as the distance between them, which would flatten all else.

    Args:
      values: (S,) or (S, ...) float; NaN is left out.
      axis: the axis of the seeds.
    """
    values = np.asarray(values, np.float64)
    mean, half = t_interval(values, axis), half_width(values, axis)
    good = np.isfinite(values)
    span = np.where(good, values, -np.inf).max(axis, initial=-np.inf) - np.where(good, values, np.inf).min(
        axis, initial=np.inf)
    reach = np.where(mean.n > 1, np.minimum(half, 1.5 * span), 0.0)
    return mean.value - reach, mean.value + reach
