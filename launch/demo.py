"""The quickstart with its two controls, and a short table: what `make demo` runs.

Three runs of configs/quickstart.py that share everything up to data separation: keep the 100 smallest margins, keep
100 random examples, keep all. A run folder that is already finished is read, not run again.
"""

import pathlib
import sys
from typing import Any

import _path  # noqa: F401

from configs import quickstart
from margin_jax import backend, cli
from margin_jax.experiments.train import train
from margin_jax.run_folder import read as records
from plots.runs.draw import draw

WORKDIR = cli.define_folder("workdir", "runs/demo", "Folder for the run folders of the demonstration.")


def controls() -> dict[str, Any]:
    """The three configs by the name of their run folder.

    "smallest" is configs/quickstart.py, "random" keeps random examples, "full" all of them for as many epochs in all.
    """
    smallest, random, full = (quickstart.get_config() for _ in range(3))
    random.compress.rule = "random"
    full.stop.after, full.compress.keep = full.compress.epochs, 0
    full.epochs += full.compress.epochs
    return {"smallest": smallest, "random": random, "full": full}


def table(summaries: dict[str, Any]) -> str:
    """The table that the demonstration prints.

    Args:
      summaries: summary.json of the three runs, by the names of `controls`.

    Returns:
      Lines without a last newline: of each run its examples kept, its test error in percent at the final epoch, and the
      drop against "full" in percentage points; one sentence if the data were not separated in time.
    """
    start, reference = summaries["smallest"]["at_separation"], summaries["full"]["final"]["test_error"]
    if start is None or summaries["smallest"]["removal"] is None:
        return "The data were not separated in time, so that nothing was removed."
    rows = [("network at separation, frozen", int(start["kept"]), start["test_error"])]
    rows += [(label, int(summaries[name]["final"]["kept"]), summaries[name]["final"]["test_error"])
             for name, label in (("full", "trained on, all kept"), ("smallest", "trained on, smallest margins kept"),
                                 ("random", "trained on, random ones kept"))]
    lines = [f"Data separated at epoch {start['epoch']}; then {quickstart.get_config().compress.epochs} epochs more.",
             f"{'':36}{'kept':>6}{'test error':>12}{'drop':>8}"]
    lines += [f"{label:36}{kept:6d}{error:11.2f}%{error - reference:+8.2f}" for label, kept, error in rows]
    return "\n".join([*lines, "Drop: points of test accuracy lost against all kept. One seed: no interval, no claim."])


def main(argv: list[str]) -> None:
    """Runs what is not finished yet, draws, prints."""
    del argv
    config = quickstart.get_config()
    backend.prepare(config.batch_size, config.devices)
    root, summaries = pathlib.Path(WORKDIR.value), {}
    for name, config in controls().items():
        workdir = root / name
        if (workdir / "summary.json").is_file():
            print(f"{workdir} is finished: reading it", file=sys.stderr)
            summaries[name] = records.read_json(workdir, "summary.json")
        else:
            summaries[name] = train(config, workdir)
    figures = draw(root / "smallest")
    print(f"\n{table(summaries)}\n\nFigures:")
    for path in figures:
        print(f"  {path}")


if __name__ == "__main__":
    cli.run(main)
