"""The numbers that judge what the paper says of predicting the smallest margins, as JSON."""

import json
from typing import Any

import numpy as np
import scipy  # scipy.stats is loaded at its first use: it takes a second, which a start need not pay

from plots import claims, final_support, paper
from plots.claims import plain
from plots.final_support import HALF_WAY, Prediction
from plots.recorded import Recorded

EARLY = "There is no clear way of predicting which datapoints will have smallest margin before data separation."


def numbers(run: Recorded, found: Prediction) -> str:
    """The courses, the values at separation and at shares of training, and the claims, as JSON.

    Args:
      run: what was compared, for Kendall's correlation, which is told at those moments alone.
      found: the comparison.
    """
    content = {
        "examples": found.examples, "compared_with_epoch": int(found.epochs[-1]), "separation_epoch": found.separation,
        "moments": {name: _moment(run, found, row) for name, row in final_support.moments(found).items()},
        "claims": [_early(found), *_present(found)],
        "chance_percent": {str(k): band._asdict() for k, band in found.chance.items()},
        "intervals": "95%, of one run: of a correlation over its examples (Bonett and Wright 2000), of a share of k "
                     "examples Wilson's; chance is the hypergeometric range of k examples drawn at random",
        "epochs": found.epochs.tolist(), "spearman": [plain(value) for value in found.correlation],
        "overlap_percent": {str(k): values.tolist() for k, values in found.overlaps.items()},
    }
    return f"{json.dumps(content, indent=2)}\n"


def _moment(run: Recorded, found: Prediction, row: int) -> dict[str, Any]:
    rho, last = float(found.correlation[row]), np.asarray(run.margins.margins[-1])
    values = np.asarray(run.margins.margins[row])
    both = np.isfinite(values) & np.isfinite(last)
    tau = float(scipy.stats.kendalltau(values[both], last[both]).statistic) if np.isfinite(rho) else np.nan
    interval = final_support.correlation_interval(rho, int(both.sum()))
    return {"epoch": int(found.epochs[row]), "spearman": plain(rho),
            "spearman_interval": [plain(end) for end in interval],
            "kendall": plain(tau), "overlap_percent": {str(k): _share(found, k, row) for k in found.overlaps}}


def _share(found: Prediction, k: int, row: int) -> dict[str, Any]:
    value, band = float(found.overlaps[k][row]), found.chance[k]
    low, high = final_support.share_interval(value, k)
    against = "above" if value > band.high else "below" if value < band.low else "within"
    return {"value": value, "low": low, "high": high, "chance": against}


def _early(found: Prediction) -> dict[str, Any]:
    """The claim on predictions before separation, by the overlaps half way there: does any lie above chance?"""
    row = final_support.moments(found).get(HALF_WAY)
    if row is None:
        return {"claim": EARLY, "verdict": claims.OPEN, "because": "the data did not separate"}
    above = [k for k, values in found.overlaps.items() if values[row] > found.chance[k].high]
    told = ", ".join(f"{found.overlaps[k][row]:.0f}% of {k}" for k in found.overlaps)
    return {"claim": EARLY, "verdict": claims.NOT if above else claims.REPRODUCED,
            "because": f"at epoch {found.epochs[row]}, half way to separation, {told} final smallest margins are among "
                       f"as many smallest, above the 95% range of chance for {', '.join(map(str, above)) or 'none'}; "
                       f"rank correlation of all margins with the final ones {found.correlation[row]:.2f}"}


def _present(found: Prediction) -> list[dict[str, Any]]:
    """The paper's shares present at separation: reproduced where they lie in our interval."""
    rows = []
    for figure, shares in paper.SUPPORT_PRESENT.items():
        for k, share in shares.items():
            row: dict[str, Any] = {"claim": f"{share}% of the final {k} smallest margins are present at separation",
                                   "figure": figure, "paper_percent": share, "verdict": claims.OPEN}
            if found.separation is not None and k in found.overlaps:
                ours = _share(found, k, found.row(found.separation))
                row |= {"ours_percent": ours, "verdict": claims.inside(share, (ours["low"], ours["high"]))}
            rows.append(row)
    return rows
