"""Draws the figures and tables of one replace-one experiment, made by launch/stability.py."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from margin_jax.run_folder import read as records
from margin_jax.run_folder.tables import read_table
from plots import style
from plots.stability import appendix_b, fig11
from plots.style import Lacking
from plots.sweeps.read import where


def draw(workdir: str | pathlib.Path, names: Sequence[str] | None = None, data_dir: str = "") -> list[pathlib.Path]:
    """Draws the figures of a replace-one experiment, finished or not, into its folder `figures`.

    Args:
      workdir: the work folder.
      names: keys of `FIGURES`; None draws those whose tables are there, and logs which are not.
      data_dir: not used; no figure shows pictures.

    Returns:
      The files written: of "fig11" a PNG, a PDF and its numbers as JSON, of "appendix_b" Markdown.

    Raises:
      InputError: an unknown name, no such experiment in `workdir`, or a table that is absent or cannot be read.
    """
    del data_dir
    style.check_names(names or (), FIGURES, "a replace-one experiment has no figure")
    workdir, asked = pathlib.Path(workdir), names is not None
    config = records.read_json(workdir, "config.json")["config"]

    def draw_one(name: str) -> list[pathlib.Path]:
        table, draw_figure = FIGURES[name]
        if not asked and not (workdir / table).is_file():
            raise Lacking(f"{workdir} has no {table}")
        return draw_figure(workdir, config, name)

    return style.draw_all({name: functools.partial(draw_one, name) for name in FIGURES
                           if names is None or name in names}, asked)


def _fig11(workdir: pathlib.Path, config: dict[str, Any], name: str) -> list[pathlib.Path]:
    table, path = read_table(workdir, "trials.csv"), workdir / "continued.json"
    continued = records.read_json(workdir, path.name) if path.is_file() else {}
    numbers, folder = fig11.compute_numbers(table, continued), workdir / "figures"
    paths = style.save(fig11.draw_figure(numbers, config["stability"]["epochs"], where(config)), folder, name)
    return [*paths, fig11.write_numbers(numbers, folder, name)]


def _appendix_b(workdir: pathlib.Path, _: dict[str, Any], name: str) -> list[pathlib.Path]:
    return [appendix_b.write_tables(workdir, workdir / "figures", name)]


# The table that each needs, and what draws it.
FIGURES: dict[str, tuple[str, Callable[[pathlib.Path, dict[str, Any], str], list[pathlib.Path]]]] = {
    "fig11": ("trials.csv", _fig11), "appendix_b": ("deletion.csv", _appendix_b),
}
