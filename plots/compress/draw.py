"""Draws the figures and tables of one compression, made by launch/compress.py, by its mode."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from margin_jax.run_folder import read as records
from margin_jax.run_folder.tables import read_table
from plots import paper, style
from plots.compress import fig04, fig05, table1
from plots.tables import latex, markdown

Draw = Callable[[pathlib.Path, dict[str, Any], str, str], list[pathlib.Path]]  # folder, config, name, data_dir -> files


def names_of(config: dict[str, Any]) -> dict[str, Draw]:
    """The figures that a compression has, by its mode; a DenseNet's immediate removal is the paper's figure 10."""
    mode = config["compress"]["mode"]
    if mode == "immediate":
        return {"fig10" if config["model"]["name"] == "densenet" else "fig05": _immediate}
    # The pictures last: they alone need the data set, which may not lie on the machine that draws.
    return {"fig04": _continuous, "fig04_last20": _last_kept} if mode == "continuous" else {"table1": _grid}


def draw(workdir: str | pathlib.Path, names: Sequence[str] | None = None, data_dir: str = "") -> list[pathlib.Path]:
    """Draws the figures of a compression, finished or not, into its folder `figures`.

    Args:
      workdir: the work folder.
      names: keys of `names_of`; None draws all.
      data_dir: where the pictures of "fig04_last20" are found, if not where the config says.

    Returns:
      The files written: a PNG and a PDF per figure; for "table1" also Markdown, CSV and LaTeX, for the pictures their
      ids as JSON.

    Raises:
      InputError: an unknown name, no compression in `workdir`, nothing recorded yet, tables that cannot be read, or no
        data set for the pictures; in this last case every other figure has been drawn.
    """
    workdir = pathlib.Path(workdir)
    config = records.read_json(workdir, "config.json")["config"]
    figures = names_of(config)
    style.check_names(names or (), figures, f"a compression in mode {config['compress']['mode']!r} has no figure")
    return style.draw_all({name: functools.partial(draw_one, workdir, config, name, data_dir)
                           for name, draw_one in figures.items() if names is None or name in names},
                          asked=names is not None)


def _title(config: dict[str, Any], subject: str) -> str:
    model, data = config["model"]["name"], config["data"]["name"]
    others = "" if data == "cifar10" else "; the paper's numbers are of CIFAR-10"
    return f"{paper.MODELS.get(model, model)} on {data}: {subject}{others}"


def _immediate(workdir: pathlib.Path, config: dict[str, Any], name: str, _: str) -> list[pathlib.Path]:
    # Cells come when a network is over, curves while it trains.
    curves, cells = read_table(workdir, "curves.csv"), read_table(workdir, "cells.csv", required=False)
    drawn = fig05.draw_figure(cells, curves, config["model"]["name"], _title(config, "removal in one step"))
    return style.save(drawn, workdir / "figures", name)


def _continuous(workdir: pathlib.Path, config: dict[str, Any], name: str, _: str) -> list[pathlib.Path]:
    removals, curves = read_table(workdir, "removals.csv"), read_table(workdir, "curves.csv", required=False)
    drawn = fig04.draw_figure(removals, curves, _title(config, "removal in steps"))
    return style.save(drawn, workdir / "figures", name)


def _last_kept(workdir: pathlib.Path, _: dict[str, Any], name: str, data_dir: str) -> list[pathlib.Path]:
    folder = workdir / "figures"
    paths = style.save(fig04.draw_folder(workdir, data_dir), folder, name)
    return [*paths, fig04.write_ids(workdir, folder, name)]


def _grid(workdir: pathlib.Path, config: dict[str, Any], name: str, _: str) -> list[pathlib.Path]:
    cells, model, folder = read_table(workdir, "cells.csv"), config["model"]["name"], workdir / "figures"
    tables = table1.build(cells, model)
    texts = {"md": markdown(tables), "tex": latex(tables),
             "csv": table1.to_csv(table1.summaries(cells), model)}
    paths = style.save(table1.draw_figure(cells, model, _title(config, "drop by the settings")), folder, name)
    return paths + [style.write(folder / f"{name}.{kind}", text.encode()) for kind, text in texts.items()]
