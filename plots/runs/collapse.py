"""Neural collapse through training: NC1 to NC4 of the features before the last layer (Papyan, Han and Donoho 2020)."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from margin_jax.run_folder import read as records
from margin_jax.run_folder.read import Recorded
from plots import style
from plots.paper import plain

_FEW = 20  # up to this many records, each is marked: one alone would draw no line
_SHARES = ("nc4", "nc4_test")  # from 0 to 1 in the table, in percent here
# Panel by panel: its name, and the columns drawn with colour, dashes and label.
_TRAIN, _TEST = (style.BLUE, "-", "train"), (style.VERMILLION, "-", "test")
_PANELS = (
    ("NC1\nscatter in classes", {"nc1": _TRAIN, "nc1_test": _TEST}),
    ("NC2\nfrom a simplex", {
        "nc2_norms": (style.BLUE, "-", "class means, norms"), "nc2_angles": (style.ORANGE, "-", "class means, angles"),
        "nc2_norms_weights": (style.BLUE, "--", "weights, norms"),
        "nc2_angles_weights": (style.ORANGE, "--", "weights, angles")}),
    ("NC3\nmeans from weights", {"nc3": (style.BLUE, "-", "")}),
    ("NC4\nother decisions (%)", {"nc4": _TRAIN, "nc4_test": _TEST}),
)
_TRIVIAL = ("nc2_norms", "nc2_angles")  # 0 for two classes, whose centred means are opposite


@style.styled
def draw_figure(table: Mapping[str, np.ndarray], classes: int, separation: int | None = None) -> Figure:
    """Draws NC1 on a log axis, NC2, NC3 and NC4 against epoch.

    Args:
      table: (E,) columns of collapse.csv; NaN is left out.
      classes: C; for two, NC2 of the class means is left out, which is 0 by construction.
      separation: the epoch of data separation, or None.

    Returns:
      The figure, with four axes.
    """
    fig = style.new_figure(style.SINGLE, 5.6)
    panels = fig.subplots(4, 1, sharex=True, height_ratios=(1, 1.25, 1, 1))
    epochs = table["epoch"]
    for axes, (name, lines) in zip(panels, _PANELS, strict=True):
        for column, (colour, dash, label) in lines.items():
            if classes == 2 and column in _TRIVIAL:
                continue
            values = table[column] * (100 if column in _SHARES else 1)
            axes.plot(epochs, values, color=colour, linestyle=dash, label=label or "_", gid=column,
                      marker="o" if epochs.size <= _FEW else "", markersize=2.5)
        if separation is not None:
            axes.axvline(separation, color=style.GREEN, linestyle=(0, (3, 3)), gid="separation")
        axes.set_ylabel(name)
    _log(panels[0], np.concatenate([table["nc1"], table["nc1_test"]]))
    for axes, room in zip(panels[1:], (1.5, 1.1, 1.1), strict=True):  # the second has a legend of two lines
        axes.set_ylim(0, room * (axes.dataLim.y1 if axes.dataLim.y1 > 0 else 1))
    panels[1].legend(loc="upper right", ncols=2, borderaxespad=0, frameon=True, framealpha=1, edgecolor="none")
    handles, labels = panels[0].get_legend_handles_labels()
    if separation is not None:
        handles.append(panels[0].lines[-1])
        labels.append(f"separation, epoch {separation}")
    fig.legend(handles, labels, loc="outside upper center", ncols=3)
    panels[-1].set_xlabel("epoch")
    pad = 0.04 * np.ptp(epochs) or 1
    panels[-1].set_xlim(epochs[0] - pad, epochs[-1] + pad)
    panels[-1].set_xticks(style.whole_ticks(*panels[-1].get_xlim()))
    fig.align_ylabels(panels)
    return fig


def _log(axes: Axes, values: np.ndarray) -> None:
    """A log axis, where there is anything above 0, with ticks between the powers of ten where these are few."""
    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size:
        return
    axes.set_yscale("log")
    if np.log10(positive.max() / positive.min()) < 2:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_run(run: Recorded) -> Figure:
    """Draws the neural collapse of a run folder; raises InputError without collapse.csv."""
    return draw_figure(records.read_collapse(run.workdir), len(run.class_names), run.separation)


def compute_numbers(table: Mapping[str, np.ndarray], classes: int, separation: int | None) -> dict[str, Any]:
    """What the figure shows at its first record, at separation and at its last one; shares from 0 to 1."""

    def at(row: int) -> dict[str, float | int | None]:
        return {name: int(column[row]) if name == "epoch" else plain(column[row]) for name, column in table.items()}

    at_separation = np.flatnonzero(table["epoch"] == separation) if separation is not None else np.empty(0, int)
    return {"classes": classes, "separation_epoch": separation, "first": at(0),
            "at_separation": at(int(at_separation[0])) if at_separation.size else None, "last": at(-1),
            "notes": ["nc2_norms and nc2_angles are 0 by construction for two classes"] if classes == 2 else []}


def write_numbers(run: Recorded, folder: pathlib.Path) -> pathlib.Path:
    """Writes collapse.json, the numbers of the figure."""
    content = compute_numbers(records.read_collapse(run.workdir), len(run.class_names), run.separation)
    return style.write(folder / "collapse.json", f"{json.dumps(content, indent=2)}\n".encode())
