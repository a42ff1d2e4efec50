"""Replaces one training point of a separated network by a test point, many times, and measures what that changes.

python launch/stability.py --config=configs/fig11.py --config.data.dir=DIR --workdir=runs/fig11

The same command continues an interrupted job; a finished one is never overwritten.
"""

import sys

import _path  # noqa: F401
from _figures import draw_figures, run_or_read

from margin_jax import backend, cli
from margin_jax.experiments.stability import stability
from plots.stability.draw import draw

CONFIG, WORKDIR, FIGURES = cli.job_flags("configs/fig11.py")


def main(argv: list[str]) -> None:
    """Replaces, then draws."""
    del argv
    config = cli.read_config(CONFIG)
    backend.prepare(0, config.devices)  # trials share all cores
    summary, refusal = run_or_read(lambda: stability(config, WORKDIR.value), WORKDIR.value)
    if refusal and (not FIGURES.value or summary["status"] != "finished"):
        raise refusal
    if summary["status"] != "finished":
        print(f"nothing to compare: {summary['status']}, {summary['reason']}", file=sys.stderr)
        return
    print(f"{summary['trials']} trials in {WORKDIR.value}, {summary['diverged']} of them diverged")
    if summary["deletions_left_out"]:
        print(f"no table of deletions: {summary['deletions_left_out']}", file=sys.stderr)
    if FIGURES.value:
        draw_figures(lambda: draw(WORKDIR.value), WORKDIR.value, refusal)


if __name__ == "__main__":
    cli.run(main)
