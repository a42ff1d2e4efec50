"""Measures of one trained network that are said to predict its test error, each with formula, source and direction.

    values = compute_measures(Trained(params, batch_stats, (32, 32, 3), initial), logits, labels)
    sign("auc_ramp_own@0.5")  # +1: a larger value predicts a lower test error

Logarithms are natural and stand where a product would overflow: rank correlations see the same order. K weight layers
W_k, A_k the matrix of layer k as applied (padding and stride included), eta_n the raw margin of training example n,
m_n = eta_n / rho, gamma_hat the 10th percentile of eta, C classes.

Not defined for DenseNet, and NaN: the spectral products, the spectral complexity and the path norm.

Those of the weights alone are in `margin_jax.theory.complexity`; those that look at the training margins are here, and
take and give numbers on the host. rho is the product of many norms and exceeds float32 for deep networks, so that it
comes as its logarithm, and the functions of `margin_jax.theory.margins` run with 64 bits.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax.models.convnet import Geometry
from margin_jax.theory import norms
from margin_jax.theory.checks import checked_labels
from margin_jax.theory.complexity import network_norms, norm_measures
from margin_jax.theory.distribution import auc_ramp, auc_tail, small_margin_count
from margin_jax.theory.margins import margins
from margin_jax.theory.scores import cross_entropy

UNITS = ("absolute", "pooled", "own")  # of gamma
STATISTICS = (auc_ramp, auc_tail, small_margin_count)


class Gammas(NamedTuple):
    """The gammas to report.

    Attributes:
      absolute: in units of the normalised margin.
      relative: in multiples of a median, each once of the pooled and once of the network's own.
    """

    absolute: tuple[float, ...] = (0.01, 0.1)
    relative: tuple[float, ...] = (0.1, 0.5, 1.0)


def log_rhos(params: Any, spectral: jax.Array | None = None, batch_stats: Any = None) -> dict[str, float]:
    """ln rho of one network under every norm that it has, in float64.

    Args:
      params: parameter pytree.
      spectral: (K,) of `complexity.network_norms`; if finite it adds "operator", the product of the spectral norms
        of the layers as applied, BatchNorm folded.
      batch_stats: as of `norms.rho_factors`.

    Returns:
      By name: "all", "conv" and "batch_norm" of `norms.rho_factors` with Frobenius norms, as far as the parameters have
      such layers, and "operator". -inf for a rho of 0.
    """
    factors = {} if spectral is None or not np.isfinite(spectral).all() else {"operator": spectral}
    for mode in norms.MODES[1:]:
        try:
            factors[mode] = norms.rho_factors(params, mode, batch_stats=batch_stats)
        except ValueError:  # no layer of that kind, or none that is known to be
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
        return np.asarray(_margins(np.asarray(logits, np.float64), np.asarray(checked_labels(labels))))


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
      Mean over examples, in nats, >= -ln C; NaN where a label is out of range.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(checked_labels(labels, len(logits)))
    if ((labels < 0) | (labels >= logits.shape[1])).any():
        return math.nan
    gaps = _divided(logits - np.take_along_axis(logits, labels[:, None], 1), log_rho)
    top = gaps.max(1)
    return float(np.mean(top + np.log1p(np.expm1(gaps - top[:, None]).mean(1))))


def gamma_measures(normalised: np.ndarray, gammas: Gammas, pooled_median: float | None) -> dict[str, float]:
    """The measures of `margin_measures` that have a gamma, from normalised margins (N,); arguments as there."""
    normalised = np.asarray(normalised, np.float64)
    medians = {"absolute": 1.0, "pooled": pooled_median or math.nan, "own": float(np.median(normalised))}
    values = {}
    for unit, median in medians.items():
        curve = normalised / median if median > 0 else np.full_like(normalised, math.nan)
        known = np.isfinite(curve).all()  # the count of NaN margins would be 0
        for gamma in gammas.absolute if unit == "absolute" else gammas.relative:
            with jax.enable_x64(True):
                readings = _statistics(curve, np.float64(gamma)) if known else [math.nan] * len(STATISTICS)
            for statistic, reading in zip(STATISTICS, readings, strict=True):
                values[f"{statistic.__name__}_{unit}@{gamma:g}"] = float(reading)
    return values


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
      percentile <= 0; all where a logit is NaN or a label is out of range.

    Raises:
      ValueError: logits of another shape.
    """
    raw = raw_margins(logits, labels)
    normalised, gamma_hat = _divided(raw, log_rho), tenth_percentile(raw)
    with jax.enable_x64(True):
        losses = np.asarray(_losses(np.asarray(logits, np.float64), np.asarray(checked_labels(labels))))
    return gamma_measures(normalised, gammas, pooled_median) | {
        "training_loss": float(np.mean(losses)),
        "auc_mean": float(np.mean(normalised)),
        "margin_smallest": float(np.min(normalised)),
        "margin_p10": float(np.quantile(normalised, 0.1)),
        "margin_median": float(np.median(normalised)),
        "inverse_margin": gamma_hat**-2 if gamma_hat > 0 else math.nan,
        "normalised_loss_excess": loss_excess(logits, labels, log_rho),
    }


LOWER, HIGHER = "lower error", "higher error"
PAPER, JIANG = "Banburski et al. 2021", "Jiang et al. 2020"
BARTLETT, NEYSHABUR = "Bartlett, Foster and Telgarsky 2017", "Neyshabur, Tomioka and Srebro 2015"


class Measure(NamedTuple):
    """What a measure is.

    Attributes:
      name: its key; those that depend on gamma are computed as name@gamma.
      formula: in the letters of this module's docstring.
      source: who proposed it; numbers in brackets are equations there.
      larger_is: "lower error" or "higher error", what a larger value predicts by that source.
      needs_initial: whether the initial weights enter.
    """

    name: str
    formula: str
    source: str
    larger_is: str
    needs_initial: bool = False


def _gamma_rows(unit: str) -> list[Measure]:
    curve = {"absolute": "m", "pooled": "m / pooled median of m over all networks",
             "own": "m / median m of the network"}[unit]
    return [
        Measure(f"auc_ramp_{unit}", f"mean_n clip(x_n / gamma, 0, 1), x = {curve}", f"{PAPER}, 2.2, A.1", LOWER),
        # Of the area the paper says so; a flat curve with many points in the tail has a large one too.
        Measure(f"auc_tail_{unit}", f"1/N sum of x_n over x_n <= min x + gamma, x = {curve}", f"{PAPER}, 4.2", LOWER),
        Measure(f"small_margin_count_{unit}", f"#(n: x_n <= min x + gamma), x = {curve}", f"{PAPER}, 4.2", HIGHER),
    ]


_ROWS = [
    Measure("training_loss", "mean_n cross-entropy of f(x_n), nats", JIANG, HIGHER),
    Measure("normalised_loss_excess", "mean_n cross-entropy of f(x_n) / rho, nats, less ln C", "Liao et al. 2018",
            HIGHER),
    Measure("margin_smallest", "min_n m_n", f"{PAPER}, 4.2", LOWER),
    Measure("margin_p10", "10th percentile of m", f"{JIANG} (22), on normalised margins", LOWER),
    Measure("margin_median", "median of m", f"{PAPER}, 4.2, as a summary of the curve", LOWER),
    Measure("inverse_margin", "1 / gamma_hat^2", f"{JIANG} (22)", HIGHER),
    Measure("auc_mean", "mean_n m_n", f"{PAPER}, 4.2", LOWER),
    *(row for unit in UNITS for row in _gamma_rows(unit)),
    Measure("log_frobenius_product", "sum_k ln ||W_k||_F^2", f"{JIANG} (37)", HIGHER),
    Measure("log_frobenius_product_over_margin", "sum_k ln ||W_k||_F^2 - ln gamma_hat^2", f"{JIANG} (36)", HIGHER),
    Measure("frobenius_sum", "K (prod_k ||W_k||_F^2)^(1/K)", f"{JIANG} (39)", HIGHER),
    Measure("frobenius_sum_over_margin", "K (prod_k ||W_k||_F^2 / gamma_hat^2)^(1/K)", f"{JIANG} (38)", HIGHER),
    Measure("log_spectral_product", "sum_k ln ||A_k||_2^2", f"{JIANG} (32)", HIGHER),
    Measure("log_spectral_product_over_margin", "sum_k ln ||A_k||_2^2 - ln gamma_hat^2", f"{JIANG} (31)", HIGHER),
    Measure("log_spectral_complexity", "ln R_A, R_A = (prod_k ||A_k||_2) (sum_k (||A_k^T - M_k^T||_{2,1} / "
            "||A_k||_2)^(2/3))^(3/2), M_k = A_k of the initial weights", f"{BARTLETT} (1.2)", HIGHER, True),
    Measure("log_spectral_complexity_over_margin", "ln R_A - ln gamma_hat", f"{BARTLETT}, theorem 1.1", HIGHER, True),
    Measure("log_path_norm", "1/2 ln of the sum over paths of the product of squared weights", NEYSHABUR, HIGHER),
    Measure("log_path_norm_over_margin", "log_path_norm - ln gamma_hat", f"{JIANG} (43), its root", HIGHER),
    Measure("parameter_norm", "sqrt(sum_k ||W_k||_F^2)", f"{JIANG} (42), its root", HIGHER),
    Measure("distance_from_init", "sqrt(sum_k ||W_k - W_k(0)||_F^2)", f"{JIANG} (40), its root", HIGHER, True),
    Measure("relative_distance_from_init", "distance_from_init / sqrt(sum_k ||W_k(0)||_F^2)", f"{JIANG} (40), scaled",
            HIGHER, True),
]
MEASURES = {row.name: row for row in _ROWS}


def measure_of(key: str) -> Measure:
    """The measure behind a key of `compute_measures`, "auc_ramp_own@0.5" or "auc_mean"; KeyError if there is none."""
    return MEASURES[key.partition("@")[0]]


def sign(key: str) -> int:
    """+1 if a larger value of this key predicts a lower test error, -1 if a higher one; KeyError as `measure_of`."""
    return 1 if measure_of(key).larger_is == LOWER else -1


class Trained(NamedTuple):
    """A trained network, as the measures of its weights see it.

    Attributes:
      params: parameter pytree of a ConvNet or any other architecture.
      batch_stats: running statistics of BatchNorm, {} without.
      image_shape: (H, W, C).
      initial: `params` before training, or None.
      geometry: strides, padding and pooling of a ConvNet.
    """

    params: Any
    batch_stats: Any
    image_shape: tuple[int, int, int]
    initial: Any = None
    geometry: Geometry = Geometry()


def compute_measures(trained: Trained, logits: jax.Array, labels: jax.Array, *, gammas: Gammas = Gammas(),
                     pooled_median: float | None = None, log_rho: float | None = None) -> dict[str, float]:
    """Every measure of one network.

    The weights' part runs compiled on the device in float32, the examples' part on the host in float64. For margins
    under other norms call `margin_measures` with each of `log_rhos(params, network_norms(...).spectral)`.

    Args:
      trained: the network.
      logits: (N, C) float of the training examples, in evaluation mode.
      labels: (N,) integer in 0..C-1.
      gammas: see `Gammas`.
      pooled_median: median normalised margin over all networks of the sweep, under the same norm.
      log_rho: natural logarithm of the rho that normalises margins; that of the default mode (`norms.default_mode`)
        with Frobenius norms if None.

    Returns:
      Floats by name, those that depend on gamma as name@gamma; the same keys for every network. NaN what is not
      defined for it: see `margin_measures` and `norm_measures`, and what needs initial weights without any.

    Raises:
      ValueError: logits of another shape, or images that a ConvNet's layers do not fit.
    """
    params, batch_stats, image_shape, initial, geometry = trained
    if initial is None:
        initial = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params)
    weights = network_norms(params, initial, batch_stats, tuple(image_shape), geometry)
    if log_rho is None:
        log_rho = log_rhos(params, batch_stats=batch_stats)[norms.default_mode(params, batch_stats)]
    return (margin_measures(logits, labels, log_rho, gammas, pooled_median)
            | norm_measures(weights, tenth_percentile(raw_margins(logits, labels))))
