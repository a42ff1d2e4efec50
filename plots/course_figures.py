"""Figures of the paper that follow margins through the training of one run (fig. 7 to 9, 15 to 18)."""

from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure

from plots import fig07, fig08, fig16, final_support, paper, support, support_columns, support_numbers, tracks
from plots.recorded import Recorded


class Drawn(NamedTuple):
    """A figure, and what it shows in numbers: the name of a file, "" for none, and its text."""

    figure: Figure
    file: str = ""
    text: str = ""


Draw = Callable[[Recorded, str, str], Drawn]  # run, name of the figure, folder of the data set
_GROUPS = {"fig16": "largest", "fig17": "middle", "fig18": "smallest"}


def _groups(run: Recorded, name: str, _: str) -> Drawn:
    shown = tracks.gather(run, name)
    epoch = paper.FIG07_SEPARATION if name == "fig07" else paper.FIG15_SEPARATION
    return Drawn(fig07.figure(shown, epoch), f"{name}.json", fig07.numbers(shown, epoch))


def _group(run: Recorded, name: str, _: str) -> Drawn:
    return Drawn(fig16.figure(tracks.gather(run, name), _GROUPS[name], paper.FIG15_SEPARATION))


def _support(run: Recorded, _: str, __: str) -> Drawn:
    found = final_support.gather(run)
    return Drawn(support.figure(found, run.config["data"]["name"]), "support.json", support_numbers.numbers(run, found))


def _columns(run: Recorded, name: str, data_dir: str) -> Drawn:
    found = support_columns.gather(run, name.removesuffix("_ids"))
    drawn = fig08.with_ranks(run, found) if name.endswith("_ids") else fig08.with_pictures(run, found, data_dir)
    return Drawn(drawn, f"{found.name}.json", support_columns.numbers(found))


FIGURES: dict[str, Draw] = {
    "fig07": _groups, "fig15": _groups, "fig16": _group, "fig17": _group, "fig18": _group, "support": _support,
    "fig08_ids": _columns, "fig09_ids": _columns, "fig08": _columns, "fig09": _columns,
}
PICTURES = ("fig08", "fig09")  # these need the data set
