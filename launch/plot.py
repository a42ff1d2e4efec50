"""Draws the figures of a run folder: python launch/plot.py --workdir=DIR [--figures=curves,histogram]."""

import pathlib
import sys

from absl import flags

# A script sees its own folder only; `plots` is a folder of the project beside it and is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from margin_jax import cli  # noqa: E402
from plots import run_figures  # noqa: E402

_WORKDIR = flags.DEFINE_string("workdir", None, "The folder of a run, finished or not.", required=True)
_FIGURES = flags.DEFINE_list("figures", None, f"Which to draw, of {', '.join(run_figures.FIGURES)}; default all.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where the gallery finds the data set, if not where the config says.")


def main(_: list[str]) -> None:
    """Draws the figures and prints their paths, one per line."""
    for path in run_figures.draw(_WORKDIR.value, _FIGURES.value or None, _DATA_DIR.value):
        print(path)


if __name__ == "__main__":
    cli.run(main)
