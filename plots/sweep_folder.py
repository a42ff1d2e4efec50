"""What the figures need of a sweep that is over: its networks at the moments at which they are compared."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from margin_jax import records, tables
from margin_jax.errors import InputError
from margin_jax.tables import Table

FEWEST = 5  # separated networks that an audit takes
WHEN = {"separation": "data separation", "loss": "equal training loss", "convergence": "margin convergence",
        "end": "the end of training"}
VARIED = {"init_std": "init std", "learning_rate": "learning rate", "weight_decay": "weight decay",
          "random_fraction": "share of random labels", "batch_norm": "BatchNorm"}
KINDS = ("random_fraction", "batch_norm")  # networks that differ in these are of other labels or rho: none is ranked


class Lacking(InputError):
    """A sweep that is whole, but not made for a figure: too few networks or epochs."""


class OtherSweep(Lacking):
    """A sweep that was never meant for a figure, which is left out without a word unless it was asked for."""


@dataclasses.dataclass(frozen=True)
class Moment:
    """The networks that got to one moment.

    Attributes:
      name: one of `tables.MOMENTS`.
      rows: columns of moments.csv, each (R,).
      separated: the same of the r <= R networks whose training error is 0 there, which the audit ranks.
      mode: of the rho in measures without a prefix, a key of `measure_names.MODES`; "" if not told.
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
        row = tables.rows(moment.rows, network=network)
        margins = records.read_margins(self.member(network))
        at = np.flatnonzero(margins.epochs == row["epoch"][0])
        if not at.size:
            raise InputError(f"{self.member(network)} should hold the margins of epoch {row['epoch'][0]:g}, which "
                             "moments.csv names; the files are not of one sweep: run it again in a new folder")
        column = f"log_rho:{moment.mode}"
        with np.errstate(over="ignore", invalid="ignore"):
            rho = np.exp(row[column][0]) if column in row else row["rho"][0]
            found = margins.margins[at[0]].astype(np.float64) / rho
        return found if np.isfinite(rho) and rho > 0 else np.full_like(found, np.nan)


def read_sweep(workdir: str | pathlib.Path) -> Sweep:
    """Reads the tables of a sweep.

    Raises:
      InputError: no sweep there, one that is not over, or broken tables.
    """
    workdir = pathlib.Path(workdir)
    config = records.read_json(workdir, "config.json")["config"]
    networks, moments = tables.read_networks(workdir), tables.read_networks(workdir, "moments.csv")
    if "moment" not in moments:
        raise InputError(f"{workdir / 'moments.csv'} should have the column moment; another version may have written "
                         "it: run the sweep again in a new folder")
    here = {name: tables.rows(moments, moment=name) for name in tables.MOMENTS if name in moments["moment"]}
    separated = {name: tables.rows(rows, train_error=0.0) for name, rows in here.items()}
    main, mode = _main({name: rows["network"].size for name, rows in separated.items()}), _mode(moments)
    order = sorted(here, key=lambda name: name != main)
    return Sweep(workdir, config, networks, {
        name: Moment(name, here[name], separated[name], mode, "" if name == main else f"_{name}") for name in order})


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
