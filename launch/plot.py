"""Draws the figures of a run folder: python launch/plot.py --workdir=DIR [--figures=curves,histogram]."""

import pathlib
import sys

from absl import flags

# A script sees its own folder only; `plots` is a folder of the project beside it and is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from margin_jax import cli, records  # noqa: E402
from margin_jax.errors import InputError  # noqa: E402
from plots import compress_figures, run_figures, stability_figures, sweep_figures  # noqa: E402

# By the job that config.json names; a training run names none.
DRAW = {"train": run_figures.draw, "compress": compress_figures.draw, "sweep": sweep_figures.draw,
        "stability": stability_figures.draw}

_WORKDIR = flags.DEFINE_string("workdir", None, "The folder of a run, finished or not.", required=True)
_FIGURES = flags.DEFINE_list(
    "figures", None, f"Which to draw; default all. Of a training run: {', '.join(run_figures.FIGURES)}, and "
    f"where its config or this names them {', '.join(run_figures.EXTRA)}; of a "
    "compression, by its mode: fig04, fig04_last20, fig05, fig10, table1; of a sweep: "
    f"{', '.join(sweep_figures.FIGURES)}; of a replace-one experiment: {', '.join(stability_figures.FIGURES)}.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where pictures are found, if not where the config says.")
_NETWORKS = flags.DEFINE_list("networks", None, "Numbers of the two networks that fig06 of a sweep shows; default the "
                              "first two separated ones that differ in nothing but their seed.")


def main(_: list[str]) -> None:
    """Draws the figures and prints their paths, one per line."""
    job = records.read_json(_WORKDIR.value, "config.json").get("job", "train")
    if job not in DRAW:
        raise InputError(f"{_WORKDIR.value} holds a job {job!r}; expected one of {', '.join(DRAW)}")
    chosen = {"networks": _pair(_NETWORKS.value, job)} if _NETWORKS.value else {}
    for path in DRAW[job](_WORKDIR.value, _FIGURES.value or None, _DATA_DIR.value, **chosen):
        print(path)


def _pair(words: list[str], job: str) -> tuple[int, int]:
    if job != "sweep" or len(words) != 2 or not all(word.strip().isdecimal() for word in words):
        raise InputError(f"--networks takes the numbers of two networks of a sweep, such as 0,1; got {','.join(words)} "
                         f"for a job {job!r}")
    return int(words[0]), int(words[1])


if __name__ == "__main__":
    cli.run(main)
