"""Simulates how often each interval of the library holds the truth.

python launch/coverage.py --out=results/coverage        all cases, a thousand trials or more each; minutes

Writes coverage.csv and coverage.md into the folder: the share of trials in percent, with Wilson's 95% interval. The
seed of every case is 0.
"""

import csv
import pathlib

import _path  # noqa: F401
from absl import flags

from margin_jax import cli
from margin_jax.bench import coverage
from plots.tables import Grid, markdown

_OUT = cli.define_folder("out", "coverage", "Folder for coverage.csv and coverage.md.")
_TRIALS = flags.DEFINE_integer("trials", 1000, "Trials of a bootstrap; closed forms take ten times as many.",
                               lower_bound=10)


def main(_: list[str]) -> None:
    """Simulates and prints case by case, then writes the tables."""
    rows = []
    for case in coverage.cases(_TRIALS.value):
        rows.append(coverage.simulate(case))
        print(*rows[-1].values(), sep=" | ", flush=True)
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "coverage.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, coverage.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    lines = [(row["interval"], row["setting"], f"{row['coverage']} ({row['low']} to {row['high']})",
              str(row["mean_width"]), str(row["trials"])) for row in rows]
    caption = "How often intervals of 95% hold the truth, in percent of simulated data sets"
    grid = Grid(caption, ("interval", "setting", "coverage, 95% interval", "mean width", "trials"), lines, ())
    (out / "coverage.md").write_text(markdown([grid]), encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
