"""Sorted margins with natural and with random labels, rank by rank and in bins of the 100 smallest (fig. 1)."""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from margin_jax import tables
from plots import claims, histogram, intervals, paper, style
from plots.intervals import Interval
from plots.kinds import NATURAL, RANDOM, Kind, by_labels
from plots.sweep_folder import WHEN, Lacking, Sweep

MOMENTS = ("convergence", "separation", "end")  # the paper's is the first


class Side(NamedTuple):
    """Networks of one kind of labels at one moment.

    Attributes:
      fraction: share of random labels.
      networks, seeds: those that got to the moment, by ascending seed.
      epochs: of the moment, one per network.
      curves: (S, N) normalised margins, ascending.
      left_out: numbers of networks of the kind that did not get there.
    """

    fraction: float
    networks: tuple[int, ...]
    seeds: tuple[int, ...]
    epochs: tuple[int, ...]
    curves: np.ndarray
    left_out: tuple[int, ...]


class Numbers(NamedTuple):
    """All that figure 1 shows.

    Attributes:
      moment: one of `MOMENTS`.
      natural, random: the two kinds of labels.
      above, below: shares of ranks at which the 95% interval over seeds of natural less random lies above and below 0.
      shares: (P,) share of ranks at which the natural curve lies above, for each seed that both have.
      by_rho: the mean of `shares` under each rho that the tables have.
      bins: counts of the 100 smallest margins in ten bins by "own", each network's range, and "common", that of all
        networks; by kind of labels (S, 10).
      edges: (11,) of the common range.
    """

    moment: str
    natural: Side
    random: Side
    above: float
    below: float
    shares: np.ndarray
    by_rho: dict[str, float]
    bins: dict[str, dict[str, np.ndarray]]
    edges: np.ndarray


def common_moment(sweep: Sweep, kinds: dict[str, Kind]) -> str:
    """The first of `MOMENTS` to which at least half of the networks of both kinds of labels got.

    Raises:
      Lacking: a kind has no network left.
    """
    for name in MOMENTS:
        there = set(sweep.moments[name].rows["network"].astype(int).tolist()) if name in sweep.moments else set()
        counts = [len(there & set(kind.networks)) for kind in kinds.values()]
        if all(2 * count >= len(kind.networks) + len(kind.diverged) for count, kind in zip(counts, kinds.values())):
            return name
        if name == MOMENTS[-1] and all(counts):
            return name
    raise Lacking("natural and random labels are compared where networks of both have finished, and all of one kind "
                  f"of {sweep.workdir} diverged; take a smaller learning rate")


def gather(sweep: Sweep) -> Numbers:
    """Reads and computes what figure 1 shows.

    Raises:
      OtherSweep: not a sweep over natural and random labels.
      Lacking: a kind without a network.
    """
    kinds = by_labels(sweep, "figure 1")
    moment = common_moment(sweep, kinds)
    natural, random = (_side(sweep, moment, kind) for kind in kinds.values())
    pairs = _pairs(natural, random)
    first, second = natural.curves[pairs[:, 0]], random.curves[pairs[:, 1]]
    difference = intervals.t_interval(first - second)
    above, below = (float(np.mean(sign * difference.mean > difference.half)) for sign in (1, -1))
    smallest = {name: side.curves[:, :histogram.SMALLEST] for name, side in ((NATURAL, natural), (RANDOM, random))}
    whole = np.concatenate([one.ravel() for one in smallest.values()])
    edges = np.linspace(*histogram.limits(np.sort(whole)), histogram.BINS + 1)
    bins = {"own": {name: np.array([np.histogram(row, histogram.BINS, histogram.limits(row))[0] for row in one])
                    for name, one in smallest.items()},
            "common": {name: np.array([np.histogram(row, edges)[0] for row in one]) for name, one in smallest.items()}}
    return Numbers(moment, natural, random, above, below, (first > second).mean(1),
                   _by_rho(sweep, moment, natural, random, pairs), bins, edges)


def _side(sweep: Sweep, moment: str, kind: Kind) -> Side:
    rows = sweep.moments[moment].rows
    epochs = dict(zip(rows["network"].astype(int).tolist(), rows["epoch"].astype(int).tolist()))
    there = [place for place, network in enumerate(kind.networks) if network in epochs]
    networks = tuple(kind.networks[place] for place in there)
    curves = [np.sort(run.normalised(int(np.flatnonzero(run.margins.epochs == epochs[network])[0])))
              for network, run in ((kind.networks[place], kind.runs[place]) for place in there)]
    return Side(kind.values[0], networks, tuple(kind.seeds[place] for place in there),
                tuple(epochs[network] for network in networks), np.stack(curves),
                tuple(sorted({*kind.networks, *kind.diverged} - set(networks))))


def _pairs(natural: Side, random: Side) -> np.ndarray:
    """(P, 2) places of the networks of one seed, which share their initial weights."""
    shared = sorted(set(natural.seeds) & set(random.seeds))
    return np.array([(natural.seeds.index(seed), random.seeds.index(seed)) for seed in shared], int).reshape(-1, 2)


def _by_rho(sweep: Sweep, moment: str, natural: Side, random: Side, pairs: np.ndarray) -> dict[str, float]:
    """The paper normalises with rho over the convolutions: the same comparison under every rho there is."""
    rows = sweep.moments[moment].rows
    own = tables.rows(rows, network=(*natural.networks, *random.networks))
    place = {int(network): row for row, network in enumerate(own["network"].tolist())}
    found = {}
    for name in (name for name in own if name.startswith("log_rho:")):
        logs = np.log(own["rho"]) - own[name]
        first, second = (side.curves * np.exp(logs[[place[network] for network in side.networks]])[:, None]
                         for side in (natural, random))
        if np.isfinite(logs).all() and len(pairs):
            found[name.partition(":")[2]] = float((first[pairs[:, 0]] > second[pairs[:, 1]]).mean())
    return found


def larger(numbers: Numbers) -> str:
    """The verdict on the claim that all natural margins are larger, rank by rank."""
    if numbers.below > 0:
        return claims.NOT
    return claims.REPRODUCED if numbers.above == 1 else claims.OPEN


def first_bin(numbers: Numbers, which: str) -> Interval:
    """How many more of the 100 smallest margins the first bin holds with random labels, over the seeds of both."""
    bins = numbers.bins[which]
    pairs = _pairs(numbers.natural, numbers.random)
    return intervals.t_interval((bins[RANDOM][pairs[:, 1], 0] - bins[NATURAL][pairs[:, 0], 0]).astype(np.float64))


def write_json(numbers: Numbers, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes the numbers of figure 1 with a verdict on each claim."""
    sides = {NATURAL: numbers.natural, RANDOM: numbers.random}

    def side(which: str, own: Side) -> dict[str, Any]:
        return {"random_fraction": own.fraction, "networks": own.networks, "seeds": own.seeds, "epochs": own.epochs,
                "left_out": own.left_out, "five_smallest": own.curves[:, :5].tolist(),
                "median": [claims.plain(value) for value in np.median(own.curves, axis=1)],
                "bins_own_range": numbers.bins["own"][which].tolist(),
                "bins_common_range": numbers.bins["common"][which].tolist()}

    content = {
        "moment": numbers.moment, "when": WHEN[numbers.moment],
        "claims": [
            {"claim": paper.FIG01_CLAIM, "verdict": larger(numbers),
             "share_of_ranks_above": numbers.above, "share_of_ranks_below": numbers.below,
             "share_of_ranks_above_by_seed": claims.row(intervals.t_interval(numbers.shares)),
             "share_of_ranks_above_by_rho": numbers.by_rho},
            *({"claim": paper.FIG01_BINS_CLAIM, "range": which, "paper": paper.FIG01_FIRST_BIN,
               "ours": {which_labels: claims.row(intervals.t_interval(one[:, 0].astype(np.float64)))
                        for which_labels, one in numbers.bins[which].items()},
               "random_less_natural": claims.row(first_bin(numbers, which)),
               "verdict": claims.above(first_bin(numbers, which))} for which in ("own", "common"))],
        **{which: side(which, own) for which, own in sides.items()}, "common_edges": numbers.edges.tolist(),
    }
    return style.write(folder / f"{name}.json", f"{json.dumps(content, indent=2)}\n".encode())
