"""The smallest margin through training with natural and with random labels, and when each separates (fig. 12)."""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from plots import claims, intervals, paper, style
from plots.fig01_numbers import common_moment
from plots.intervals import Interval
from plots.kinds import NATURAL, RANDOM, Kind, by_labels
from plots.recorded import Recorded
from plots.sweep_folder import WHEN, Sweep


class Numbers(NamedTuple):
    """All that figure 12 shows.

    Attributes:
      kinds: by `NATURAL` and `RANDOM`.
      moment: where smallest margins are compared, as in figure 1.
      smallest: by kind, seed to smallest normalised margin at the moment, of the networks that got there.
      larger: natural less random smallest margin, over the seeds of both.
      later: epoch of separation with random labels less that with natural ones, over the seeds of both.
      censored: seeds in `later` whose network with random labels had not separated: its last epoch stands for it, so
        that the true difference is larger.
      lost: seeds not in `later`, whose network with natural labels had not separated, or that one kind lacks.
    """

    kinds: dict[str, Kind]
    moment: str
    smallest: dict[str, dict[int, float]]
    larger: Interval
    later: Interval
    censored: tuple[int, ...]
    lost: tuple[int, ...]


def gather(sweep: Sweep) -> Numbers:
    """Reads and computes what figure 12 shows; raises as `fig01_numbers.gather`."""
    kinds = by_labels(sweep, "figure 12")
    moment = common_moment(sweep, kinds)
    rows = sweep.moments[moment].rows
    at = dict(zip(rows["network"].astype(int).tolist(), rows["margin_min"].tolist()))
    smallest = {name: {seed: at[network] for seed, network in zip(kind.seeds, kind.networks) if network in at}
                for name, kind in kinds.items()}
    both = sorted(set(smallest[NATURAL]) & set(smallest[RANDOM]))
    larger = intervals.t_interval(np.array([smallest[NATURAL][seed] - smallest[RANDOM][seed] for seed in both]))
    runs = {name: dict(zip(kind.seeds, kind.runs)) for name, kind in kinds.items()}
    judged = [seed for seed in runs[NATURAL] if runs[NATURAL][seed].separation is not None and seed in runs[RANDOM]]
    later = intervals.t_interval(np.array(
        [_separated(runs[RANDOM][seed]) - _separated(runs[NATURAL][seed]) for seed in judged], np.float64))
    censored = tuple(seed for seed in judged if runs[RANDOM][seed].separation is None)
    lost = tuple(sorted({*runs[NATURAL], *runs[RANDOM]} - set(judged)))
    return Numbers(kinds, moment, smallest, larger, later, censored, lost)


def _separated(run: Recorded) -> int:
    """The epoch of separation, or the last one that is known to have come before."""
    return int(run.metrics["epoch"][-1]) if run.separation is None else run.separation


def write_json(numbers: Numbers, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes the numbers of figure 12 with a verdict on each claim."""

    def kind(which: str, own: Kind) -> dict[str, Any]:
        last = [{column: claims.plain(run.metrics[column][-1]) for column in
                 ("epoch", "train_error", "test_error", "train_loss", "rho", "margin_min")} for run in own.runs]
        return {"random_fraction": own.values[0], "networks": own.networks, "seeds": own.seeds,
                "diverged": own.diverged, "separation_epochs": [run.separation for run in own.runs],
                "smallest_margin": {str(seed): claims.plain(value) for seed, value in numbers.smallest[which].items()},
                "last": last}

    content = {
        "moment": numbers.moment, "when": WHEN[numbers.moment],
        "claims": [
            {"claim": paper.FIG12_CLAIMS["larger"], "natural_less_random": claims.row(numbers.larger),
             "verdict": claims.above(numbers.larger)},
            {"claim": paper.FIG12_CLAIMS["later"], "epochs_later": claims.row(numbers.later),
             "seeds_not_separated_with_random_labels": numbers.censored, "seeds_left_out": numbers.lost,
             "verdict": claims.above(numbers.later)}],
        **{which: kind(which, own) for which, own in numbers.kinds.items()},
    }
    return style.write(folder / f"{name}.json", f"{json.dumps(content, indent=2)}\n".encode())
