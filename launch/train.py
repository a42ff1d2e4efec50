"""Trains one network and records the margin of every training example.

python launch/train.py --config=configs/cifar10.py --config.data.dir=DIR --config.epochs=10 --workdir=runs/cifar10

The same command continues an interrupted run; a finished one is never overwritten.
"""

import sys

import _path  # noqa: F401

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
    summary = train(config, WORKDIR.value)
    for warning in summary["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    if FIGURES.value:
        for path in draw(WORKDIR.value, data_dir=config.data.dir):
            print(path)


if __name__ == "__main__":
    cli.run(main)
