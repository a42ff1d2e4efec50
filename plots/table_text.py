"""Tables of text as Markdown and as LaTeX."""

from collections.abc import Sequence
from typing import NamedTuple

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
