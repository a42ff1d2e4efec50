"""Judges the claims of the paper by the rule of docs/verdicts.md, from the tables that results keep.

python launch/verdicts.py --results=results            writes verdicts.csv and verdicts.md; half a minute
python launch/verdicts.py --results=results --audit    and audit.csv: the measures of every audit, corrected together

The claims, with the paper's numbers and where ours come from, are in results/verdicts/claims.json.
"""

import pathlib
from collections import Counter

import _path  # noqa: F401
from absl import flags

from margin_jax import cli
from margin_jax.errors import InputError
from plots.verdicts import audits, table

_RESULTS = cli.define_folder("results", "results", "The folder of results, with verdicts/claims.json.")
_AUDIT = flags.DEFINE_bool("audit", False, "Correct the measures of every audit too; some minutes.")


def main(_: list[str]) -> None:
    """Judges and prints how many claims have which verdict."""
    results = pathlib.Path(_RESULTS.value)
    if not (results / "verdicts" / table.CLAIMS).is_file():
        raise InputError(f"expected {results / 'verdicts' / table.CLAIMS}, which is not there; give --results a folder "
                         "of results as the project keeps it")
    rows = table.judge(results, table.read_claims(results / "verdicts" / table.CLAIMS))
    counts = Counter(row.judgement.verdict for row in rows if not row.claim.get("detail"))
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))
    paths = table.write(results, rows)
    for path in [*paths, *([audits.write(results)] if _AUDIT.value else [])]:
        print(path)


if __name__ == "__main__":
    cli.run(main)
