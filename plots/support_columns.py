"""The final smallest margins, ranked at every earlier epoch in a column of their own (fig. 8, 9): places and ids."""

import json
from typing import Any, NamedTuple

import numpy as np

from plots import claims, final_support, paper, ranks
from plots.recorded import Lacking, Recorded
from plots.tracks import need_course

MOST = 30  # columns: more would be smaller than a picture can be
COUNTS = {"fig08": 20, "fig09": 100}
PAPER_LAST = {"fig08": paper.FIG08_LAST, "fig09": paper.FIG09_LAST}


class Columns(NamedTuple):
    """Where the final support set stood at each recorded epoch.

    Attributes:
      name: "fig08" or "fig09".
      epochs: (E,) of all records, ascending.
      rows: (c,) which of them are drawn.
      ids: (k,) of the final smallest margins, from the smallest on; ties by id.
      places: (E, k) at [e, r] which of `ids` had rank r at epoch e, as an index into them; -1 where it was another
        example.
      separation: the epoch of data separation, or None.
      examples: N.
    """

    name: str
    epochs: np.ndarray
    rows: np.ndarray
    ids: np.ndarray
    places: np.ndarray
    separation: int | None
    examples: int

    @property
    def present(self) -> np.ndarray:
        """Share (E,) in percent of the final support set among as many smallest margins."""
        return 100 * (self.places >= 0).mean(axis=1)


def gather(run: Recorded, name: str) -> Columns:
    """Ranks every record of a run, one at a time.

    Args:
      run: the run.
      name: a key of `COUNTS`.

    Raises:
      Lacking: as of `need_course`, or fewer finite margins at the end than wanted.
    """
    need_course(run, f"figure {int(name[3:])}")
    stored, k = run.margins, COUNTS[name]
    final = ranks.ascending(np.asarray(stored.margins[-1]), stored.ids)[:k]
    if final.size < k:
        raise Lacking(f"figure {int(name[3:])} shows the {k} smallest margins of the last recorded epoch, of which "
                      f"{final.size} are finite")
    final_rank = np.full(stored.ids.size, -1)
    final_rank[final] = np.arange(k)
    places = np.full((stored.epochs.size, k), -1)
    for row, values in enumerate(stored.margins):
        smallest = ranks.ascending(np.asarray(values), stored.ids)[:k]
        places[row, :smallest.size] = final_rank[smallest]
    return Columns(name, stored.epochs, ranks.choose_epochs(stored.epochs, run.separation, MOST), stored.ids[final],
                   places, run.separation, stored.ids.size)


def at_separation(found: Columns) -> float | None:
    """Share in percent present at separation; None for a run that did not separate."""
    if found.separation is None:
        return None
    return float(found.present[final_support.row_at(found.epochs, found.separation)])


def numbers(found: Columns) -> str:
    """The final ids, those present at each epoch by rank, and the share at separation beside the paper's, as JSON."""
    k, share = found.ids.size, at_separation(found)
    interval = None if share is None else final_support.share_interval(share, k)
    wanted = paper.SUPPORT_PRESENT[found.name][k]
    verdict = claims.OPEN if interval is None else claims.inside(wanted, interval)
    content: dict[str, Any] = {
        "examples": found.examples, "final_epoch": int(found.epochs[-1]), "final_ids": found.ids.tolist(),
        "separation_epoch": found.separation, "percent_present_at_separation": share,
        "wilson_interval": interval, "chance_percent": final_support.chance(k, found.examples)._asdict(),
        "paper": {"percent_present_at_separation": wanted, "final_epoch": PAPER_LAST[found.name]}, "verdict": verdict,
        "epochs": found.epochs.tolist(), "percent_present": found.present.tolist(),
        "ids_present_by_rank": [found.ids[row[row >= 0]].tolist() for row in found.places],
    }
    return f"{json.dumps(content, indent=2)}\n"
