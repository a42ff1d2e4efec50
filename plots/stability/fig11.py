"""Replace-one stability: what a point of smallest, random or largest margin changes in five quantities (fig. 11).

Mean differences over trials for each choice, "smallest" beside the others, and what they say of the paper's claims.
"""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from margin_jax.run_folder.tables import Table, rows
from margin_jax.statistics import estimates
from margin_jax.statistics.estimates import Estimate
from margin_jax.statistics.ranking import ratio
from plots import paper, style

QUANTITIES = ("d_test_loss", "d_test_error", "d_rho", "d_output", "d_margin_min")
SMALLEST = "smallest"
CHOICES = (SMALLEST, "random", "largest")
_DRAWS, _SEED = 5000, 0


Means = Mapping[str, Mapping[str, Estimate]]  # over trials, by quantity, then by choice
_Draws = dict[str, dict[str, np.ndarray]]  # the same, (1 + B,): of the trials as they are, then of the draws


class Fig11Data(NamedTuple):
    """All that the figure shows.

    Attributes:
      choices: those of `CHOICES` that have trials.
      trials: finished trials of each choice.
      diverged: the others that are over.
      points: how many different points left the training set, by choice.
      sizes: mean absolute difference.
      medians: of the same, which a few trials do not move.
      signed: mean difference.
      more: mean absolute difference of "smallest" less that of another choice, by that choice.
      ratio: the first over the second.
      larger: share of trials whose absolute difference is larger for "smallest"; equal ones count half.
      signed_more: `more` of absolute values of the means, in place of means of absolute values.
      continued: quantities of the network trained on without a replacement.
    """

    choices: list[str]
    trials: dict[str, int]
    diverged: dict[str, int]
    points: dict[str, int]
    sizes: Means
    medians: dict[str, dict[str, float]]
    signed: Means
    more: Means
    ratio: Means
    larger: Means
    signed_more: Means
    continued: dict[str, Any]


def compute_numbers(table: Table, continued: dict[str, Any]) -> Fig11Data:
    """Means over trials with percentile intervals of a bootstrap over the numbers of the trials.

    Trials of one number take in the same test point, and are drawn together. Where a choice always replaces the same
    point, its interval is one over the points that come in, for that point.

    Args:
      table: columns of trials.csv, each (R,), R >= 1.
      continued: of continued.json.
    """
    choices = [choice for choice in CHOICES if choice in table["choice"]]
    begun = {choice: rows(table, choice=choice) for choice in choices}
    finished = {choice: rows(table, choice=choice, status="finished") for choice in choices}
    numbers = np.unique(table["trial"])
    weights = estimates.draw_counts(numbers.size, _DRAWS, _SEED)
    values = {name: {choice: _aligned(finished[choice], name, numbers) for choice in choices} for name in QUANTITIES}
    sizes = _each(values, lambda differences: _means(np.abs(differences), weights))
    signed = _each(values, lambda differences: _means(differences, weights))

    def interval(means: np.ndarray) -> Estimate:
        return estimates.bootstrap_estimate(means, numbers.size)

    return Fig11Data(
        choices, {choice: finished[choice]["trial"].size for choice in choices},
        {choice: begun[choice]["trial"].size - finished[choice]["trial"].size for choice in choices},
        {choice: np.unique(begun[choice]["out_id"]).size for choice in choices},
        _each(sizes, interval), _each(values, _median), _each(signed, interval),
        _each(_beside(sizes, np.subtract), interval), _each(_beside(sizes, ratio), interval),
        _each(_beside(values, lambda first, second: _means(_larger(np.abs(first), np.abs(second)), weights)), interval),
        _each(_beside(signed, lambda first, second: np.abs(first) - np.abs(second)), interval), continued)


def _aligned(table: Table, name: str, numbers: np.ndarray) -> np.ndarray:
    """(T,) by the number of the trial, NaN where it has not finished."""
    values = np.full(numbers.size, np.nan)
    values[np.searchsorted(numbers, table["trial"])] = table[name]
    return values


def _each(values: _Draws, of: Callable[[np.ndarray], Any]) -> dict[str, dict[str, Any]]:
    return {name: {choice: of(draws) for choice, draws in choices.items()} for name, choices in values.items()}


def _beside(values: _Draws, of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> _Draws:
    """A function of "smallest" and each other choice; nothing without "smallest"."""
    return {name: {other: of(choices[SMALLEST], draws) for other, draws in choices.items()
                   if SMALLEST in choices and other != SMALLEST} for name, choices in values.items()}


def _larger(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """1 where the first is larger, 1/2 where both are equal, else 0; NaN where one of them is."""
    return np.where(np.isfinite(first + second), (first > second) + 0.5 * (first == second), np.nan)


def _means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(T,) and (1 + B, T) -> (1 + B,) means of the trials and of the draws; NaN for a draw without a value."""
    known = np.isfinite(values)
    return ratio(weights @ np.where(known, values, 0.0), weights @ known)


def _median(values: np.ndarray) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(np.median(finite)) if finite.size else np.nan


_FEWEST = 20  # trials of either choice: the interval of a bootstrap over fewer is too narrow
_OTHER = "random"


def verdicts(numbers: Fig11Data) -> dict[str, str]:
    """Of each claim of the paper: reproduced if the difference of the mean absolute differences lies above 0.

    Open if its interval holds 0, or with fewer than twenty trials of either choice.
    """
    few = min(numbers.trials.get(choice, 0) for choice in (SMALLEST, _OTHER)) < _FEWEST
    return {name: paper.OPEN if few else paper.above(numbers.more[name][_OTHER]) for name in paper.FIG11_CLAIMS}


def write_numbers(numbers: Fig11Data, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes the numbers of the figure; differences in the unit of their quantity, as in trials.csv."""
    judged = verdicts(numbers)
    content = {
        "claim": paper.together(list(judged.values())),
        "claims": [{"claim": paper.FIG11_CLAIMS[key], "quantity": key, "verdict": verdict}
                   | _contrast(numbers, key, _OTHER) for key, verdict in judged.items()],
        "paper_trials": paper.FIG11_TRIALS, "trials": numbers.trials, "diverged": numbers.diverged,
        "points": numbers.points, "continued": {key: value for key, value in numbers.continued.items()
                                                if isinstance(value, float)},
        "quantities": {key: {choice: {
            "mean_absolute": _row(numbers.sizes[key][choice]),
            "median_absolute": paper.plain(numbers.medians[key][choice]),
            "mean": _row(numbers.signed[key][choice]), **_contrast(numbers, key, choice),
        } for choice in numbers.choices} for key in QUANTITIES},
    }
    return style.write(folder / f"{name}.json", f"{json.dumps(content, indent=2)}\n".encode())


def _contrast(numbers: Fig11Data, quantity: str, other: str) -> dict[str, Any]:
    """The choice "smallest" beside another; nothing where one of them has no trials."""
    if other not in numbers.more[quantity]:
        return {}
    contrasts = {"smallest_less_this": numbers.more, "smallest_over_this": numbers.ratio,
                 "smallest_larger_in": numbers.larger, "smallest_less_this_of_means": numbers.signed_more}
    return {name: _row(means[quantity][other]) for name, means in contrasts.items()}


def _row(mean: Estimate) -> dict[str, float | None]:
    return {"value": paper.plain(mean.value), "low": paper.plain(mean.low), "high": paper.plain(mean.high)}


_COLOURS = {"smallest": style.BLUE, "random": style.ORANGE, "largest": style.GREEN}
_NAMES = {"d_test_loss": "test loss", "d_test_error": "test error", "d_rho": "ρ", "d_output": "normalised\noutput",
          "d_margin_min": "smallest\nmargin"}
_UNITS = {"d_test_loss": "nats", "d_test_error": "points"}
_CLAIM = "claim of the paper: the point of smallest margin changes test loss and ρ more than a random one"


@style.styled
def draw_figure(numbers: Fig11Data, epochs: int, data: str) -> Figure:
    """Draws a panel per quantity: mean absolute and mean signed difference of each choice.

    Args:
      numbers: of `compute_numbers`.
      epochs: for which the networks were trained on.
      data: the name of the data set.

    Returns:
      The figure, with an axes for each of `QUANTITIES`. Points have the gid "choice", hollow ones "choice-signed".
    """
    fig = style.new_figure(style.DOUBLE, 1.35 + 0.34 * len(numbers.choices))
    panels = fig.subplots(1, len(QUANTITIES), sharey=True)
    for axes, name in zip(panels, QUANTITIES, strict=True):
        _panel(axes, numbers, name)
    panels[0].set_yticks(range(len(numbers.choices)), [_label(numbers, choice) for choice in numbers.choices])
    panels[0].set_ylim(len(numbers.choices) - 0.4, -0.6)
    looks = {"mean of absolute differences": {"marker": "o"}, "their median": {"marker": "|", "markersize": 7},
             "mean difference": {"marker": "o", "markerfacecolor": "white"}}
    handles = [Line2D([], [], linestyle="", color="black", label=label, **({"markersize": 4} | look))
               for label, look in looks.items()]
    handles.append(Line2D([], [], color="black", label="95% interval over trials (bootstrap)"))
    fig.legend(handles=handles, loc="outside lower center", ncols=4,
               title=_CLAIM if any(_verdict(numbers, name) for name in QUANTITIES) else None, title_fontsize=7)
    fig.suptitle(f"{data}: one training point replaced by a test point, trained on for {epochs} "
                 f"epoch{'s' * (epochs != 1)}")
    return fig


def _label(numbers: Fig11Data, choice: str) -> str:
    lost = f", {numbers.diverged[choice]} diverged" if numbers.diverged[choice] else ""
    points = numbers.points[choice]
    return f"{choice}\n({numbers.trials[choice]:,} trials, {points:,} point{'s' * (points != 1)}{lost})"


def _panel(axes: Axes, numbers: Fig11Data, name: str) -> None:
    sizes, signed = numbers.sizes[name], numbers.signed[name]
    shown = [end for means in (sizes, signed) for mean in means.values() for end in mean[:3] if np.isfinite(end)]
    power = style.power_of_ten(np.array(shown))
    both = name != "d_output"  # which has no sign
    for place, choice in enumerate(numbers.choices):
        colour, line = _COLOURS[choice], place - 0.15 * both
        axes.plot(numbers.medians[name][choice] / 10.0**power, line, marker="|", markersize=7, color=colour,
                  gid=f"{choice}-median")
        _point(axes, sizes[choice], line, power, colour, choice, colour)
        if both:
            _point(axes, signed[choice], place + 0.15, power, colour, f"{choice}-signed", "white")
    axes.axvline(0.0, color=style.GREY, linewidth=0.6, zorder=0)
    axes.margins(x=0.1)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(" ".join(filter(None, [f"$10^{{{power}}}$" if power else "", _UNITS.get(name, "")])))
    axes.set_title("\n".join(filter(None, [f"Δ {_NAMES[name]}", _verdict(numbers, name)])))


def _verdict(numbers: Fig11Data, name: str) -> str:
    judged = verdicts(numbers).get(name) if "random" in numbers.more[name] else None
    return f"claim {judged}" if judged else ""


def _point(axes: Axes, mean: Estimate, place: float, power: int, colour: str, gid: str, face: str) -> None:
    value, low, high = (end / 10.0**power for end in mean[:3])
    if np.isfinite(low):
        axes.plot((low, high), (place, place), color=colour, linewidth=1.0)
    axes.plot(value, place, marker="o", markersize=4, color=colour, gid=gid, markerfacecolor=face)
