"""Draws the figures and tables of one sweep, made by launch/sweep.py."""

import functools
import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from plots import style
from plots.style import Lacking
from plots.sweeps import audit, fig01, fig02, fig03, fig06, fig12, flatness, overlaps
from plots.sweeps.read import Moment, Sweep, read_sweep, where

_log = logging.getLogger(__name__)


class Options(NamedTuple):
    """What the caller chose: the folder of the data set, "" as the config says, and the networks of figure 6."""

    data_dir: str
    networks: tuple[int, int] | None


Draw = Callable[[Sweep, str, Options], list[pathlib.Path]]  # sweep, name, options -> files


def draw(workdir: str | pathlib.Path, names: Sequence[str] | None = None, data_dir: str = "",
         networks: tuple[int, int] | None = None) -> list[pathlib.Path]:
    """Draws the figures of a sweep that is over into its folder `figures`.

    Args:
      workdir: the work folder.
      names: keys of `FIGURES`; None draws all that the sweep has networks and epochs for, and logs which it has not,
        but for those that compare kinds of networks which are not in it.
      data_dir: where the pictures of "fig06_pictures" are found, if not where the config says.
      networks: numbers of the two that "fig06" and "fig06_pictures" show; None for the first two separated ones that
        differ in nothing but their seed.

    Returns:
      The files written: a PNG and a PDF per figure, for "fig01", "fig02", "fig06", "fig12" and "flatness" also their
      numbers as JSON, for "flatness" a table, for "audit" Markdown. Where networks are compared at several moments, the
      names of all but the main one end in theirs.

    Raises:
      InputError: an unknown name, no sweep in `workdir` or one that goes on, tables that cannot be read, a figure asked
        for that the sweep is not made for, or no data set for the pictures; in this last case every other figure has
        been drawn.
    """
    style.check_names(names or (), FIGURES, "a sweep has no figure")
    sweep, options = read_sweep(workdir), Options(data_dir, networks)
    return style.draw_all({name: functools.partial(draw_one, sweep, name, options)
                           for name, draw_one in FIGURES.items() if names is None or name in names},
                          asked=names is not None)


def _at_moments(draw_one: Callable[[Sweep, Moment, str], list[pathlib.Path]]) -> Draw:
    """Draws at every moment that has networks enough; raises Lacking where none has."""

    def inside(sweep: Sweep, name: str, _: Options) -> list[pathlib.Path]:
        paths: list[pathlib.Path] = []
        lacking: list[Lacking] = []
        for moment in sweep.moments.values():
            try:
                paths += draw_one(sweep, moment, f"{name}{moment.suffix}")
            except Lacking as error:
                lacking.append(error)
        if not paths:
            raise lacking[0] if lacking else Lacking(f"no network of {sweep.workdir} got to a moment at which networks "
                                                     "are compared; see the column status of networks.csv")
        for error in lacking:
            _log.warning("%s is left out at one moment: %s", name, error)
        return paths

    return inside


def _fig02(sweep: Sweep, moment: Moment, name: str) -> list[pathlib.Path]:
    numbers, folder = fig02.compute_numbers(sweep, moment, audit.read_audit(sweep.workdir)), sweep.workdir / "figures"
    paths = style.save(fig02.draw_figure(numbers, where(sweep.config)), folder, name)
    return [*paths, fig02.write_numbers(numbers, folder, name)]


def _forest(sweep: Sweep, moment: Moment, name: str) -> list[pathlib.Path]:
    judged = audit.verdicts(audit.read_audit(sweep.workdir), moment.name, "test_error")
    return style.save(audit.draw_forest(judged, moment.name, where(sweep.config)), sweep.workdir / "figures", name)


def _audit_table(sweep: Sweep, moment: Moment, name: str) -> list[pathlib.Path]:
    text = audit.text(sweep, moment, audit.read_audit(sweep.workdir), where(sweep.config))
    return [style.write(sweep.workdir / "figures" / f"{name}.md", text.encode())]


def _overlaps(sweep: Sweep, moment: Moment, name: str) -> list[pathlib.Path]:
    return style.save(overlaps.draw_sweep(sweep, moment, where(sweep.config)), sweep.workdir / "figures", name)


def _fig06(sweep: Sweep, name: str, options: Options) -> list[pathlib.Path]:
    pair, folder = fig06.read_pair(sweep, options.networks), sweep.workdir / "figures"
    paths = style.save(fig06.draw_figure(pair, where(sweep.config)), folder, name)
    return [*paths, fig06.write_numbers(pair, folder, name)]


def _pictures(sweep: Sweep, name: str, options: Options) -> list[pathlib.Path]:
    pair = fig06.read_pair(sweep, options.networks)
    return style.save(fig06.draw_pair_pictures(pair, options.data_dir), sweep.workdir / "figures", name)


def _fig01(sweep: Sweep, name: str, _: Options) -> list[pathlib.Path]:
    numbers, folder = fig01.compute_numbers(sweep), sweep.workdir / "figures"
    return [*style.save(fig01.draw_figure(numbers, where(sweep.config)), folder, name),
            fig01.write_numbers(numbers, folder, name)]


def _fig12(sweep: Sweep, name: str, _: Options) -> list[pathlib.Path]:
    numbers, folder = fig12.compute_numbers(sweep), sweep.workdir / "figures"
    return [*style.save(fig12.draw_figure(numbers, where(sweep.config)), folder, name),
            fig12.write_numbers(numbers, folder, name)]


def _fig03(sweep: Sweep, name: str, _: Options) -> list[pathlib.Path]:
    return style.save(fig03.draw_sweep(sweep), sweep.workdir / "figures", name)


def _by_class(batch_norm: bool) -> Draw:
    def inside(sweep: Sweep, name: str, _: Options) -> list[pathlib.Path]:
        return style.save(fig03.draw_by_class(sweep, batch_norm, name), sweep.workdir / "figures", name)

    return inside


def _flatness(sweep: Sweep, name: str, _: Options) -> list[pathlib.Path]:
    cells, folder = flatness.compute_cells(sweep), sweep.workdir / "figures"
    return [*style.save(flatness.draw_figure(cells, where(sweep.config)), folder, name),
            *flatness.write_tables(cells, folder, name)]


# The pictures last: they alone need the data set, which may not lie on the machine that draws.
FIGURES: dict[str, Draw] = {
    "fig02": _at_moments(_fig02), "forest": _at_moments(_forest), "audit": _at_moments(_audit_table),
    "overlaps": _at_moments(_overlaps), "fig06": _fig06, "fig01": _fig01, "fig12": _fig12, "fig03": _fig03,
    "fig13": _by_class(True), "fig14": _by_class(False), "flatness": _flatness, "fig06_pictures": _pictures,
}
