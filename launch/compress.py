"""Keeps a few training examples of a separated network and goes on, beside the controls that this needs.

python launch/compress.py --config=configs/fig05.py --config.data.dir=DIR --workdir=runs/fig05

The same command continues an interrupted job; a finished one is never overwritten.
"""

import pathlib
import sys

# A script sees its own folder only; `plots` is a folder of the project beside it and is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import flags  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from margin_jax import cli, runtime  # noqa: E402
from margin_jax.runs.compress import compress  # noqa: E402
from plots.compress_figures import draw  # noqa: E402

CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment, for instance configs/fig05.py; override a value "
                                         "with --config.key=value.")
WORKDIR = flags.DEFINE_string("workdir", None, "Work folder, new or of an interrupted job of the same config.")
FIGURES = flags.DEFINE_bool("figures", True, "Draw the figures and tables of the job when it ends.")


def main(argv: list[str]) -> None:
    """Compresses, then draws."""
    del argv
    config = cli.read_config(CONFIG)
    batch_size = 0 if config.compress.mode == "grid" else config.batch_size  # cells of a grid share all cores
    runtime.prepare(batch_size, config.devices)
    summary = compress(config, WORKDIR.value)
    print(f"{summary['cells']} cells in {WORKDIR.value}/cells.csv, {summary['failed']} of them failed")
    if summary["failed"] == summary["cells"]:
        print("nothing to draw: every cell failed; the column `reason` says why", file=sys.stderr)
    elif FIGURES.value:
        for path in draw(WORKDIR.value, data_dir=config.data.dir):
            print(path)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    cli.run(main)
