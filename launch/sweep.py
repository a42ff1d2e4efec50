"""Trains many networks together, compares their kinds and audits what ranks them by their test error.

python launch/sweep.py --config=configs/sweep100.py --config.data.dir=DIR --workdir=runs/sweep100

The same command continues an interrupted sweep; a finished one is never overwritten. On several hosts (docs/sweep.md):
the same command on each, with --coordinator=HOST:PORT --process_count=P --process_id=I, or --coordinator=auto where
SLURM or a TPU pod tells.
"""

import sys

import _path  # noqa: F401
from _figures import draw_figures, run_or_read
from absl import flags

from margin_jax import backend, cli
from margin_jax.experiments.sweep import sweep
from plots.sweeps.draw import draw

CONFIG, WORKDIR, FIGURES = cli.job_flags("configs/sweep100.py")
COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0 for JAX's distributed runtime; 'auto' "
                                  "where SLURM or a TPU pod tells; empty for none.")
PROCESS_COUNT = flags.DEFINE_integer("process_count", 0, "How many processes share the sweep.", lower_bound=0)
PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Which of them this is, from 0 on.", lower_bound=-1)


def main(argv: list[str]) -> None:
    """Trains, then draws."""
    del argv
    config = cli.read_config(CONFIG)
    backend.prepare(0, config.devices)  # networks share all cores
    share = backend.share_of_processes(COORDINATOR.value, PROCESS_COUNT.value, PROCESS_ID.value)
    summary, refusal = run_or_read(lambda: sweep(config, WORKDIR.value, share), WORKDIR.value)
    if refusal and not FIGURES.value:
        raise refusal
    if summary is None:
        print("this process has trained its networks; other processes have some left", file=sys.stderr)
        return
    for warning in summary["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{summary['networks']} networks in {WORKDIR.value}/networks.csv, of which {summary['separated']} separated")
    if FIGURES.value:
        draw_figures(lambda: draw(WORKDIR.value), WORKDIR.value, refusal)


if __name__ == "__main__":
    cli.run(main)
