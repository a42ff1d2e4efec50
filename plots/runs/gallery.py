"""Pictures of the training examples with the smallest margins at the last recorded epoch (fig. 4, 8)."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure, FigureBase

from margin_jax.errors import InputError
from margin_jax.run_folder.read import Recorded
from plots import style
from plots.runs import read

if TYPE_CHECKING:
    from margin_jax.data.dataset import Dataset

COUNT, COLUMNS = 20, 10


class Smallest(NamedTuple):
    """The examples of a gallery, from the smallest margin on: ids, names of labels, normalised margins if known."""

    epoch: int
    ids: np.ndarray
    labels: list[str]
    true_labels: list[str]
    margins: np.ndarray | None


@style.styled
def draw_figure(images: np.ndarray, shown: Smallest, value_range: tuple[float, float], title: str = "") -> Figure:
    """Draws pictures with id, label and normalised margin below each; the true label too where another was trained on.

    Args:
      images: (k, H, W, C) of any number type; one channel is grey, three are red, green and blue, else their mean.
      shown: k examples, in the order of `images`.
      value_range: what is black and what is white.
      title: above the pictures; a power of ten left out of the margins should be named there, see `style.unit`.

    Returns:
      The figure; its first k axes hold one picture each.
    """
    fig = style.new_figure(style.DOUBLE, height(shown))
    draw_pictures(fig, images, shown, value_range, title)
    return fig


def height(shown: Smallest) -> float:
    """Inches that the pictures take with their texts and a title."""
    randomised = any(label != true for label, true in zip(shown.labels, shown.true_labels))
    return 0.3 + _lines(shown) * (1.04 + 0.1 * randomised - 0.1 * (shown.margins is None))


def _lines(shown: Smallest) -> int:
    return max(math.ceil(len(shown.ids) / COLUMNS), 1)


def draw_pictures(fig: FigureBase, images: np.ndarray, shown: Smallest, value_range: tuple[float, float],
                  title: str) -> None:
    """Draws the pictures into a figure or a part of one; arguments as in `draw_figure`."""
    panels = fig.subplots(_lines(shown), COLUMNS, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
        axes.set_anchor("N")
    power = 0 if shown.margins is None else style.power_of_ten(shown.margins)
    for place, (axes, image) in enumerate(zip(panels, to_unit(images, value_range))):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        label, true = shown.labels[place], shown.true_labels[place]
        text = [f"id {shown.ids[place]}", _short(label)] + [f"true: {_short(true)}"] * (label != true)
        if shown.margins is not None:
            text.append(style.signed(f"{shown.margins[place] / 10.0**power:#.3g}"))
        axes.text(0.5, -0.06, "\n".join(text), transform=axes.transAxes, ha="center", va="top", fontsize=6,
                  linespacing=1.15, parse_math=False)
    fig.suptitle(title)


def _short(name: str, most: int = 10) -> str:
    return name if len(name) <= most else f"{name[:most - 1]}…"


def to_unit(images: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Pictures in [0, 1]: (k, H, W, 3) where there are three channels, else (k, H, W), the mean of them."""
    low, high = value_range
    unit = np.clip((images.astype(np.float64) - low) / ((high - low) or 1.0), 0.0, 1.0)
    return unit if images.shape[-1] == 3 else unit.mean(axis=-1)


def smallest(run: Recorded, count: int = COUNT) -> Smallest:
    """The kept examples of a run with the smallest margins at the last recorded epoch; ties by id, NaN left out."""
    last, mask = run.margins.epochs.size - 1, run.mask
    kept = np.flatnonzero(mask["mask"])
    margins = run.normalised(last)
    rows = kept[read.ranked_rows(margins[kept], mask["ids"][kept])[:count]]

    def names(labels: np.ndarray) -> list[str]:
        return [run.class_names[label] for label in labels[rows]]

    return Smallest(int(run.margins.epochs[last]), mask["ids"][rows], names(mask["labels"]),
                    names(mask["true_labels"]), margins[rows])


def find_data(keys: Mapping[str, Any], data_dir: str = "") -> "Dataset":
    """The data set that the section `data` of a config names; raises InputError where there is none."""
    from margin_jax.data.load import load_data as load  # here: the other figures need no reader of data sets

    return load(keys["name"], data_dir=data_dir or keys["dir"], cache_dir=keys["cache_dir"],
                classes=keys["classes"], examples=keys.get("examples", 0),  # absent in runs of earlier versions
                random_fraction=keys["random_fraction"], random_seed=keys["random_seed"])


def read_pictures(run: Recorded, ids: np.ndarray, data_dir: str = "") -> tuple[np.ndarray, tuple[float, float]]:
    """Reads the pictures of some training examples, and the smallest and largest value in the training set.

    Args:
      run: whose config names the data set.
      ids: (k,) of training examples.
      data_dir: where the data lie now, if not where the config says.

    Raises:
      InputError: no data there, or not those the run was trained on.
    """
    keys = run.config["data"]
    train = find_data(keys, data_dir).train
    if not all(np.array_equal(getattr(train, name), run.mask[name]) for name in ("ids", "labels", "true_labels")):
        raise InputError(f"the training examples of {keys['name']!r} found now are not those of the run in "
                         f"{run.workdir}: ids or labels differ; name the folder of the same data with --data_dir")
    return train.images[np.searchsorted(train.ids, ids)], (float(train.images.min()), float(train.images.max()))


def draw_run(run: Recorded, data_dir: str = "", count: int = COUNT) -> Figure:
    """Draws the pictures of a run folder's smallest kept margins; raises InputError where the data are not found."""
    shown = smallest(run, count)
    images, value_range = read_pictures(run, shown.ids, data_dir)
    kept, power = run.mask["mask"], style.power_of_ten(shown.margins)
    left_out = int(np.isnan(run.normalised(run.margins.epochs.size - 1))[kept].sum())
    note = f" ({left_out:,} not finite, left out)" if left_out else ""
    title = (f"{len(shown.ids)} smallest normalised margins{style.unit(power)} of {int(kept.sum()):,} "
             f"{'kept ' if run.removals else ''}training examples, epoch {shown.epoch}{note}")
    return draw_figure(images, shown, value_range, title)


def write_ids(run: Recorded, folder: pathlib.Path) -> pathlib.Path:
    """Writes gallery.json: what the pictures show without the pictures, which may not be passed on as ids may."""
    fields: dict[str, int | Sequence[object]] = smallest(run)._asdict()
    text = json.dumps({name: value.tolist() if isinstance(value, np.ndarray) else value
                       for name, value in fields.items()}, indent=2)
    return style.write(folder / "gallery.json", f"{text}\n".encode())
