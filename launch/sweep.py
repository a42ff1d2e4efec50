"""Trains many networks together, compares their kinds and audits what ranks them by their test error.

python launch/sweep.py --config=configs/sweep100.py --config.data.dir=DIR --workdir=runs/sweep100

The same command continues an interrupted sweep; a finished one is never overwritten. On several hosts (docs/sweep.md):
the same command on each, with --coordinator=HOST:PORT --process_count=P --process_id=I, or --coordinator=auto where
SLURM or a TPU pod tells.
"""

import pathlib
import sys

# A script sees its own folder only; `plots` is a folder of the project beside it and is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import flags  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from margin_jax import cli, runtime  # noqa: E402
from margin_jax.runs.sweep import sweep  # noqa: E402
from plots.sweep_figures import draw  # noqa: E402

CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment, for instance configs/sweep100.py; override a "
                                         "value with --config.key=value.")
WORKDIR = flags.DEFINE_string("workdir", None, "Work folder, new or of an interrupted sweep of the same config; the "
                              "same for all processes.")
FIGURES = flags.DEFINE_bool("figures", True, "Draw the figures of the sweep when it ends.")
COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0 for JAX's distributed runtime; 'auto' "
                                  "where SLURM or a TPU pod tells; empty for none.")
PROCESS_COUNT = flags.DEFINE_integer("process_count", 0, "How many processes share the sweep.", lower_bound=0)
PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Which of them this is, from 0 on.", lower_bound=-1)


def main(argv: list[str]) -> None:
    """Trains, then draws."""
    del argv
    config = cli.read_config(CONFIG)
    runtime.prepare(0, config.devices)  # networks share all cores
    share = runtime.share_of_processes(COORDINATOR.value, PROCESS_COUNT.value, PROCESS_ID.value)
    summary = sweep(config, WORKDIR.value, share)
    if summary is None:
        print("this process has trained its networks; other processes have some left", file=sys.stderr)
        return
    for warning in summary["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{summary['networks']} networks in {WORKDIR.value}/networks.csv, of which {summary['separated']} separated")
    if FIGURES.value:
        for path in draw(WORKDIR.value):
            print(path)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    cli.run(main)
