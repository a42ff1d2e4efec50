"""A table of text below the panels of a figure, its rows marked as the lines above are."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

from plots import style
from plots.rules import Look

LINE = 0.128  # inches of one row
_SIZE = 6.5
_CHARACTERS = 130  # that fit into a line of that size


class Column(NamedTuple):
    """A heading, where the column stands from 0 to 1, and its side: "left" or "right"."""

    heading: str
    place: float
    side: str = "right"


class Row(NamedTuple):
    """The text of each column, and the marker before the first; no marker without a look."""

    texts: Sequence[str]
    look: Look | None = None
    filled: bool = True


def wrapped(notes: Sequence[str]) -> list[str]:
    """Notes in lines as wide as the table in two columns of a paper."""
    return [line for note in notes for line in textwrap.wrap(note, _CHARACTERS)]


def height(rows: int, notes: int) -> float:
    """Inches that a table takes, heading included."""
    return LINE * (rows + notes + 1.6)


def draw(axes: Axes, columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str] = ()) -> None:
    """Draws the table into empty axes of `height(len(rows), len(notes))` inches; notes stand below it."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(len(rows) + len(notes) + 1.0, -0.6))
    for column in columns:
        axes.text(column.place, 0, column.heading, ha=column.side, va="center", fontsize=_SIZE, fontweight="bold")
    axes.plot((0, 1), (0.55, 0.55), color="black", linewidth=0.5, clip_on=False)
    for line, row in enumerate(rows, 1):
        if row.look is not None:
            axes.plot(0.008, line, marker=row.look.marker, color=row.look.colour, markersize=3.2, clip_on=False,
                      markerfacecolor=row.look.colour if row.filled else "white")
        for column, text in zip(columns, row.texts, strict=True):
            axes.text(column.place, line, text, ha=column.side, va="center", fontsize=_SIZE, parse_math=False)
    for line, note in enumerate(notes, len(rows) + 1):
        axes.text(0, line + 0.2, note, ha="left", va="center", fontsize=_SIZE, color=style.GREY, parse_math=False)
    for text in axes.texts:
        text.set_in_layout(False)  # their places are given; the layout would make room for them by narrowing the axes
