"""Replace-one stability: what a point of smallest, random or largest margin changes in five quantities (fig. 11)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plots import scales, style
from plots.fig11_claims import verdicts
from plots.fig11_numbers import QUANTITIES, Mean, Numbers

_COLOURS = {"smallest": style.BLUE, "random": style.ORANGE, "largest": style.GREEN}
_NAMES = {"d_test_loss": "test loss", "d_test_error": "test error", "d_rho": "ρ", "d_output": "normalised\noutput",
          "d_margin_min": "smallest\nmargin"}
_UNITS = {"d_test_loss": "nats", "d_test_error": "points"}
_CLAIM = "claim of the paper: the point of smallest margin changes test loss and ρ more than a random one"


@style.styled
def figure(numbers: Numbers, epochs: int, data: str) -> Figure:
    """Draws a panel per quantity: mean absolute and mean signed difference of each choice.

    Args:
      numbers: of `fig11_numbers.gather`.
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


def _label(numbers: Numbers, choice: str) -> str:
    lost = f", {numbers.diverged[choice]} diverged" if numbers.diverged[choice] else ""
    points = numbers.points[choice]
    return f"{choice}\n({numbers.trials[choice]:,} trials, {points:,} point{'s' * (points != 1)}{lost})"


def _panel(axes: Axes, numbers: Numbers, name: str) -> None:
    sizes, signed = numbers.sizes[name], numbers.signed[name]
    shown = [value for found in (sizes, signed) for mean in found.values() for value in mean if np.isfinite(value)]
    power = scales.power_of_ten(np.array(shown))
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


def _verdict(numbers: Numbers, name: str) -> str:
    judged = verdicts(numbers).get(name) if "random" in numbers.more[name] else None
    return f"claim {judged}" if judged else ""


def _point(axes: Axes, mean: Mean, place: float, power: int, colour: str, gid: str, face: str) -> None:
    value, low, high = (number / 10.0**power for number in mean)
    if np.isfinite(low):
        axes.plot((low, high), (place, place), color=colour, linewidth=1.0)
    axes.plot(value, place, marker="o", markersize=4, color=colour, gid=gid, markerfacecolor=face)
