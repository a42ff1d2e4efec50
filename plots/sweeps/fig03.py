"""Margin curves through training, with and without BatchNorm, with and without L2: fig. 3, and 13 and 14 by class."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from margin_jax.run_folder.read import Recorded
from plots import style
from plots.runs import curves, read
from plots.runs.curves import draw_curve
from plots.style import Lacking
from plots.sweeps.flatness import BY, name_of
from plots.sweeps.read import Condition, Sweep, read_kinds, where

_CURVES = 40  # in a panel of half a page


@style.styled
def draw_figure(kinds: dict[tuple[float, ...], Condition], data: str) -> Figure:
    """Draws the margin curves of the first network of every kind.

    Args:
      kinds: by (BatchNorm, L2).
      data: the name of the data set.

    Returns:
      The figure: networks with BatchNorm above, L2 growing to the right; each panel holds a line per epoch drawn, with
      gid "epoch-E", on a scale of its own, since rho is.
    """
    lines = sorted({values[0] for values in kinds}, reverse=True)
    decays = sorted({values[1] for values in kinds})
    fig = style.new_figure(style.DOUBLE, 0.7 + 2.1 * len(lines))
    panels = fig.subplots(len(lines), len(decays), sharex=True, squeeze=False)
    shown = [kind for kind in kinds.values() if kind.runs]
    colours = style.epoch_colours([epoch for kind in shown for epoch in kind.runs[0].margins.epochs])
    for values, kind in kinds.items():
        axes = panels[lines.index(values[0]), decays.index(values[1])]
        axes.set_title(name_of(*values) + ("" if kind.runs else ": diverged"), pad=3)
        if kind.runs:
            _curves(axes, kind.runs[0], colours)
    examples = shown[0].runs[0].margins.ids.size
    fig.supxlabel(f"rank $n/N$, $N$ = {examples:,} training examples", fontsize=8)
    seeds = sorted({kind.seeds[0] for kind in shown})
    several = f", the first of {max(len(kind.seeds) for kind in kinds.values())}" * any(len(k.seeds) > 1 for k in shown)
    fig.suptitle(f"Margin distribution over time on {data}, seed {', '.join(map(str, seeds))}{several}")
    style.epoch_colourbar(fig, colours, panels.ravel())
    return fig


def _curves(axes: Axes, run: Recorded, colours: object) -> None:
    epochs, drawn = run.margins.epochs, []
    rows = read.choose_epochs(epochs, run.separation, _CURVES)
    for row in rows:
        _, shown = draw_curve(axes, run.normalised(row), colours.to_rgba(epochs[row]), int(epochs[row]),
                              run.separation, last=row == rows[-1])
        drawn += [(int(epochs[row]), shown[0], shown[-1])] if shown.size else []
    axes.axhline(0, color=style.GREY, linewidth=0.6, zorder=1)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    limits, beyond = style.frame(axes, drawn)
    axes.set_ylabel(style.margin_axis(axes.yaxis, limits))
    # Curves rise to the right: the upper left is empty.
    axes.legend(loc="upper left", fontsize=6, borderpad=0.1, labelspacing=0.2, title_fontsize=6,
                title="not separated" if run.separation is None else None)
    if beyond:
        axes.set_xlabel(beyond.strip(), fontsize=6)


def draw_sweep(sweep: Sweep) -> Figure:
    """Draws figure 3 of a sweep over BatchNorm and L2; raises OtherSweep for another one."""
    kinds = read_kinds(sweep, BY, "figure 3")
    if not any(kind.runs for kind in kinds.values()):
        raise Lacking(f"every network of {sweep.workdir} diverged; take a smaller learning rate")
    return draw_figure(kinds, where(sweep.config))


@style.styled
def draw_by_class(sweep: Sweep, batch_norm: bool, name: str) -> Figure:
    """Draws figure 13, or 14 without BatchNorm: the curves of every class, of the first network with L2.

    Of several strengths the smallest one above 0 is taken, without any the network without L2.

    Raises:
      Lacking: no network of this kind.
      OtherSweep: not a sweep over BatchNorm and L2.
    """
    kinds = {values[1]: kind for values, kind in read_kinds(sweep, BY, name).items()
             if values[0] == batch_norm and kind.runs}
    if not kinds:
        raise Lacking(f"{name} shows a network {'with' if batch_norm else 'without'} BatchNorm, and {sweep.workdir} "
                      "has none; set sweep.batch_norms=(True, False)")
    decay = min((decay for decay in kinds if decay > 0), default=0.0)
    run, seed = kinds[decay].runs[0], kinds[decay].seeds[0]
    fig = curves.draw_per_class(run.margins.epochs, run.normalised, run.margins.labels, run.class_names,
                                run.separation)
    title = f"{where(sweep.config)}, {name_of(batch_norm, decay)}, seed {seed}"
    if fig.legends:
        fig.legends[0].set_title(title, prop={"size": 8})
    else:
        fig.suptitle(title)
    return fig
