"""Error and loss through training, with data separation and removals marked."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from margin_jax.run_folder.read import Recorded, Removal
from plots import style

_FEW = 20  # up to this many epochs, each is marked: one epoch alone would draw no line
# Dashes of one colour fall into the gaps of the other, so that both show where removal follows at once.
_DASH, _GAP_DASH = (0, (3, 3)), (3, (3, 3))


@style.styled
def draw_figure(metrics: Mapping[str, np.ndarray], separation: int | None = None, removals: Sequence[Removal] = (),
                diverged: bool = False) -> Figure:
    """Draws error (%) over loss against epoch.

    Args:
      metrics: (E,) columns epoch, train_error, test_error, train_loss, test_loss; NaN is left out.
      separation: the epoch of data separation, or None.
      removals: epochs after which examples were left out, and how many stayed.
      diverged: says so below the axis.

    Returns:
      The figure; its first axes show the errors, its second the losses.
    """
    fig = style.new_figure(style.SINGLE, 3.3)
    top, bottom = fig.subplots(2, 1, sharex=True)
    epochs = metrics["epoch"]
    after = " (kept examples)" if removals else ""
    for axes, quantity in ((top, "error"), (bottom, "loss")):
        for name, colour, label in (("train", style.BLUE, f"train{after}"), ("test", style.VERMILLION, "test")):
            values = metrics[f"{name}_{quantity}"]
            good = np.isfinite(values) & ((quantity == "error") | (values > 0))
            if not np.isfinite(metrics[f"{name}_error"]).any():  # recorded without a test set
                continue
            axes.plot(epochs, np.where(good, values, np.nan), color=colour, label=label,
                      marker="o" if epochs.size <= _FEW else "", markersize=2.5)
        _mark(axes, separation, removals)
    top.set_ylabel("error (%)")
    top.set_ylim(bottom=-0.03 * top.get_ylim()[1])  # a line at zero would lie half under the axis
    _log_axis(bottom, np.concatenate((metrics["train_loss"], metrics["test_loss"])))
    bottom.set_ylabel("loss (nats)")
    bottom.set_xlabel("epoch" + (" (the run diverged)" if diverged else ""))
    pad = 0.04 * np.ptp(epochs) or 1
    bottom.set_xlim(epochs[0] - pad, epochs[-1] + pad)
    bottom.set_xticks(style.whole_ticks(*bottom.get_xlim()))
    handles, labels = top.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=2 if removals else 3)
    fig.align_ylabels([top, bottom])
    return fig


def _mark(axes: Axes, separation: int | None, removals: Sequence[Removal]) -> None:
    if separation is not None:
        axes.axvline(separation, color=style.GREEN, linestyle=_DASH, label=f"separation, epoch {separation}")
    for number, removal in enumerate(removals):
        label = f"removal, epoch {removal.epoch}: {removal.kept:,} kept"
        if len(removals) > 1:  # one entry for many lines; the counts of each are in the run's tables
            label = f"{len(removals)} removals, to {removals[-1].kept:,} kept"
        axes.axvline(removal.epoch, color="black", linestyle=_GAP_DASH, label="_" if number else label)


def _log_axis(axes: Axes, losses: np.ndarray) -> None:
    """A log axis where the losses span a factor of ten; below that it would have a tick or none."""
    losses = losses[np.isfinite(losses)]
    positive = losses[losses > 0]
    decades = np.log10(positive.max() / positive.min()) if positive.size else 0
    if not positive.size or (decades < 1 and positive.size == losses.size):
        return
    axes.set_yscale("log")
    if decades < 2:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_run(run: Recorded) -> Figure:
    """Draws the errors and losses of a run folder."""
    return draw_figure(run.metrics, run.separation, run.removals, run.diverged)
