"""Pictures of the last examples that a continuous removal keeps, for each std of the initial weights (fig. 4)."""

import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from margin_jax import records, tables
from margin_jax.errors import InputError
from plots import gallery, networks, rules, style

COUNT = 20


class Kept(NamedTuple):
    """What one network kept.

    Attributes:
      optimizer: its optimiser after the removal.
      init_std: std of its initial weights; NaN if not normal.
      seed: of the network.
      kept: how many were left.
      ids: of these, the smallest margins, ascending.
    """

    optimizer: str
    init_std: float
    seed: int
    kept: int
    ids: np.ndarray


def choose(entries: Sequence[dict[str, Any]], count: int = COUNT) -> list[Kept]:
    """The entry of each network that kept `count` by the paper's rule, or else the next larger number; first seed.

    Args:
      entries: what `margin_jax.tables.read_kept_ids` gives.
      count: how many examples to show; networks that have not come down to it show their `count` smallest margins.

    Returns:
      In the order of `plots.networks`; without networks that removed nothing by that rule.
    """
    found: dict[str, dict[str, Any]] = {}
    keys = []
    for entry in entries:
        if entry["rule"] != rules.MAIN or entry["scope"] == rules.SCRATCH or entry["kept"] < count:
            continue
        # A std that is missing may come as null, as an empty text or as NaN.
        std = float(entry["init_std"]) if isinstance(entry["init_std"], (int, float)) else math.nan
        keys.append((entry["optimizer"], std))
        best = found.setdefault(str(keys[-1]), entry)
        if (entry["seed"], entry["kept"]) < (best["seed"], best["kept"]):
            found[str(keys[-1])] = entry
    chosen = [(key, found[str(key)]) for key in networks.in_order(keys)]
    return [Kept(*key, entry["seed"], entry["kept"], np.array(entry["ids"])[:count]) for key, entry in chosen]


@style.styled
def figure(shown: Sequence[gallery.Smallest], pictures: Sequence[np.ndarray], value_range: tuple[float, float],
           titles: Sequence[str]) -> Figure:
    """Draws the pictures of every network below one another.

    Args:
      shown: of each network, its k examples.
      pictures: of each network, (k, H, W, C).
      value_range: what is black and what is white.
      titles: one above the pictures of each network.

    Returns:
      The figure; its axes hold one picture each, network by network.
    """
    heights = [gallery.height(one) for one in shown]
    fig = style.new_figure(style.DOUBLE, sum(heights))
    parts = np.atleast_1d(fig.subfigures(len(shown), 1, height_ratios=heights))
    for part, one, images, title in zip(parts, shown, pictures, titles):
        gallery.fill(part, images, one, value_range, title)
    return fig


def from_folder(workdir: pathlib.Path, data_dir: str = "") -> Figure:
    """Draws the last examples kept; raises InputError where the data are not found or are others."""
    from margin_jax.data.split import digest  # here, so that the other figures do not wait for the readers of data sets

    description = records.read_json(workdir, "config.json")
    chosen = choose(tables.read_kept_ids(workdir))
    if not chosen:
        raise InputError(f"{workdir}: no network has removed anything by the rule {rules.MAIN!r} yet; wait until it "
                         "has")
    dataset = gallery.load_data(description["config"]["data"], data_dir)
    if digest(dataset) != description["data"]["digest"]:
        raise InputError(f"the data set {dataset.name!r} found now is not that of {workdir}: its content differs; name "
                         "the folder of the same data with --data_dir")
    train, shown = dataset.train, []
    for one in chosen:
        at = np.searchsorted(train.ids, one.ids)
        labels, true = ([dataset.class_names[k] for k in of[at]] for of in (train.labels, train.true_labels))
        shown.append(gallery.Smallest(0, one.ids, labels, true, None))
    pictures = [train.images[np.searchsorted(train.ids, one.ids)] for one in chosen]
    names = networks.names([(one.optimizer, one.init_std) for one in chosen])
    titles = [f"{name}: {f'smallest {one.ids.size} of ' if one.kept > one.ids.size else ''}the last {one.kept} kept, "
              f"from the smallest margin on (seed {one.seed})" for name, one in zip(names, chosen)]
    return figure(shown, pictures, (float(train.images.min()), float(train.images.max())), titles)


def write_ids(workdir: pathlib.Path, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes the ids of the pictures, which may be passed on where the pictures may not."""
    listed = [one._asdict() | {"init_std": None if math.isnan(one.init_std) else one.init_std,
                               "ids": one.ids.tolist()} for one in choose(tables.read_kept_ids(workdir))]
    return style.write(folder / f"{name}.json", f"{json.dumps(listed, indent=2)}\n".encode())
