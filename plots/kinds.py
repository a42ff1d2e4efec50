"""The kinds of networks that a sweep compares: those that differ in nothing but their seed are of one kind."""

from typing import NamedTuple

import numpy as np

from margin_jax import tables
from plots.recorded import Recorded, read_run
from plots.sweep_folder import VARIED, OtherSweep, Sweep

NATURAL, RANDOM = "natural", "random"


class Kind(NamedTuple):
    """Networks of one kind.

    Attributes:
      values: what tells the kind from others, in the order asked for.
      networks: their numbers within the sweep, by ascending seed, without those that diverged.
      seeds: theirs.
      runs: their run folders.
      diverged: numbers of those left out.
    """

    values: tuple[float, ...]
    networks: tuple[int, ...]
    seeds: tuple[int, ...]
    runs: tuple[Recorded, ...]
    diverged: tuple[int, ...]


def read_kinds(sweep: Sweep, by: tuple[str, ...], figure: str) -> dict[tuple[float, ...], Kind]:
    """The kinds of a sweep by their values, in the order in which networks are numbered.

    Args:
      sweep: the work folder.
      by: columns of `sweep_folder.VARIED` that tell kinds apart.
      figure: what wants them, for the message.

    Raises:
      OtherSweep: networks are all of one kind, or differ in something else.
    """
    table = dict(sweep.networks)
    # Tables of earlier versions do not say it of each network; all were like the config then.
    table["batch_norm"] = np.where(np.isnan(table["batch_norm"]), sweep.config["model"]["batch_norm"]
                                   if "model" in sweep.config else np.nan, table["batch_norm"])
    other = [VARIED[name] for name in VARIED if name not in by
             and np.unique(table[name][np.isfinite(table[name])]).size > 1]
    rows = list(zip(*(table[name].tolist() for name in by)))
    kinds = list(dict.fromkeys(rows))
    if other or len(kinds) < 2:
        raise OtherSweep(f"{figure} compares networks that differ in {' and '.join(VARIED[name] for name in by)} "
                         f"alone, apart from their seeds; those of {sweep.workdir} differ in "
                         f"{', '.join(other) or 'nothing else'}")
    return {values: _kind(sweep, table, values, [row == values for row in rows]) for values in kinds}


def _kind(sweep: Sweep, table: tables.Table, values: tuple[float, ...], mine: list[bool]) -> Kind:
    whole = np.array(mine)
    diverged = whole & (table["status"] == "diverged")
    rows = np.flatnonzero(whole & ~diverged)
    rows = rows[np.argsort(table["seed"][rows], kind="stable")]
    networks = tuple(table["network"][rows].astype(int).tolist())
    return Kind(values, networks, tuple(table["seed"][rows].astype(int).tolist()),
                tuple(read_run(sweep.member(network)) for network in networks),
                tuple(table["network"][diverged].astype(int).tolist()))


def by_labels(sweep: Sweep, figure: str) -> dict[str, Kind]:
    """Networks with natural labels and those with the largest share of random ones, by `NATURAL` and `RANDOM`.

    Raises:
      OtherSweep: the sweep does not have both.
    """
    found = read_kinds(sweep, ("random_fraction",), figure)
    most = max(found)
    if (0.0,) not in found:
        raise OtherSweep(f"{figure} compares natural with random labels, and no network of {sweep.workdir} has natural "
                         "ones; put 0 into sweep.random_fractions")
    return {NATURAL: found[0.0,], RANDOM: found[most]}
