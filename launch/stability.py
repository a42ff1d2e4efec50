"""Replaces one training point of a separated network by a test point, many times, and measures what that changes.

python launch/stability.py --config=configs/fig11.py --config.data.dir=DIR --workdir=runs/fig11

The same command continues an interrupted job; a finished one is never overwritten.
"""

import pathlib
import sys

# A script sees its own folder only; `plots` is a folder of the project beside it and is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import flags  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from margin_jax import cli, runtime  # noqa: E402
from margin_jax.runs.stability import stability  # noqa: E402
from plots.stability_figures import draw  # noqa: E402

CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment, for instance configs/fig11.py; override a value "
                                         "with --config.key=value.")
WORKDIR = flags.DEFINE_string("workdir", None, "Work folder, new or of an interrupted job of the same config.")
FIGURES = flags.DEFINE_bool("figures", True, "Draw the figures and tables of the job when it ends.")


def main(argv: list[str]) -> None:
    """Replaces, then draws."""
    del argv
    config = cli.read_config(CONFIG)
    runtime.prepare(0, config.devices)  # trials share all cores
    summary = stability(config, WORKDIR.value)
    if summary["status"] != "finished":
        print(f"nothing to compare: {summary['status']}, {summary['reason']}", file=sys.stderr)
        return
    print(f"{summary['trials']} trials in {WORKDIR.value}, {summary['diverged']} of them diverged")
    if summary["deletions_left_out"]:
        print(f"no table of deletions: {summary['deletions_left_out']}", file=sys.stderr)
    if FIGURES.value:
        for path in draw(WORKDIR.value):
            print(path)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    cli.run(main)
