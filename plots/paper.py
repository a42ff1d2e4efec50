"""Numbers of the paper printed beside ours (Banburski et al. 2021), and what a 95% interval says of its claims.

Drops are in points; CIFAR-10 if nothing is said.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from margin_jax.statistics.estimates import Estimate

MODELS = {"convnet": "ConvNet", "densenet": "DenseNet-BC"}
FAILED = math.nan  # the table prints an X
_RATES = (0.1, 0.01, 0.001)
# Table 1, test accuracy lost by keeping 200: model, optimiser, batch size, then a drop for each of `_RATES`.
_TABLE1 = {
    ("convnet", "sgd"): {200: (18.29, 25.15, FAILED), 100: (2.55, 22.18, 11.81), 50: (1.68, 4.84, 11.55),
                         20: (0.45, 4.21, 8.99), 10: (1.75, 0.86, 6.48), 1: (0.18, 0.46, 1.91)},
    ("densenet", "adam"): {200: (7.25, 2.78, 4.11), 100: (1.88, 0.95, 2.70), 50: (0.12, 0.85, 1.72)},
    ("densenet", "sgd"): {200: (1.54, 5.99, 33.31), 100: (0.72, 3.94, 3.60), 50: (0.11, 2.38, 4.08)},
}
TABLE1_NOTES = {
    ("convnet", "sgd"): "The paper prints 11.810 at batch size 100, learning rate 0.001, read here as 11.81, and X at "
                        "batch size 200, learning rate 0.001, without a reason.",
}
TABLE1_KEPT = 200
# Figures 5 and 10: drop at a count kept, and the test accuracy before the removal where it is given (section C.1).
IMMEDIATE_DROP = {"convnet": {200: 2.89}, "densenet": {200: 4.49}}
IMMEDIATE_ACCURACY = {"densenet": 82.7}
# Figure 4 and section 5: rise of the test error since before the first removal, by init std and count kept.
CONTINUOUS_RISE = {0.01: {100: "+0.68", 20: "about +2"}, 0.09: {100: "+1.43", 20: "about +2"}}


def table1_drop(model: str, optimizer: str, learning_rate: float, batch_size: int) -> float | None:
    """The drop in percentage points that table 1 gives for a cell: NaN for its X, None for a cell it lacks."""
    drops = _TABLE1.get((model, optimizer), {}).get(int(batch_size))
    rate = next((place for place, rate in enumerate(_RATES) if math.isclose(rate, learning_rate)), None)
    return None if drops is None or rate is None else drops[rate]
# Figure 2 and section 4.2, 100 networks on CIFAR-2: claims without a number, the gammas, how many curves and bins.
FIG02_CLAIMS = {"curves": "smaller test error, higher and steeper curve",
                "count": "more small margins, larger test error", "auc": "larger area, smaller test error",
                "init_std": "larger std, larger test error"}
FIG02_CURVES, FIG02_BINS = 7, 10
FIG02_GAMMAS = {"count": 0.01, "auc": 0.1}  # of normalised margins, rho over convolutional layers
# Figure 6 and section 5, two networks on CIFAR-2 of init std 0.01: test errors, overlap@200 (text and caption differ).
FIG06_ERRORS = (3.54, 4.65)
FIG06_OVERLAP = (60, 63)
# Figures 7 and 15: the epoch of data separation at batch size 1. Figures 8 and 9: the last epochs.
FIG07_SEPARATION, FIG15_SEPARATION = 40, 60
FIG08_LAST, FIG09_LAST = 60, 100
# Share (%) of the final smallest margins present at data separation, by their number; section 5 repeats the 40.
SUPPORT_PRESENT = {"fig08": {20: 55}, "fig09": {20: 85, 100: 40}}
# Figures 1 and 12, natural and random labels on CIFAR-10 (sections 4.1 and C.3): claims, and how many of the 100
# smallest margins the first of ten bins holds, natural and random.
FIG01_CLAIM = "the margins for all datapoints are larger for natural labels than for randomized labels"
FIG01_BINS_CLAIM = "the first of ten bins holds fewer of the 100 smallest margins for natural labels"
FIG01_FIRST_BIN = (1, 14)
FIG12_CLAIMS = {"larger": "the smallest margin is larger for natural labels",
                "later": "random labels take longer to separate"}
# Figure 3, section 4.3: a claim without a number.
FIG03_CLAIM = "margins flatten with both BatchNorm and L2, and not with one or none of them"
# Figure 11 and section C.2, replace-one stability: claims without numbers; epochs and data set are not given either.
FIG11_CLAIMS = {"d_test_loss": "replacing the point of smallest margin changes the test loss more than a random one",
                "d_rho": "replacing the point of smallest margin changes rho more than a random one"}
FIG11_TRIALS = 1000


REPRODUCED, NOT, OPEN = "reproduced", "not reproduced", "open"


def above(estimate: Estimate) -> str:
    """The verdict on the claim that a quantity is above 0: open where its interval holds 0, or there is none."""
    return REPRODUCED if estimate.low > 0 else NOT if estimate.high < 0 else OPEN  # NaN is neither


def inside(stated: float, estimate: Estimate) -> str:
    """The verdict on a number that the paper states: reproduced where it lies in our interval."""
    return REPRODUCED if estimate.low <= stated <= estimate.high else NOT


def together(verdicts: Sequence[str]) -> str:
    """The verdict on a claim made of several: all of them have to hold, one that does not is enough to fail."""
    return NOT if NOT in verdicts else REPRODUCED if verdicts and set(verdicts) == {REPRODUCED} else OPEN


def plain(number: float) -> float | None:
    """A number for JSON, which has neither NaN nor infinity."""
    return float(number) if np.isfinite(number) else None


def row(mean: Estimate) -> dict[str, Any]:
    """A mean for JSON: mean, ends and count; None for what there is not."""
    return {"mean": plain(mean.value), "low": plain(mean.low), "high": plain(mean.high), "n": int(mean.n)}
