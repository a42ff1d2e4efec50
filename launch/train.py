"""Trains one network and records the margin of every training example.

python launch/train.py --config=configs/cifar10.py --config.data.dir=DIR --config.epochs=10 --workdir=runs/cifar10

The same command continues an interrupted run; a finished one is never overwritten.
"""

import sys

import _path  # noqa: F401
from _figures import draw_figures, run_or_read

from margin_jax import backend, cli
from margin_jax.experiments.train import train
from plots.runs.draw import check, draw

CONFIG, WORKDIR, FIGURES = cli.job_flags("configs/quickstart.py")


def main(argv: list[str]) -> None:
    """Trains, then draws."""
    del argv
    config = cli.read_config(CONFIG)
    check(config.get("figures", ()))
    backend.prepare(config.batch_size, config.devices)
    summary, refusal = run_or_read(lambda: train(config, WORKDIR.value), WORKDIR.value)
    for warning in summary["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    if refusal and (not FIGURES.value or summary["status"] != "finished"):
        raise refusal
    if FIGURES.value:
        draw_figures(lambda: draw(WORKDIR.value, data_dir=config.data.dir), WORKDIR.value, refusal)


if __name__ == "__main__":
    cli.run(main)
