"""What tables and figures call the measures of a sweep, and which of them belong together."""

from typing import NamedTuple

AREA, COUNT, MARGIN, LOSS, NORM, OVER = ("area under the margin curve", "small-margin count", "margins", "loss",
                                         "norms", "norms over margin")
KINDS = (AREA, COUNT, MARGIN, LOSS, NORM, OVER)
OTHER = "other"
_NAMES = {
    "auc_mean": ("AUC mean", AREA), "auc_ramp": ("AUC ramp", AREA), "auc_tail": ("AUC tail", AREA),
    "small_margin_count": ("count", COUNT), "margin_smallest": ("smallest margin", MARGIN),
    "margin_p10": ("10th percentile", MARGIN), "margin_median": ("median margin", MARGIN),
    "inverse_margin": ("1 / (raw 10th percentile)²", MARGIN), "training_loss": ("training loss", LOSS),
    "normalised_loss_excess": ("loss of normalised net", LOSS), "log_frobenius_product": ("Frobenius product", NORM),
    "frobenius_sum": ("Frobenius sum", NORM), "log_spectral_product": ("spectral product", NORM),
    "log_spectral_complexity": ("spectral complexity", NORM), "log_path_norm": ("path norm", NORM),
    "parameter_norm": ("parameter norm", NORM), "distance_from_init": ("distance from start", NORM),
    "relative_distance_from_init": ("relative distance from start", NORM),
}
_UNITS = {"absolute": "", "pooled": " pooled", "own": " own"}
MODES = {"all": "all layers", "conv": "convolutional layers", "batch_norm": "BatchNorm and dense layers",
         "operator": "spectral norms of all layers"}
UNITS_NOTE = ("γ pooled: in multiples of the median over all networks; own: of each network's own median; else "
              "absolute.")


class Name(NamedTuple):
    """A key such as "conv:auc_ramp_own@0.5" in its parts.

    Attributes:
      label: "AUC ramp, γ 0.5 own".
      kind: one of `KINDS`, or `OTHER`.
      mode: of rho where it is not that of the config: "conv", else "".
      family: the key without mode and gamma: "auc_ramp_own".
      gamma: 0.5; None without one.
    """

    label: str
    kind: str
    mode: str
    family: str
    gamma: float | None


def parse(key: str) -> Name:
    """Names a measure by its key in networks.csv or audit.csv; one that is unknown is called by its key."""
    mode, _, rest = key.rpartition(":")
    family, _, gamma = rest.partition("@")
    base, _, unit = family.rpartition("_")
    if gamma and unit in _UNITS and base in _NAMES:
        label, kind = _NAMES[base]
        return Name(f"{label}, γ {gamma}{_UNITS[unit]}", kind, mode, family, float(gamma))
    if family.endswith("_over_margin"):
        label, kind = _NAMES.get(family.removesuffix("_over_margin"), (family, OTHER))
        # Frobenius and path norms are named as the root or the square of what the source has: the order is the same.
        known = kind == NORM
        return Name(f"{label} / margin" if known else family, OVER if known else OTHER, mode, family, None)
    label, kind = _NAMES.get(family, (family, OTHER))
    return Name(label, kind, mode, family, None)
