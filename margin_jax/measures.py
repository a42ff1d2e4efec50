"""Measures of one trained network that are said to predict its test error, each with formula, source and direction.

    found = compute_measures(params, initial, batch_stats, logits, labels, image_shape=(32, 32, 3))
    sign("auc_ramp_own@0.5")  # +1: a larger value predicts a lower test error

Logarithms are natural and stand where a product would overflow: rank correlations see the same order. K weight layers
W_k, A_k the matrix of layer k as applied (padding and stride included), eta_n the raw margin of training example n,
m_n = eta_n / rho, gamma_hat the 10th percentile of eta, C classes.

Not defined for DenseNet, and NaN: the spectral products, the spectral complexity and the path norm.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from margin_jax import norms
from margin_jax.margin_measures import UNITS, Gammas, log_rhos, margin_measures, raw_margins, tenth_percentile
from margin_jax.norm_measures import network_norms, norm_measures

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


def compute_measures(params: Any, initial: Any, batch_stats: Any, logits: jax.Array, labels: jax.Array,
                     image_shape: tuple[int, int, int], *, gammas: Gammas = Gammas(),
                     pooled_median: float | None = None, log_rho: float | None = None) -> dict[str, float]:
    """Every measure of one network.

    The weights' part runs compiled on the device in float32, the examples' part on the host in float64. For margins
    under other norms call `margin_measures` with each of `log_rhos(params, network_norms(...).spectral)`.

    Args:
      params: parameter pytree of a ConvNet or any other architecture.
      initial: the same pytree before training, or None.
      batch_stats: running statistics of BatchNorm, {} without.
      logits: (N, C) float of the training examples, in evaluation mode.
      labels: (N,) integer in 0..C-1.
      image_shape: (H, W, C).
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
    if initial is None:
        initial = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params)
    found = network_norms(params, initial, batch_stats, tuple(image_shape))
    if log_rho is None:
        log_rho = log_rhos(params)[norms.default_mode(params)]
    return (margin_measures(logits, labels, log_rho, gammas, pooled_median)
            | norm_measures(found, tenth_percentile(raw_margins(logits, labels))))
