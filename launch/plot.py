"""Draws the figures and tables of a work folder, of any job, finished or not.

python launch/plot.py --workdir=DIR                             all figures of its job
python launch/plot.py --workdir=DIR --figures=curves,histogram  some of them
"""

import pathlib

import _path  # noqa: F401
from absl import flags

from margin_jax import cli
from margin_jax.errors import InputError
from margin_jax.run_folder import read as records
from plots.compress import draw as draw_compress
from plots.runs import draw as draw_runs
from plots.stability import draw as draw_stability
from plots.sweeps import draw as draw_sweeps

# By the job that config.json names; a training run names none.
DRAW = {"train": draw_runs.draw, "recorder": draw_runs.draw, "compress": draw_compress.draw, "sweep": draw_sweeps.draw,
        "stability": draw_stability.draw}

_WORKDIR = cli.define_folder("workdir", None, "The folder of a run, finished or not.", required=True)
_FIGURES = flags.DEFINE_list(
    "figures", None, f"Which to draw; default all. Of a training run: {', '.join(draw_runs.FIGURES)}, and "
    f"where its config or this names them {', '.join(draw_runs.EXTRA)}; of a "
    "compression, by its mode: fig04, fig04_last20, fig05, fig10, table1; of a sweep: "
    f"{', '.join(draw_sweeps.FIGURES)}; of a replace-one experiment: {', '.join(draw_stability.FIGURES)}.")
_DATA_DIR = cli.define_folder("data_dir", "", "Where pictures are found, if not where the config says.")
_NETWORKS = flags.DEFINE_list("networks", None, "Numbers of the two networks that fig06 of a sweep shows; default the "
                              "first two separated ones that differ in nothing but their seed.")


def main(_: list[str]) -> None:
    """Draws the figures and prints their paths, one per line."""
    _refuse_results(pathlib.Path(_WORKDIR.value))
    job = records.read_json(_WORKDIR.value, "config.json").get("job", "train")
    if job not in DRAW:
        raise InputError(f"{_WORKDIR.value} holds a job {job!r}; expected one of {', '.join(DRAW)}")
    chosen = {"networks": _pair(_NETWORKS.value, job)} if _NETWORKS.value else {}
    for path in DRAW[job](_WORKDIR.value, _FIGURES.value or None, _DATA_DIR.value, **chosen):
        print(path)


# What a run folder has beside its tables, and what is too large to be kept with results.
_NEEDS = {"train": ("mask.npz", "margins.npz"), "sweep": ("networks",)}


def _refuse_results(workdir: pathlib.Path) -> None:
    """Says of a folder that keeps the results of a run, or several of them, what figures need and it lacks."""
    if not (workdir / "config.json").is_file():
        inner = sorted(path.parent.relative_to(workdir).as_posix() for path in workdir.glob("*/config.json"))
        if inner:
            raise InputError(f"{workdir} holds several runs; give one of them: {', '.join(inner)}")
        if (workdir / "figures").is_dir():
            raise InputError(f"{workdir} is a folder of results, of which figures and tables alone were kept; it lacks "
                             "config.json and the records of its run. Run the experiment to draw anew")
        return
    job = records.read_json(workdir, "config.json").get("job", "train")
    lacking = [name for name in _NEEDS.get(job, ()) if not (workdir / name).exists()]
    if job == "sweep" and _FIGURES.value:  # some figures need its tables alone
        return
    if lacking and (workdir / "summary.json").is_file():
        raise InputError(f"{workdir} is a folder of results, of which tables and figures were kept: it lacks "
                         f"{' and '.join(lacking)}. Its figures are in {workdir / 'figures'}; to draw anew run "
                         f"launch/{job}.py with its config in another --workdir")


def _pair(words: list[str], job: str) -> tuple[int, int]:
    if job != "sweep" or len(words) != 2 or not all(word.strip().isdecimal() for word in words):
        raise InputError(f"--networks takes the numbers of two networks of a sweep, such as 0,1; got {','.join(words)} "
                         f"for a job {job!r}")
    return int(words[0]), int(words[1])


if __name__ == "__main__":
    cli.run(main)
