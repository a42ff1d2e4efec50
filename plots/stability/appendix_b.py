"""Appendix B as tables in Markdown: what is left of equations (4) and (5) when examples are deleted."""

import pathlib

import numpy as np

from margin_jax.run_folder import tables as columns
from margin_jax.run_folder.tables import Table
from plots import paper, style
from plots.tables import Grid, markdown

_CHOICES = {"none": "none", "smallest": "smallest margins", "largest": "largest margins", "random": "random"}
_ROUNDING = 1e-9  # relative: float64 leaves about 1e-14
_CLAIMS = {"interpolating": "an interpolating minimum of the square loss stays one whatever is deleted",
           "not interpolating": "one that does not interpolate is left by every deletion",
           "smallest": "in equation (5) deleting the smallest margins changes more than deleting others"}
_LEGEND = ("Random: median [least, most] over {draws} draws, since one that holds the smallest margin is unlike the "
           "others; the other choices have one set of each size.")


def write_tables(workdir: pathlib.Path, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes the tables of the deletion.csv in a work folder as `name.md`; raises InputError without one."""
    return style.write(folder / f"{name}.md", text(columns.read_table(workdir, "deletion.csv")).encode())


def text(table: Table) -> str:
    """The tables of one network.

    Args:
      table: columns of deletion.csv, each (R,).
    """
    regression, network = columns.rows(table, equation=4), columns.rows(table, equation=5)
    grids = [_regression(regression)] if regression["equation"].size else []
    if network["equation"].size:
        grids += _classification(network)
    claims = "\n".join(f"- {claim}: {verdict}." for claim, verdict in verdicts(table).items())
    return ("# What deleting examples leaves of a minimum (appendix B)\n\n"
            f"Claims of the paper:\n\n{claims}\n\n{markdown(grids)}")


def verdicts(table: Table) -> dict[str, str]:
    """What the tables say of each claim of the appendix that they are about.

    The changes of the largest and of random margins are compared with those of the smallest, layer by layer and count
    by count. That of the smallest has to be above every draw: above five of them it is by chance in 3% of cases at
    most, were it no greater than the median.
    """
    judged = {}
    deleted = {name: columns.rows(table, equation=4, minimum=name) for name in ("interpolating", "not interpolating")}
    for name, rows in deleted.items():
        values = rows["relative"][rows["removed"] > 0]
        if values.size:
            holds = np.all((values < _ROUNDING) == (name == "interpolating"))
            judged[_CLAIMS[name]] = paper.REPRODUCED if holds else paper.NOT
    network = columns.rows(table, equation=5)
    cells = {(layer, removed) for layer, removed in zip(network["layer"], network["removed"]) if removed}
    if cells:
        more = [_smallest_moves_more(columns.rows(network, layer=layer, removed=removed)) for layer, removed in cells]
        judged[_CLAIMS["smallest"]] = (paper.REPRODUCED if all(more) else paper.NOT if not any(more) else
                                       f"{paper.OPEN}, in {sum(more)} of {len(more)} pairs of layer and number")
    return judged


def _smallest_moves_more(rows: Table) -> bool:
    changes = {choice: columns.rows(rows, choice=choice)["change"] for choice in _CHOICES}
    return bool(np.all(changes["smallest"].max() >= np.concatenate([changes["largest"], changes["random"]])))


def _lines(table: Table) -> list[tuple[str, int]]:
    """Choice and number deleted of each line, the undeleted one first."""
    pairs = set(zip(table["choice"].tolist(), table["removed"].astype(int).tolist()))
    order = list(_CHOICES)
    return sorted(pairs, key=lambda pair: (pair[1], order.index(pair[0])))


def _cell(table: Table, column: str) -> str:
    """Three digits of one number, or the median and the ends of several; "–" where there is none."""
    values = table[column][np.isfinite(table[column])]
    if not values.size:
        return "–"
    middle, *ends = (f"{value:.3g}" for value in (np.median(values), values.min(), values.max()))
    return style.signed(f"{middle} [{', '.join(ends)}]" if values.size > 1 else middle)


def _legend(table: Table) -> list[str]:
    draws = np.unique(columns.rows(table, choice="random")["draw"]).size
    return [_LEGEND.format(draws=draws)] if draws > 1 else []


def _regression(table: Table) -> Grid:
    lines = []
    for minimum in dict.fromkeys(table["minimum"].tolist()):
        of_minimum = columns.rows(table, minimum=minimum)
        for choice, removed in _lines(of_minimum):
            chosen = columns.rows(of_minimum, choice=choice, removed=removed)
            lines.append([minimum, _CHOICES[choice], f"{removed:,}", f"{int(chosen['examples'][0]):,}",
                          *(_cell(chosen, column) for column in ("residual", "relative", "change", "weight"))])
    notes = ["Least squares of the one-hot labels on the network's features before the last layer. Gradient: norm of "
             "that of the mean squared error at the minimum found before the deletion. Relative: over what the terms "
             "of f = 0 would add up to; about 1e-14 is rounding. Change: norm of the gradient's change over the same "
             "before the deletion. Share: of the deleted examples in the norms of the terms.",
             "The paper: zero at an interpolating minimum whatever is deleted, not zero at another one."]
    return Grid("Equation (4), regression: the gradient after a deletion",
                ["minimum", "deleted", "number", "left", "gradient", "relative", "change", "share"], lines,
                notes + _legend(table))


def _classification(table: Table) -> list[Grid]:
    layers = list(dict.fromkeys(table["layer"].tolist()))
    minimum, size = table["minimum"][0], int(table["examples"].max())
    captions = {
        "change": "how far the left side moves, over the size of its terms before the deletion",
        "weight": "share that the deleted examples had of the size of all terms",
        "relative": "the left side over the size of its terms (0: they cancel, 1: all agree)",
    }
    grids = []
    for column, caption in captions.items():
        lines = [[f"{_CHOICES[choice]}, {removed:,}" if removed else "none",
                  *(_cell(columns.rows(table, choice=choice, removed=removed, layer=layer), column)
                    for layer in layers)]
                 for choice, removed in _lines(table) if removed or column == "relative"]
        grids.append(Grid(f"Equation (5), classification: {caption}; {size:,} examples, {minimum}",
                          ["deleted", *(f"`{layer}`" for layer in layers)], lines, []))
    notes = ["Terms are weighted with exp(\N{MINUS SIGN}margin) over its sum over the examples left. The paper: "
             "deleting points of small margin can change the left side much, deleting others hardly."]
    return [*grids[:-1], grids[-1]._replace(notes=notes + _legend(table))]
