"""Tables of text: as Markdown, as LaTeX, and below the panels of a figure with its rows marked as the lines are."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from margin_jax.statistics.estimates import Estimate
from plots import style
from plots.compress.read import Look

_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
          "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
          "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{MINUS SIGN}": "$-$", "\N{RIGHTWARDS ARROW}": r"$\to$",
          "\N{EN DASH}": "--", "\N{GREEK SMALL LETTER RHO}": r"$\rho$", "[": "{[}", "]": "{]}"}


class Grid(NamedTuple):
    """One table: a caption, the headings, the lines below them (as long as the headings), and notes."""

    caption: str
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    notes: Sequence[str]


def markdown(grids: Sequence[Grid]) -> str:
    """The tables one below the other, each under its caption, its notes as paragraphs below it."""
    parts = []
    for grid in grids:
        rule = ["---", *(["---:"] * (len(grid.headings) - 1))]
        table = "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in (grid.headings, rule, *grid.lines))
        parts += [f"**{_plain(grid.caption)}**", table, *map(_plain, grid.notes)]
    return "\n\n".join(parts) + "\n"


def latex(grids: Sequence[Grid]) -> str:
    """One `table` each, with the rules of booktabs; the first line names the package."""
    parts = ["% In the preamble: \\usepackage{booktabs}"]
    for grid in grids:
        body = [" & ".join(map(escape, line)) + r" \\" for line in grid.lines]
        notes = [rf"\par\smallskip\raggedright\footnotesize {escape(note)}" for note in grid.notes]
        parts.append("\n".join([
            r"\begin{table}", r"\centering", rf"\caption{{{escape(grid.caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(grid.headings) - 1)}}}", r"\toprule",
            " & ".join(map(escape, grid.headings)) + r" \\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}",
            *notes, r"\end{table}"]))
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Plain text for LaTeX. A line that starts with a bracket would be taken for an option of the line before."""
    return "".join(_LATEX.get(character, character) for character in text)


def _plain(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


LINE = 0.128  # inches of one row
_SIZE = 6.5
_CHARACTERS = 130  # that fit into a line of that size


class Column(NamedTuple):
    """A heading, where the column stands from 0 to 1, and its side: "left" or "right"."""

    heading: str
    place: float
    side: str = "right"


class TextRow(NamedTuple):
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


def draw(axes: Axes, columns: Sequence[Column], rows: Sequence[TextRow], notes: Sequence[str] = ()) -> None:
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


def interval_text(mean: Estimate, digits: int = 2, sign: bool = False) -> str:
    """Such as "0.45 ± 0.30", "0.45" from one value, "–" from none; `sign` writes a plus too."""
    if not np.isfinite(mean.value):
        return "–"
    text = style.signed(f"{mean.value:{'+' if sign else ''}.{digits}f}")
    return f"{text} ± {mean.half:.{digits}f}" if np.isfinite(mean.half) else text
