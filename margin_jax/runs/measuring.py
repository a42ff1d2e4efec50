"""The measures of one network of a sweep, under every rho that it has."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from margin_jax.data.split import Split
from margin_jax.margin_measures import Gammas, log_rhos, margin_measures, raw_margins, tenth_percentile
from margin_jax.network import BatchStats, Params
from margin_jax.norm_measures import network_norms, norm_measures
from margin_jax.pieces import map_pieces
from margin_jax.runs.job import Job
from margin_jax.runs.together import Measured
from margin_jax.state import Examples, standardised


def gammas_of(config: Any) -> Gammas:
    """The gammas that a config asks for."""
    return Gammas(tuple(config.gamma.absolute), tuple(config.gamma.relative))


def make_measure(config: Any, job: Job,
                 image_shape: tuple[int, ...]) -> Callable[[Measured, Params, Split], dict[str, Any]]:
    """Compiles what measures one network.

    Args:
      config: of the sweep.
      job: network and data.
      image_shape: (H, W, C).

    Returns:
      (record, initial weights, training set) -> "log_rho", ln rho by its mode; "norms", measures of the weights;
      "margins", by mode the measures of margins normalised with it, those of the pooled median NaN.
    """
    gammas = gammas_of(config)

    @jax.jit
    def all_logits(params: Params, batch_stats: BatchStats, train: Examples) -> jax.Array:
        return map_pieces(lambda rows: job.network.logits(params, batch_stats, standardised(rows, train)),
                          (train.images,), job.piece)

    def measure(found: Measured, initial: Params, split: Split) -> dict[str, Any]:
        logits = np.asarray(all_logits(found.params, found.batch_stats, job.train))
        weights = network_norms(found.params, initial, found.batch_stats, tuple(image_shape))
        rhos = log_rhos(found.params, weights.spectral)
        return {"log_rho": rhos,
                "norms": norm_measures(weights, tenth_percentile(raw_margins(logits, split.labels))),
                "margins": {mode: margin_measures(logits, split.labels, log_rho, gammas)
                            for mode, log_rho in rhos.items()}}

    return measure
