"""What the figures need of a sweep that is over: its networks at the moments at which they are compared, by kind.

Networks that differ in nothing but their seed are of one kind.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from margin_jax.errors import InputError
from margin_jax.run_folder import read as records
from margin_jax.run_folder import tables as columns
from margin_jax.run_folder.read import Recorded, read_run
from margin_jax.run_folder.tables import Table
from margin_jax.theory.distribution import normalised_margins
from plots import style
from plots.style import Lacking

FEWEST = 5  # separated networks that an audit takes
WHEN = {"separation": "data separation", "loss": "equal training loss", "convergence": "margin convergence",
        "end": "the end of training"}
VARIED = {"init_std": "init std", "learning_rate": "learning rate", "weight_decay": "weight decay",
          "random_fraction": "share of random labels", "batch_norm": "BatchNorm"}
KINDS = ("random_fraction", "batch_norm")  # networks that differ in these are of other labels or rho: none is ranked


class OtherSweep(Lacking):
    """A sweep that was never meant for a figure, which is left out without a word unless it was asked for."""

    silent = True


@dataclasses.dataclass(frozen=True)
class Moment:
    """The networks that got to one moment.

    Attributes:
      name: one of `tables.MOMENTS`.
      rows: columns of moments.csv, each (R,).
      separated: the same of the r <= R networks whose training error is 0 there, which the audit ranks.
      mode: of the rho in measures without a prefix, a key of `audit.MODES`; "" if unknown.
      suffix: of the names of files: "" at the moment that stands for the sweep, else "_end" and the like.
    """

    name: str
    rows: Table
    separated: Table
    mode: str
    suffix: str


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A work folder of launch/sweep.py: its config, its rows of networks.csv, its moments (the main one first)."""

    workdir: pathlib.Path
    config: dict[str, Any]
    networks: Table
    moments: Mapping[str, Moment]

    def member(self, network: int) -> pathlib.Path:
        """The run folder of one network."""
        return self.workdir / "networks" / f"{int(network):03d}"

    def curve(self, moment: Moment, network: int) -> np.ndarray:
        """Normalised margins (N,) float64 of a network at a moment, under the rho of the measures; NaN beyond float64.

        Raises:
          InputError: its run folder lacks the margins of that epoch.
        """
        row = columns.rows(moment.rows, network=network)
        margins = records.read_margins(self.member(network))
        at = np.flatnonzero(margins.epochs == row["epoch"][0])
        if not at.size:
            raise InputError(f"{self.member(network)} should hold the margins of epoch {row['epoch'][0]:g}, which "
                             "moments.csv names; the files are not of one sweep: run it again in a new folder")
        column = f"log_rho:{moment.mode}"
        with np.errstate(over="ignore", invalid="ignore"):
            rho = np.exp(row[column][0]) if column in row else row["rho"][0]
            normalised = normalised_margins(margins.margins[at[0]].astype(np.float64), rho)
        return normalised if np.isfinite(rho) and rho > 0 else np.full_like(normalised, np.nan)


def read_sweep(workdir: str | pathlib.Path) -> Sweep:
    """Reads the tables of a sweep.

    Raises:
      InputError: no sweep there, one that is not over, or broken tables.
    """
    workdir = pathlib.Path(workdir)
    config = records.read_json(workdir, "config.json")["config"]
    networks, moments = columns.read_networks(workdir), columns.read_networks(workdir, "moments.csv")
    if "moment" not in moments:
        raise InputError(f"{workdir / 'moments.csv'} should have the column moment; another version may have written "
                         "it: run the sweep again in a new folder")
    by_moment = {name: columns.rows(moments, moment=name) for name in columns.MOMENTS if name in moments["moment"]}
    separated = {name: columns.rows(rows, train_error=0.0) for name, rows in by_moment.items()}
    main, mode = _main({name: rows["network"].size for name, rows in separated.items()}), _mode(moments)
    order = sorted(by_moment, key=lambda name: name != main)
    return Sweep(workdir, config, networks, {
        name: Moment(name, by_moment[name], separated[name], mode, "" if name == main else f"_{name}")
        for name in order})


def _main(counts: Mapping[str, int]) -> str:
    """Margin convergence as in the paper, if it holds enough networks and no small selection of them."""
    converged, separated = counts.get("convergence", 0), counts.get("separation", 0)
    if converged >= max(FEWEST, separated / 2) or (converged and "separation" not in counts):
        return "convergence"
    return "separation" if "separation" in counts else next(iter(counts), "")


def _mode(moments: Table) -> str:
    modes = [name.partition(":")[2] for name in moments if name.startswith("log_rho:")]
    without = [mode for mode in modes if f"{mode}:auc_mean" not in moments]
    return without[0] if len(without) == 1 else ""


def varied(table: Table) -> str:
    """The first column of `VARIED` in which networks differ, "" if they differ in none of them."""
    return next((name for name in VARIED if np.unique(table[name][np.isfinite(table[name])]).size > 1), "")


def where(config: Mapping[str, Any]) -> str:
    """The data set as the paper writes it."""
    return {"cifar2": "CIFAR-2", "cifar10": "CIFAR-10"}.get(config["data"]["name"], config["data"]["name"])


NATURAL, RANDOM = "natural", "random"


class Condition(NamedTuple):
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


def read_kinds(sweep: Sweep, by: tuple[str, ...], figure: str) -> dict[tuple[float, ...], Condition]:
    """The kinds of a sweep by their values, in the order in which networks are numbered.

    Args:
      sweep: the work folder.
      by: columns of `plots.sweeps.read.VARIED` that tell kinds apart.
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


def _kind(sweep: Sweep, table: columns.Table, values: tuple[float, ...], belongs: list[bool]) -> Condition:
    whole = np.array(belongs)
    diverged = whole & (table["status"] == "diverged")
    rows = np.flatnonzero(whole & ~diverged)
    rows = rows[np.argsort(table["seed"][rows], kind="stable")]
    networks = tuple(table["network"][rows].astype(int).tolist())
    return Condition(values, networks, tuple(table["seed"][rows].astype(int).tolist()),
                     tuple(read_run(sweep.member(network)) for network in networks),
                     tuple(table["network"][diverged].astype(int).tolist()))


def by_labels(sweep: Sweep, figure: str) -> dict[str, Condition]:
    """Networks with natural labels and those with the largest share of random ones, by `NATURAL` and `RANDOM`.

    Raises:
      OtherSweep: the sweep does not have both.
    """
    kinds = read_kinds(sweep, ("random_fraction",), figure)
    most = max(kinds)
    if (0.0,) not in kinds:
        raise OtherSweep(f"{figure} compares natural with random labels, and no network of {sweep.workdir} has natural "
                         "ones; put 0 into sweep.random_fractions")
    return {NATURAL: kinds[0.0,], RANDOM: kinds[most]}


LABEL_MOMENTS = ("convergence", "separation", "end")  # the paper's is the first


def common_moment(sweep: Sweep, kinds: dict[str, Condition]) -> str:
    """The first of `MOMENTS` to which at least half of the networks of both kinds of labels got.

    Raises:
      Lacking: a kind has no network left.
    """
    for name in LABEL_MOMENTS:
        arrived = set(sweep.moments[name].rows["network"].astype(int).tolist()) if name in sweep.moments else set()
        counts = [len(arrived & set(kind.networks)) for kind in kinds.values()]
        if all(2 * count >= len(kind.networks) + len(kind.diverged) for count, kind in zip(counts, kinds.values())):
            return name
        if name == LABEL_MOMENTS[-1] and all(counts):
            return name
    raise Lacking("natural and random labels are compared where networks of both have finished, and all of one kind "
                  f"of {sweep.workdir} diverged; take a smaller learning rate")


COLOURS = {NATURAL: style.BLUE, RANDOM: style.VERMILLION}
