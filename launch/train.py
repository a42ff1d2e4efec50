"""Trains one network and records the margin of every training example.

python launch/train.py --config=configs/cifar10.py --config.data.dir=DIR --config.epochs=10 --workdir=runs/cifar10

The same command continues an interrupted run; a finished one is never overwritten.
"""

import pathlib
import sys

# A script sees its own folder only; `plots` is a folder of the project beside it and is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import flags  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from margin_jax import cli, runtime  # noqa: E402
from margin_jax.runs.train import train  # noqa: E402
from plots.run_figures import check, draw  # noqa: E402

CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment, for instance configs/quickstart.py; "
                                         "override a value with --config.key=value.")
WORKDIR = flags.DEFINE_string("workdir", None, "Run folder, new or of an interrupted run of the same config.")
FIGURES = flags.DEFINE_bool("figures", True, "Draw the figures of the run when it ends.")


def main(argv: list[str]) -> None:
    """Trains, then draws."""
    del argv
    config = cli.read_config(CONFIG)
    check(config.get("figures", ()))
    runtime.prepare(config.batch_size, config.devices)
    summary = train(config, WORKDIR.value)
    for warning in summary["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    if FIGURES.value:
        for path in draw(WORKDIR.value, data_dir=config.data.dir):
            print(path)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    cli.run(main)
