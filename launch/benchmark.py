"""Times this library against PyTorch, and against itself, in one run; needs the extra `bench`.

python launch/benchmark.py --out=benchmark            everything, about half an hour on two cores
python launch/benchmark.py --quick                    the main ratios, within two minutes
python launch/benchmark.py --only='train: batch 50,pass'    rows whose names contain one of these

Both sides do the same work on the same pictures in float32. Every row is measured in a process of its own, the two
sides in turn, pair by pair; the ratio is the median over pairs, with its quartiles.
"""

import json
import os
import pathlib
import sys

from absl import flags

from margin_jax import cli
from margin_jax.bench import timing
from margin_jax.bench.cases import (
    Effort,
    all_cases,
    chosen,
    describe_machine,
    make_row,
    markdown,
    measure_all,
    measure_here,
    need_torch,
    save,
    wants_start,
)
from margin_jax.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = cli.define_folder("out", "benchmark", "Folder for benchmark.json and benchmark.md.")
ONLY = flags.DEFINE_list("only", [], "Parts of the names of the rows to measure; all by default.")
QUICK = flags.DEFINE_bool("quick", False, "A few rows, five pairs, PyTorch without torch.compile.")
PAIRS = flags.DEFINE_integer("pairs", 15, "Pairs for every row.", lower_bound=1)
COMPILED = flags.DEFINE_bool("compiled", True, "Try torch.compile beside eager PyTorch.")
INNER = flags.DEFINE_string("inner", "", "Used by the script itself: measure this row here.")
INNER_FILE = flags.DEFINE_string("inner_file", "", "Used by the script itself: where that row goes.")


def main(argv: list[str]) -> None:
    """Measures, prints and saves row by row."""
    del argv
    effort = Effort(5, False) if QUICK.value else Effort(PAIRS.value, COMPILED.value)
    if INNER.value:
        case = next(case for case in all_cases() if case.name == INNER.value)
        pathlib.Path(INNER_FILE.value).write_text(json.dumps(measure_here(case, effort)), encoding="utf-8")
        return
    need_torch()
    cases, out, rows = chosen(ONLY.value, QUICK.value), pathlib.Path(OUT.value), []
    if (out / "benchmark.json").exists():
        raise InputError(f"{out} holds a benchmark already, and nothing is overwritten; choose another --out")
    machine = describe_machine()

    def add(row: dict) -> None:
        rows.append(row)
        save(out, rows, machine)
        print(f"{row['name']}: {row['ratio']:.3g} ({row['low']:.3g}–{row['high']:.3g})", file=sys.stderr, flush=True)

    for row in measure_all(ROOT, cases, effort):
        add(row)
    if wants_start(ONLY.value, QUICK.value):
        for name, pairing in timing.compare_starts(ROOT, os.environ, min(5, effort.pairs)).items():
            add(make_row(name, pairing, None, "PyTorch, import and one epoch"))
    print(markdown(rows, machine))


if __name__ == "__main__":
    cli.run(main)
