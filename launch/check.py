"""Verifies the files of a work folder, of any job, over or interrupted, against their checksums.

python launch/check.py --workdir=DIR

Prints one line for each folder that is whole and for each file that is damaged, and ends with status 1 if any is.
"""

import sys

import _path  # noqa: F401

from margin_jax import cli
from margin_jax.run_folder.check import check

_WORKDIR = cli.define_folder("workdir", None, "The folder of a job; all below it is verified.", required=True)


def main(_: list[str]) -> None:
    """Prints what is found."""
    findings = check(_WORKDIR.value)
    for finding in findings:
        print("whole  " if finding.good else "DAMAGED", finding)
    if not all(finding.good for finding in findings):
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
