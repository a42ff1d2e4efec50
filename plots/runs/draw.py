"""Draws the figures of one run folder; of the paper those that follow margins through training (fig. 7-9, 15-18)."""

import functools
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from margin_jax.run_folder.read import Recorded, read_run
from plots import paper, style
from plots.runs import collapse, curves, errors, fig08, gallery, support, tracks


class Drawn(NamedTuple):
    """A figure, and what it shows in numbers: the name of a file, "" for none, and its text."""

    figure: Figure
    file: str = ""
    text: str = ""


Draw = Callable[[Recorded, str, str], Drawn]  # run, name of the figure, folder of the data set
_GROUPS = {"fig16": "largest", "fig17": "middle", "fig18": "smallest"}


def _groups(run: Recorded, name: str, _: str) -> Drawn:
    shown = tracks.compute_tracks(run, name)
    epoch = paper.FIG07_SEPARATION if name == "fig07" else paper.FIG15_SEPARATION
    return Drawn(tracks.draw_groups(shown, epoch), f"{name}.json", tracks.numbers_json(shown, epoch))


def _group(run: Recorded, name: str, _: str) -> Drawn:
    return Drawn(tracks.draw_group(tracks.compute_tracks(run, name), _GROUPS[name], paper.FIG15_SEPARATION))


def _support(run: Recorded, _: str, __: str) -> Drawn:
    prediction = support.compute_prediction(run)
    figure = support.draw_figure(prediction, run.config["data"]["name"])
    return Drawn(figure, "support.json", support.numbers_json(run, prediction))


def _columns(run: Recorded, name: str, data_dir: str) -> Drawn:
    columns = fig08.compute_columns(run, name.removesuffix("_ids"))
    ranked = name.endswith("_ids")
    figure = fig08.draw_with_ranks(run, columns) if ranked else fig08.draw_with_pictures(run, columns, data_dir)
    return Drawn(figure, f"{columns.name}.json", fig08.numbers_json(columns))


COURSE_FIGURES: dict[str, Draw] = {
    "fig07": _groups, "fig15": _groups, "fig16": _group, "fig17": _group, "fig18": _group, "support": _support,
    "fig08_ids": _columns, "fig09_ids": _columns, "fig08": _columns, "fig09": _columns,
}
COURSE_PICTURES = ("fig08", "fig09")  # these need the data set


FIGURES: dict[str, Callable[[Recorded, str], Figure]] = {
    "errors": lambda run, _: errors.draw_run(run),
    "curves": lambda run, _: curves.draw_run(run),
    "per_class": lambda run, _: curves.draw_run_per_class(run),
    "histogram": lambda run, _: curves.draw_run_histogram(run),
    "collapse": lambda run, _: collapse.draw_run(run),
    "gallery": gallery.draw_run,
}
TABLES = {"collapse": "collapse.csv"}  # what not every run records: drawn unasked where it is there

EXTRA = COURSE_FIGURES  # drawn where the caller or the run's config names them
PICTURES = ("gallery", *COURSE_PICTURES)  # last: they need the data set, which may not lie where one draws


def check(names: Iterable[str]) -> None:
    """Checks names of figures; raises InputError at one that a run does not have."""
    style.check_names(names, [*FIGURES, *EXTRA], "no figure is called")


def draw(workdir: str | pathlib.Path, names: Sequence[str] | None = None, data_dir: str = "") -> list[pathlib.Path]:
    """Draws figures of a run, finished or not, into its folder `figures`.

    Args:
      workdir: the run folder.
      names: keys of `FIGURES` and `EXTRA`; None draws all of `FIGURES` that the run has recorded what they need for,
        and those of `EXTRA` that its config names, and logs which of these it is not made for.
      data_dir: where pictures find the data set, if not where the run's config says.

    Returns:
      The files written: a PNG and a PDF per figure, and what many of them show in numbers as JSON.

    Raises:
      InputError: an unknown name, no run in `workdir`, nothing recorded yet, a figure asked for that the run is not
        made for, or no data set for pictures; in this last case every other figure has been drawn.
    """
    check(names or ())
    run = read_run(workdir)
    wanted = _unasked(run) if names is None else list(names)
    figures = [name for name in sorted([*FIGURES, *EXTRA], key=lambda name: name in PICTURES) if name in wanted]
    return style.draw_all({name: functools.partial(_draw_one, run, name, data_dir) for name in figures},
                          asked=names is not None)


def _unasked(run: Recorded) -> list[str]:
    recorded = [name for name in FIGURES if name not in TABLES or (run.workdir / TABLES[name]).is_file()]
    if run.config["data"]["name"] == "recorded":  # of margin_jax.Recorder, which knows no pictures
        recorded.remove("gallery")
    return recorded + list(run.config.get("figures", ()))


def _draw_one(run: Recorded, name: str, data_dir: str) -> list[pathlib.Path]:
    folder = run.workdir / "figures"
    if name in EXTRA:
        drawn = EXTRA[name](run, name, data_dir)
        numbers = [style.write(folder / drawn.file, drawn.text.encode())] if drawn.file else []
        return style.save(drawn.figure, folder, name) + numbers
    paths = style.save(FIGURES[name](run, data_dir), folder, name)
    write = {"collapse": collapse.write_numbers, "gallery": gallery.write_ids}.get(name)
    return paths + ([write(run, folder)] if write else [])
