"""Draws the figures of one run folder."""

import pathlib
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from margin_jax.errors import InputError
from margin_jax.nearest import nearest
from plots import curves, errors, gallery, histogram, per_class, style
from plots.recorded import Recorded, read_run

# The gallery last: it alone needs the data set, which may not lie on the machine that draws.
FIGURES: dict[str, Callable[[Recorded, str], Figure]] = {
    "errors": lambda run, _: errors.from_run(run),
    "curves": lambda run, _: curves.from_run(run),
    "per_class": lambda run, _: per_class.from_run(run),
    "histogram": lambda run, _: histogram.from_run(run),
    "gallery": gallery.from_run,
}


def draw(workdir: str | pathlib.Path, names: Sequence[str] | None = None, data_dir: str = "") -> list[pathlib.Path]:
    """Draws figures of a run, finished or not, into its folder `figures`.

    Args:
      workdir: the run folder.
      names: keys of `FIGURES`; None draws all.
      data_dir: where the gallery finds the data set, if not where the run's config says.

    Returns:
      The files written: a PNG and a PDF per figure, and for the gallery the ids in gallery.json.

    Raises:
      InputError: an unknown name, no run in `workdir`, nothing recorded yet, or no data set for the gallery; in this
        last case every other figure has been drawn.
    """
    wanted = list(FIGURES) if names is None else list(names)
    for name in wanted:
        if name not in FIGURES:
            raise InputError(f"no figure is called {name!r}; nearest is {nearest(name, FIGURES)!r} of "
                             f"{', '.join(FIGURES)}")
    run = read_run(workdir)
    folder = run.workdir / "figures"
    paths: list[pathlib.Path] = []
    for name in (name for name in FIGURES if name in wanted):
        try:
            drawn = FIGURES[name](run, data_dir)
        except InputError as error:
            done = f"; drawn without it: {', '.join(map(str, paths))}" if paths else ""
            raise InputError(f"{name}: {error}{done}") from error
        paths += style.save(drawn, folder, name)
    if "gallery" in wanted:
        paths.append(gallery.write_ids(run, folder))
    return paths
