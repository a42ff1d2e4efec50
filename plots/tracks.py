"""Margins of the smallest, middle and largest training examples through training, ranked at its end (fig. 7, 15-18)."""

from typing import NamedTuple

import numpy as np

from plots import order, ranks
from plots.recorded import Lacking, Recorded

GROUPS = ("smallest", "middle", "largest")
GROUP = 200  # examples of each
FEWEST = 3  # epochs: two make no course
MOST = 200  # epochs drawn: more would be less than a pixel apart


class Tracks(NamedTuple):
    """Three groups of training examples by their margins at the last recorded epoch.

    Attributes:
      epochs: (E,) chosen among the recorded ones, ascending.
      ids: by group, (g,) from the smallest final margin on.
      margins: by group, (E, g) float64 normalised margins, columns as in `ids`; NaN where there is no number.
      separation: the epoch of data separation, or None.
      examples: N.
    """

    epochs: np.ndarray
    ids: dict[str, np.ndarray]
    margins: dict[str, np.ndarray]
    separation: int | None
    examples: int


def need_course(run: Recorded, what: str) -> None:
    """Checks that a run can show how margins come to where they end.

    Args:
      run: the run.
      what: needs the course, such as "figure 7".

    Raises:
      Lacking: too few epochs with margins, or a run that left examples out, whose margins it trained no more.
    """
    if run.margins.epochs.size < FEWEST:
        raise Lacking(f"{what} shows margins through training: {run.workdir} should have kept them at {FEWEST} epochs "
                      f"or more, got {run.margins.epochs.size}; train with a smaller record.margins_every")
    if run.removals:
        raise Lacking(f"{what} follows all training examples to the end, and {run.workdir} left some out; train with "
                      "compress.keep=0")


def gather(run: Recorded, what: str = "figure 7") -> Tracks:
    """Picks the groups, of 200 examples or a third of all, and reads their margins record by record.

    Args:
      run: the run.
      what: the figure, for messages.

    Raises:
      Lacking: as of `need_course`, or fewer than three finite margins at the end.
    """
    need_course(run, what)
    stored = run.margins
    final = ranks.ascending(np.asarray(stored.margins[-1]), stored.ids)
    size = min(GROUP, final.size // len(GROUPS))
    if not size:
        raise Lacking(f"{what} ranks the margins of the last recorded epoch, of which {final.size} are finite")
    starts = (0, (final.size - size) // 2, final.size - size)
    places = {name: final[start:start + size] for name, start in zip(GROUPS, starts)}
    rows = ranks.choose_epochs(stored.epochs, run.separation, MOST)
    margins = {name: np.empty((rows.size, size)) for name in GROUPS}
    for to, row in enumerate(rows):
        values = run.normalised(row)
        for name, chosen in places.items():
            margins[name][to] = values[chosen]
    return Tracks(stored.epochs[rows], {name: stored.ids[chosen] for name, chosen in places.items()}, margins,
                  run.separation, stored.ids.size)


def in_order(tracks: Tracks, low: str, high: str) -> np.ndarray:
    """How far two groups are in their final order at each epoch, in [0, 1]; 1/2 is chance, as if drawn at random.

    Args:
      tracks: the groups.
      low: the group with smaller margins at the end.
      high: the one with larger ones.

    Returns:
      (E,) the share of pairs, one example of each group, of which the first has the smaller margin; a tie counts half.
      NaN where no pair is finite.
    """
    shares = np.full(tracks.epochs.size, np.nan)
    for row, (first, second) in enumerate(zip(tracks.margins[low], tracks.margins[high])):
        first, second = first[np.isfinite(first)], np.sort(second[np.isfinite(second)])
        if first.size and second.size:
            above = second.size - np.searchsorted(second, first, "right")
            level = np.searchsorted(second, first, "right") - np.searchsorted(second, first, "left")
            shares[row] = np.mean(above + level / 2) / second.size
    return shares


def rank_correlation(tracks: Tracks, group: str) -> np.ndarray:
    """Spearman's correlation (E,) of the margins of a group with its final ones; NaN where it is undefined."""
    values = tracks.margins[group]
    return np.array([order.spearman(row, values[-1]) for row in values])
