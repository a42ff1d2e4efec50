"""Keeps a few training examples of a separated network and goes on, beside the controls that this needs.

python launch/compress.py --config=configs/fig05.py --config.data.dir=DIR --workdir=runs/fig05

The same command continues an interrupted job; a finished one is never overwritten.
"""

import sys

import _path  # noqa: F401
from _figures import draw_figures, run_or_read

from margin_jax import backend, cli
from margin_jax.experiments.compress import compress
from plots.compress.draw import draw

CONFIG, WORKDIR, FIGURES = cli.job_flags("configs/fig05.py")


def main(argv: list[str]) -> None:
    """Compresses, then draws."""
    del argv
    config = cli.read_config(CONFIG)
    batch_size = 0 if config.compress.mode == "grid" else config.batch_size  # cells of a grid share all cores
    backend.prepare(batch_size, config.devices)
    summary, refusal = run_or_read(lambda: compress(config, WORKDIR.value), WORKDIR.value)
    if refusal and (not FIGURES.value or summary["failed"] == summary["cells"]):
        raise refusal
    print(f"{summary['cells']} cells in {WORKDIR.value}/cells.csv, {summary['failed']} of them failed")
    if summary["failed"] == summary["cells"]:
        print("nothing to draw: every cell failed; the column `reason` says why", file=sys.stderr)
    elif FIGURES.value:
        draw_figures(lambda: draw(WORKDIR.value, data_dir=config.data.dir), WORKDIR.value, refusal)


if __name__ == "__main__":
    cli.run(main)
