"""How many of their smallest margins every two networks of a sweep share, as matrices."""

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from margin_jax.errors import InputError
from margin_jax.run_folder import read as records
from plots import style
from plots.style import Lacking
from plots.sweeps.read import VARIED, WHEN, Moment, Sweep, varied

FILE = "overlap.npz"
COUNTS = (20, 200)
_DIAGONAL = "#BBBBBB"  # of a network with itself: 100%, which would take the scale
_LABELS = 10  # at most on an axis


@style.styled
def draw_figure(matrices: dict[int, np.ndarray], groups: np.ndarray, examples: int, title: str, by: str) -> Figure:
    """Draws overlaps of all pairs, one matrix for each k.

    Args:
      matrices: (R, R) in [0, 1] by k, networks in one order.
      groups: (R,) float, ascending, what the networks are ordered by; lines stand between its values. NaN allowed.
      examples: N.
      title: above the figure.
      by: what `groups` is, such as "init std"; "" where networks do not differ in any such thing.

    Returns:
      The figure; its first axes hold one image each, in percent.
    """
    fig = style.new_figure(style.DOUBLE, 3.6)
    panels = np.atleast_1d(fig.subplots(1, len(matrices)))
    for axes, (k, matrix) in zip(panels, matrices.items()):
        shown = 100 * np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix.astype(np.float64))
        chance = 100 * k / examples
        top = max(float(np.nanmax(shown)), chance)
        image = axes.imshow(shown, cmap=_colours(), vmin=0, vmax=math.ceil(top / 5) * 5, interpolation="nearest")
        # Inside the axes' own coordinates, so that the bar is as high as the square matrix.
        bar = fig.colorbar(image, cax=axes.inset_axes((1.04, 0, 0.045, 1)), label=f"overlap@{k} (%)")
        bar.outline.set_linewidth(0.4)
        bar.ax.axhline(chance, color=style.VERMILLION, linewidth=1.2, gid="chance")
        axes.set_title(f"{k} smallest of {examples:,} margins\n{means(matrix, groups, by)}\n"
                       f"chance {chance:.1f}% (red mark)", fontsize=7)
        _blocks(axes, groups, by)
    fig.suptitle(title)
    return fig


def _colours() -> Colormap:
    return matplotlib.colormaps["viridis"].with_extremes(bad=_DIAGONAL)


def means(matrix: np.ndarray, groups: np.ndarray, by: str) -> str:
    """Mean overlap over pairs in percent, of pairs with the same and with different groups where there are both."""
    pairs = np.triu_indices(len(matrix), 1)
    values, same = 100 * matrix[pairs], (groups[:, None] == groups[None, :])[pairs]
    if same.all() or not same.any():
        return f"mean {values.mean():.1f}%"
    return f"mean {values[same].mean():.1f}% at the same {by}, else {values[~same].mean():.1f}%"


def _blocks(axes: Axes, groups: np.ndarray, by: str) -> None:
    """Lines between the groups, whose values stand on the axes."""
    axes.xaxis.set_major_locator(NullLocator())
    axes.yaxis.set_major_locator(NullLocator())
    axes.set_xlabel(f"networks, by {by}" if by else "networks, by number")
    if not by:
        return
    starts = np.flatnonzero(np.append(True, groups[1:] != groups[:-1]))
    ends = np.append(starts[1:], groups.size)
    width = 0.6 if starts.size <= 8 else 0.3  # thick lines would hide the cells of many networks
    for start in starts[1:]:
        axes.axvline(start - 0.5, color="white", linewidth=width)
        axes.axhline(start - 0.5, color="white", linewidth=width)
    step = math.ceil(starts.size / _LABELS)
    centres, names = (starts + ends - 1)[::step] / 2, [f"{value:.3g}" for value in groups[starts][::step]]
    axes.set_xticks(centres, names, rotation=90 if len(names) > 6 else 0)
    axes.set_yticks(centres, names)


def draw_sweep(sweep: Sweep, moment: Moment, data: str) -> Figure:
    """Draws the overlaps at a moment.

    Raises:
      Lacking: fewer than two networks, or too few examples.
      InputError: no overlap.npz, or one of other networks.
    """
    path = sweep.workdir / FILE
    if not path.is_file():
        raise InputError(f"{sweep.workdir} has no {FILE}, which a sweep writes when it ends; run its command again")
    stored = records.read_arrays(path)
    numbers = moment.rows["network"].astype(int)
    if not np.array_equal(stored.get(f"{moment.name}_networks"), numbers):
        raise InputError(f"{path} should hold the networks {numbers.tolist()} of moments.csv at {moment.name!r}; the "
                         "files are not of one sweep: run it again in a new folder")
    by = varied(moment.rows)
    groups = moment.rows[by] if by else np.zeros(numbers.size)
    order = np.lexsort((numbers, groups))
    matrices = {k: stored[f"{moment.name}_{k}"][np.ix_(order, order)] for k in COUNTS if f"{moment.name}_{k}" in stored}
    if numbers.size < 2 or not matrices:
        raise Lacking(f"an overlap needs two networks and {COUNTS[0]} training examples, and {numbers.size} network(s) "
                      f"got to {WHEN[moment.name]}; train more")
    open_ = int((moment.rows["train_error"] > 0).sum())
    note = f" ({open_} with training error above 0)" if open_ else ""
    examples = records.read_mask(sweep.member(numbers[0]))["ids"].size
    title = f"Shared smallest margins of {numbers.size} networks on {data}, at {WHEN[moment.name]}{note}"
    return draw_figure(matrices, groups[order], examples, title, VARIED.get(by, ""))
