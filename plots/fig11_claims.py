"""What replace-one trials say of the claims of the paper, and the numbers of figure 11 as JSON."""

import json
import pathlib
from typing import Any

from plots import claims, paper, style
from plots.fig11_numbers import QUANTITIES, SMALLEST, Mean, Numbers

_FEWEST = 20  # trials of either choice: the interval of a bootstrap over fewer is too narrow
_OTHER = "random"


def verdicts(numbers: Numbers) -> dict[str, str]:
    """Of each claim of the paper: reproduced if the difference of the mean absolute differences lies above 0.

    Open if its interval holds 0, or with fewer than twenty trials of either choice.
    """
    few = min(numbers.trials.get(choice, 0) for choice in (SMALLEST, _OTHER)) < _FEWEST
    return {name: claims.OPEN if few else _judge(numbers.more[name][_OTHER]) for name in paper.FIG11_CLAIMS}


def _judge(difference: Mean) -> str:
    return claims.REPRODUCED if difference.low > 0 else claims.NOT if difference.high < 0 else claims.OPEN


def write_json(numbers: Numbers, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes the numbers of the figure; differences in the unit of their quantity, as in trials.csv."""
    judged = verdicts(numbers)
    content = {
        "claim": claims.together(list(judged.values())),
        "claims": [{"claim": paper.FIG11_CLAIMS[key], "quantity": key, "verdict": verdict}
                   | _contrast(numbers, key, _OTHER) for key, verdict in judged.items()],
        "paper_trials": paper.FIG11_TRIALS, "trials": numbers.trials, "diverged": numbers.diverged,
        "points": numbers.points, "continued": {key: value for key, value in numbers.continued.items()
                                                if isinstance(value, float)},
        "quantities": {key: {choice: {
            "mean_absolute": _row(numbers.sizes[key][choice]),
            "median_absolute": claims.plain(numbers.medians[key][choice]),
            "mean": _row(numbers.signed[key][choice]), **_contrast(numbers, key, choice),
        } for choice in numbers.choices} for key in QUANTITIES},
    }
    return style.write(folder / f"{name}.json", f"{json.dumps(content, indent=2)}\n".encode())


def _contrast(numbers: Numbers, quantity: str, other: str) -> dict[str, Any]:
    """The choice "smallest" beside another; nothing where one of them has no trials."""
    if other not in numbers.more[quantity]:
        return {}
    found = {"smallest_less_this": numbers.more, "smallest_over_this": numbers.ratio,
             "smallest_larger_in": numbers.larger, "smallest_less_this_of_means": numbers.signed_more}
    return {name: _row(means[quantity][other]) for name, means in found.items()}


def _row(mean: Mean) -> dict[str, float | None]:
    return {key: claims.plain(value) for key, value in mean._asdict().items()}
