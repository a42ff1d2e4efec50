"""What the launch scripts of jobs share about figures: a run that is over gets those that a killed process left out."""

import pathlib
from collections.abc import Callable
from typing import Any

from margin_jax.errors import OverError
from margin_jax.run_folder import read
from plots import style


def run_or_read(job: Callable[[], dict[str, Any] | None],
                workdir: str) -> tuple[dict[str, Any] | None, OverError | None]:
    """Runs a job; of one that is over, its summary.json and the refusal to run it again."""
    try:
        return job(), None
    except OverError as refusal:
        return read.read_json(workdir, "summary.json"), refusal


def draw_figures(draw: Callable[[], list[pathlib.Path]], workdir: str, refusal: OverError | None = None) -> None:
    """Draws and prints the paths; of a run that was over, only what is missing.

    Args:
      draw: writes all figures of the run and returns their paths.
      workdir: the work folder.
      refusal: of `run_or_read`; raised where no figure is missing.
    """
    if refusal is None:
        for path in draw():
            print(path)
        return
    drawn = set((pathlib.Path(workdir) / "figures").glob("*"))
    with style.keep_files():
        missing = [path for path in draw() if path not in drawn]
    if not missing:
        raise refusal
    print(f"{workdir} holds a run that is over; these of its figures were missing and are drawn:")
    for path in missing:
        print(path)
