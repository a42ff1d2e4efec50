"""The final smallest margins, ranked at every earlier epoch in a column below the errors (fig. 8 of 20, 9 of 100)."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from margin_jax.run_folder.read import Recorded
from plots import paper, style
from plots.runs import gallery, read, support, tracks
from plots.runs.tracks import need_course
from plots.style import Lacking

MOST = 30  # columns: more would be smaller than a picture can be
COUNTS = {"fig08": 20, "fig09": 100}
PAPER_LAST = {"fig08": paper.FIG08_LAST, "fig09": paper.FIG09_LAST}


class Columns(NamedTuple):
    """Where the final support set stood at each recorded epoch.

    Attributes:
      name: "fig08" or "fig09".
      epochs: (E,) of all records, ascending.
      rows: (c,) which of them are drawn.
      ids: (k,) of the final smallest margins, from the smallest on; ties by id.
      places: (E, k) at [e, r] which of `ids` had rank r at epoch e, as an index into them; -1 where it was another
        example.
      separation: the epoch of data separation, or None.
      examples: N.
    """

    name: str
    epochs: np.ndarray
    rows: np.ndarray
    ids: np.ndarray
    places: np.ndarray
    separation: int | None
    examples: int

    @property
    def percent_present(self) -> np.ndarray:
        """Share (E,) in percent of the final support set among as many smallest margins."""
        return 100 * (self.places >= 0).mean(axis=1)


def compute_columns(run: Recorded, name: str) -> Columns:
    """Ranks every record of a run, one at a time.

    Args:
      run: the run.
      name: a key of `COUNTS`.

    Raises:
      Lacking: as of `need_course`, or fewer finite margins at the end than wanted.
    """
    need_course(run, f"figure {int(name[3:])}")
    stored, k = run.margins, COUNTS[name]
    final = read.ranked_rows(np.asarray(stored.margins[-1]), stored.ids)[:k]
    if final.size < k:
        raise Lacking(f"figure {int(name[3:])} shows the {k} smallest margins of the last recorded epoch, of which "
                      f"{final.size} are finite")
    final_rank = np.full(stored.ids.size, -1)
    final_rank[final] = np.arange(k)
    places = np.full((stored.epochs.size, k), -1)
    for row, values in enumerate(stored.margins):
        smallest = read.ranked_rows(np.asarray(values), stored.ids)[:k]
        places[row, :smallest.size] = final_rank[smallest]
    return Columns(name, stored.epochs, read.choose_epochs(stored.epochs, run.separation, MOST), stored.ids[final],
                   places, run.separation, stored.ids.size)


def at_separation(course: Columns) -> float | None:
    """Share in percent present at separation; None for a run that did not separate."""
    if course.separation is None:
        return None
    return float(course.percent_present[support.row_at(course.epochs, course.separation)])


def numbers_json(course: Columns) -> str:
    """The final ids, those present at each epoch by rank, and the share at separation beside the paper's, as JSON."""
    k, share = course.ids.size, at_separation(course)
    ours = None if share is None else support.share_interval(share, k)
    wanted = paper.SUPPORT_PRESENT[course.name][k]
    verdict = paper.OPEN if ours is None else paper.inside(wanted, ours)
    content: dict[str, Any] = {
        "examples": course.examples, "final_epoch": int(course.epochs[-1]), "final_ids": course.ids.tolist(),
        "separation_epoch": course.separation, "percent_present_at_separation": share,
        "wilson_interval": None if ours is None else [ours.low, ours.high],
        "chance_percent": support.chance_row(k, course.examples),
        "paper": {"percent_present_at_separation": wanted, "final_epoch": PAPER_LAST[course.name]}, "verdict": verdict,
        "epochs": course.epochs.tolist(), "percent_present": course.percent_present.tolist(),
        "ids_present_by_rank": [course.ids[row[row >= 0]].tolist() for row in course.places],
    }
    return f"{json.dumps(content, indent=2)}\n"


# Inches. Every size is known beforehand: the errors must lie right above the columns, which have to be square.
_LEFT, _BELOW, _GAP, _ERRORS, _ABOVE = 0.55, 0.42, 0.1, 0.9, 0.66
_TALLEST, _CELL = 7.2, 0.2  # pictures above one another, and one at most
_FLAT, _ROW, _WIDE = 3.4, 0.12, 2.05  # the same of ranks, which need not be square, and all columns of them


@style.styled
def draw_figure(course: Columns, metrics: Mapping[str, np.ndarray], tiles: np.ndarray, ranked: bool = False) -> Figure:
    """Draws a column of tiles for each chosen epoch, the smallest margin on top, and the errors above.

    Args:
      course: which examples stand where.
      metrics: columns epoch, train_error, test_error, each (E',).
      tiles: (k, h, w, 3) float in [0, 1], what stands for each of the final examples.
      ranked: whether tiles are colours of the final rank, which a colour bar explains.

    Returns:
      The figure; its first axes hold one image, of columns of k tiles, white where an example is none of the final
      ones. Its second hold the errors, with gids "train" and "test", at places between the columns' epochs.
    """
    columns, k = course.rows.size, course.ids.size
    high = k * (min(_ROW, _FLAT / k) if ranked else min(_CELL, _TALLEST / k))
    wide = _WIDE if ranked else columns * high / k
    fig, axes, top = _panels(wide, high, 0.7 if ranked else 0.1)
    fig.suptitle(_title(course), fontsize=7, y=1 - 0.05 / fig.get_figheight(), va="top")
    # A tile is one unit wide and high; rank 1 stands at y = 1, the first column at x = 0.
    axes.imshow(_mosaic(course, tiles), extent=(-0.5, columns - 0.5, k + 0.5, 0.5),
                aspect="auto" if ranked else "equal", interpolation="nearest" if ranked else "antialiased")
    shown = course.epochs[course.rows]
    ticks = np.linspace(0, columns - 1, min(columns, 3 + int(wide / 0.6))).round().astype(int)
    axes.set_xticks(ticks, [str(epoch) for epoch in shown[ticks]])
    axes.set_yticks([1, *range(k // 4, k + 1, k // 4)])
    axes.set_ylabel("rank of the margin at that epoch")
    some = "" if columns == course.epochs.size else f", {columns} of {course.epochs.size} recorded"
    axes.set_xlabel(f"epoch{some}")
    _errors(top, shown, metrics)
    _separation(axes, top, course)
    top.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, borderpad=0)
    if ranked:
        place = axes.inset_axes((1.04, 0, 0.05, 1))
        bar = fig.colorbar(ScalarMappable(Normalize(1, k), style.EPOCHS), cax=place, label="final rank")
        bar.outline.set_linewidth(0.4)
        bar.ax.invert_yaxis()
        bar.set_ticks([1, *range(k // 4, k + 1, k // 4)])
    return fig


def _panels(wide: float, high: float, right: float) -> tuple[Figure, Axes, Axes]:
    """A figure with axes of a width and height in inches, others above them, and room to the right."""
    width = max(style.SINGLE, _LEFT + wide + right)
    height = _BELOW + high + _GAP + _ERRORS + _ABOVE
    fig = style.new_figure(width, height)
    fig.set_layout_engine("none")
    left = _LEFT + (width - _LEFT - wide - right) / 2
    low, up = (fig.add_axes((left / width, at / height, wide / width, size / height)) for at, size in (
        (_BELOW, high), (_BELOW + high + _GAP, _ERRORS)))
    return fig, low, up


def _title(course: Columns) -> str:
    k, share, name = course.ids.size, at_separation(course), course.name
    wanted, last = paper.SUPPORT_PRESENT[name][k], PAPER_LAST[name]
    ours = "not separated" if share is None else f"at separation {share:.0f}% of them among the {k} smallest"
    return (f"the {k} smallest margins of {course.examples:,} at epoch {course.epochs[-1]};\n{ours}\n"
            f"(paper, CIFAR-10, ranked at epoch {last}: {wanted}%)")


def _mosaic(course: Columns, tiles: np.ndarray) -> np.ndarray:
    """The tiles of all columns (k * h, c * w, 3), white where there is none."""
    white = np.ones((1, *tiles.shape[1:]))
    placed = np.concatenate((tiles, white))[course.places[course.rows]]  # -1 takes the white one
    columns, k, high, wide, _ = placed.shape
    return placed.transpose(1, 2, 0, 3, 4).reshape(k * high, columns * wide, 3)


def _errors(axes: Axes, shown: np.ndarray, metrics: Mapping[str, np.ndarray]) -> None:
    inside = (metrics["epoch"] >= shown[0]) & (metrics["epoch"] <= shown[-1])
    place = np.interp(metrics["epoch"][inside], shown, np.arange(shown.size))
    for name, colour in (("train", style.BLUE), ("test", style.VERMILLION)):
        axes.plot(place, metrics[f"{name}_error"][inside], color=colour, label=name, gid=name)
    axes.set_xlim(-0.5, shown.size - 0.5)
    axes.set_xticks([])
    axes.set_ylim(bottom=-0.03 * axes.get_ylim()[1])
    axes.set_ylabel("error (%)")


def _separation(axes: Axes, top: Axes, course: Columns) -> None:
    shown = course.epochs[course.rows]
    if course.separation is None or course.separation not in shown:
        return
    place = int(np.searchsorted(shown, course.separation))
    top.axvline(place, color=style.GREEN, linestyle=tracks.DASH, linewidth=0.9, gid="separation",
                label=f"separation, {course.separation}")
    axes.add_patch(Rectangle((place - 0.5, 0.5), 1, course.ids.size, fill=False, edgecolor=style.GREEN, linewidth=1.3,
                             clip_on=False, gid="separation"))


def draw_with_pictures(run: Recorded, course: Columns, data_dir: str = "") -> Figure:
    """Draws the columns of pictures; raises InputError where the data are not found or are others."""
    images, value_range = gallery.read_pictures(run, course.ids, data_dir)
    unit = gallery.to_unit(images, value_range)
    colour = unit if unit.ndim == 4 else np.repeat(unit[..., None], 3, axis=-1)
    border = ((0, 0), *(2 * ((0, max(colour.shape[1] // 16, 1)),)), (0, 0))  # white, between pictures
    return draw_figure(course, run.metrics, np.pad(colour, border, constant_values=1.0))


def draw_with_ranks(run: Recorded, course: Columns) -> Figure:
    """Draws where the final examples are without their pictures, which may not be passed on, coloured by final rank."""
    colours = matplotlib.colors.to_rgba_array(style.EPOCHS(np.linspace(0, 1, course.ids.size)))[:, :3]
    return draw_figure(course, run.metrics, colours[:, None, None, :], ranked=True)
