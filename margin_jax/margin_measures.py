"""Predictors of the test error that look at the training margins, in float64.

rho is the product of many norms and exceeds float32 for deep networks, so that it comes as its logarithm, and the
functions of `margin_jax.distribution` run with 64 bits: what is here takes and gives numbers on the host.
"""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from margin_jax import distribution, norms
from margin_jax.margins import margins
from margin_jax.scores import cross_entropy

UNITS = ("absolute", "pooled", "own")  # of gamma
STATISTICS = (distribution.auc_ramp, distribution.auc_tail, distribution.small_margin_count)


class Gammas(NamedTuple):
    """The gammas to report.

    Attributes:
      absolute: in units of the normalised margin.
      relative: in multiples of a median, each once of the pooled and once of the network's own.
    """

    absolute: tuple[float, ...] = (0.01, 0.1)
    relative: tuple[float, ...] = (0.1, 0.5, 1.0)


def log_rhos(params: Any, spectral: jax.Array | None = None) -> dict[str, float]:
    """ln rho of one network under every norm that it has, in float64.

    Args:
      params: parameter pytree.
      spectral: (K,) of `norm_measures.network_norms`; if finite it adds "operator", the product of the spectral norms
        of the layers as applied, BatchNorm folded.

    Returns:
      By name: "all", "conv" and "batch_norm" of `norms.rho_factors` with Frobenius norms, as far as the parameters have
      such layers, and "operator". -inf for a rho of 0.
    """
    factors = {} if spectral is None or not np.isfinite(spectral).all() else {"operator": spectral}
    for mode in norms.MODES[1:]:
        try:
            factors[mode] = norms.rho_factors(params, mode)
        except ValueError:  # no layer of that kind
            continue
    with np.errstate(divide="ignore"):
        return {mode: float(np.log(np.asarray(values, np.float64)).sum()) for mode, values in factors.items()}


_margins, _losses = jax.jit(margins), jax.jit(jax.vmap(cross_entropy))


@jax.jit
def _statistics(curve: jax.Array, gamma: jax.Array) -> list[jax.Array]:
    return [statistic(curve, gamma) for statistic in STATISTICS]


def raw_margins(logits: jax.Array, labels: jax.Array) -> np.ndarray:
    """Margins (N,) float64 from logits (N, C) and labels (N,); ValueError for logits of another shape."""
    with jax.enable_x64(True):
        return np.asarray(_margins(np.asarray(logits, np.float64), np.asarray(labels)))


def tenth_percentile(values: np.ndarray) -> float:
    """gamma_hat of Jiang et al. 2020: the 10th percentile of raw margins (N,), between neighbours by their share."""
    return float(np.quantile(np.asarray(values, np.float64), 0.1))


def _divided(values: np.ndarray, log_divisor: float) -> np.ndarray:
    """values / exp(log_divisor), NaN where the divisor is beyond float64."""
    with np.errstate(over="ignore"):
        factor = np.exp(-log_divisor)
    return values * (factor if 0 < factor < math.inf else math.nan)


def loss_excess(logits: jax.Array, labels: jax.Array, log_rho: float) -> float:
    """Cross-entropy of the normalised network f / rho (Liao et al. 2018) less ln C, the loss of equal logits.

    The subtraction changes the order of no two networks. Without it a rho of 1e17 or more would round every loss to
    ln C: the excess is about minus a mean margin over rho.

    Args:
      logits: (N, C) float of the training examples.
      labels: (N,) integer.
      log_rho: natural logarithm of rho.

    Returns:
      Mean over examples, in nats, >= -ln C.
    """
    logits = np.asarray(logits, np.float64)
    gaps = _divided(logits - np.take_along_axis(logits, np.asarray(labels)[:, None], 1), log_rho)
    top = gaps.max(1)
    return float(np.mean(top + np.log1p(np.expm1(gaps - top[:, None]).mean(1))))


def gamma_measures(normalised: np.ndarray, gammas: Gammas, pooled_median: float | None) -> dict[str, float]:
    """The measures of `margin_measures` that have a gamma, from normalised margins (N,); arguments as there."""
    normalised = np.asarray(normalised, np.float64)
    medians = {"absolute": 1.0, "pooled": pooled_median or math.nan, "own": float(np.median(normalised))}
    found = {}
    for unit, median in medians.items():
        curve = normalised / median if median > 0 else np.full_like(normalised, math.nan)
        known = np.isfinite(curve).all()  # the count of NaN margins would be 0
        for gamma in gammas.absolute if unit == "absolute" else gammas.relative:
            with jax.enable_x64(True):
                values = _statistics(curve, np.float64(gamma))
            for statistic, value in zip(STATISTICS, values, strict=True):
                found[f"{statistic.__name__}_{unit}@{gamma:g}"] = float(value) if known else math.nan
    return found


def margin_measures(logits: jax.Array, labels: jax.Array, log_rho: float, gammas: Gammas = Gammas(),
                    pooled_median: float | None = None) -> dict[str, float]:
    """The measures of `measures.MEASURES` that look at the training examples.

    For `pooled` and `own` the whole curve is divided by the median, so that the `own` ones compare shapes alone.

    Args:
      logits: (N, C) float of the training examples, C >= 2.
      labels: (N,) integer in 0..C-1.
      log_rho: natural logarithm of rho, of any norm (`log_rhos`).
      gammas: which to report.
      pooled_median: median normalised margin over all networks of a sweep, under the same norm.

    Returns:
      By name, those that depend on gamma as name@gamma. NaN: all but `training_loss` and `inverse_margin` where rho is
      0 or beyond float64 (1e308); `pooled` ones without, `own` ones with a median <= 0; `inverse_margin` with a 10th
      percentile <= 0; all where a logit is NaN.

    Raises:
      ValueError: logits of another shape.
    """
    raw = raw_margins(logits, labels)
    normalised, gamma_hat = _divided(raw, log_rho), tenth_percentile(raw)
    with jax.enable_x64(True):
        losses = np.asarray(_losses(np.asarray(logits, np.float64), np.asarray(labels)))
    return gamma_measures(normalised, gammas, pooled_median) | {
        "training_loss": float(np.mean(losses)),
        "auc_mean": float(np.mean(normalised)),
        "margin_smallest": float(np.min(normalised)),
        "margin_p10": float(np.quantile(normalised, 0.1)),
        "margin_median": float(np.median(normalised)),
        "inverse_margin": gamma_hat**-2 if gamma_hat > 0 else math.nan,
        "normalised_loss_excess": loss_excess(logits, labels, log_rho),
    }
