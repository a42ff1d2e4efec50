"""The rows of audit.csv by measure and statistic, and how a number with its interval is written."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from margin_jax import tables
from margin_jax.tables import Table
from plots import scales
from plots.sweep_folder import WHEN, Lacking


class Verdict(NamedTuple):
    """A statistic, the ends of its 95% interval and how many networks it is over; NaN where undefined."""

    value: float
    low: float
    high: float
    networks: int


NONE = Verdict(np.nan, np.nan, np.nan, 0)
Verdicts = Mapping[str, Mapping[str, Verdict]]  # by measure, then by statistic


def read_audit(workdir: pathlib.Path) -> Table:
    """Columns of audit.csv, each (Q,); Q = 0 where no moment had networks enough; InputError without the file."""
    return tables.read_table(workdir, "audit.csv", required=not (workdir / "audit.csv").is_file())


def verdicts(audit: Table, moment: str, target: str) -> Verdicts:
    """The rows of one moment and target.

    Args:
      audit: columns of audit.csv, each (Q,).
      moment: one of `tables.MOMENTS`.
      target: "test_error" or "loss_gap".

    Raises:
      Lacking: there is none, because too few networks had separated.
    """
    here = tables.rows(audit, moment=moment, target=target)
    found: dict[str, dict[str, Verdict]] = {}
    columns = (here[name].tolist() for name in ("measure", "statistic", "value", "low", "high", "networks"))
    for measure, statistic, value, low, high, networks in zip(*columns):
        found.setdefault(measure, {})[statistic] = Verdict(value, low, high, int(networks))
    if not found:
        raise Lacking(f"audit.csv has no row of the moment {moment!r} and the target {target!r}: too few networks had "
                      f"separated at {WHEN.get(moment, moment)}, or they are of several kinds, which are not ranked "
                      "against one another; train more, or for longer")
    return found


def partial(found: Verdicts) -> tuple[str, list[str]]:
    """The partial correlation given all covariates that an audit has, and the names of these."""
    names = [name.removeprefix("partial_") for one in found.values() for name in one if name.startswith("partial_")]
    covariates = [name for name in dict.fromkeys(names) if name != "all"]
    return ("partial_all" if "all" in names else f"partial_{covariates[0]}" if covariates else ""), covariates


def text(verdict: Verdict, digits: int = 2) -> str:
    """Such as "0.28 [−0.35, 0.75]", "0.28" without an interval, "–" where undefined."""
    if not np.isfinite(verdict.value):
        return "–"
    value, low, high = (scales.signed(f"{round(number, digits) + 0.0:.{digits}f}") for number in verdict[:3])
    return f"{value} [{low}, {high}]" if np.isfinite(verdict.low) and np.isfinite(verdict.high) else value
