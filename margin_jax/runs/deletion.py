"""The rows of deletion.csv: appendix B at one network, before and after examples are deleted."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax.data.split import Dataset
from margin_jax.deletion import homogeneous, network_sides, residual_of, soft_weights, term_norms, weighted_gradient
from margin_jax.errors import InputError
from margin_jax.network import BatchStats, Network, Params
from margin_jax.pieces import map_pieces
from margin_jax.runs.deletion_regression import regression_rows
from margin_jax.runs.deletion_sets import Row, deletions, row_of
from margin_jax.state import Examples, standardised

_PIECE = 50  # rows at once; per-example gradients take that many times the parameters


def deletion_rows(config: Any, dataset: Dataset, network: Network, params: Params, batch_stats: BatchStats,
                  examples: Examples, margins: np.ndarray, draws: int = 5) -> list[Row]:
    """Residuals of equation (5) for each layer and of the regression gradient, before and after each deletion.

    Args:
      config: `seed` and `stability.deletions`, the numbers of examples to delete, are used.
      dataset: its training set.
      network: without BatchNorm and biases.
      params, batch_stats: of the network.
      examples: the training set on the device.
      margins: (N,) raw margins of the network.
      draws: random sets of each count.

    Returns:
      Rows with the columns `tables.DELETION`. Counts that leave no example are left out, and so is the minimum that
      does not interpolate where the features of all examples can be fitted exactly.

    Raises:
      InputError: a network that is not positively homogeneous.
    """
    if not homogeneous(params, batch_stats):
        raise InputError("appendix B is about positively homogeneous networks, got one with BatchNorm or biases; train "
                         "with model.name=convnet, model.batch_norm=False and model.biases=False")
    counts, margins = tuple(config.stability.deletions), np.asarray(margins, np.float64)

    @jax.jit
    def features_of(params: Params, data: Examples) -> jax.Array:
        return map_pieces(lambda rows: network.features(params, batch_stats, standardised(rows, data)), (data.images,),
                          _PIECE)

    features = np.asarray(features_of(params, examples), np.float64)
    targets = np.eye(len(dataset.class_names))[dataset.train.labels]
    return (_classification(counts, config.seed, network, params, batch_stats, examples, margins, draws)
            + regression_rows(counts, config.seed, features, targets, margins, draws))


def _classification(counts: tuple[int, ...], seed: int, network: Network, params: Params, batch_stats: BatchStats,
                    examples: Examples, margins: np.ndarray, draws: int) -> list[Row]:
    def apply_fn(params: Params, images: jax.Array, data: Examples) -> jax.Array:
        return network.logits(params, batch_stats, standardised(images, data))

    @jax.jit
    def gradient(params: Params, data: Examples, weights: jax.Array) -> Params:
        return weighted_gradient(lambda p, x: apply_fn(p, x, data), params, data.images, data.labels, weights, _PIECE)

    @jax.jit
    def norms(params: Params, data: Examples) -> dict[str, jax.Array]:
        return term_norms(lambda p, x: apply_fn(p, x, data), params, data.images, data.labels, _PIECE)

    terms = {name: np.asarray(values, np.float64) for name, values in norms(params, examples).items()}
    minimum = "separated" if margins.min() > 0 else "not separated"
    rows, before, first = [], {}, np.zeros(margins.size)
    for deletion in deletions(counts, margins, seed, draws):
        weights = soft_weights(margins, deletion.left)
        sides = network_sides(params, gradient(params, examples, jnp.asarray(weights, jnp.float32)), margins, weights,
                              terms)
        before, first = (before, first) if before else (sides, weights)
        for name, side in sides.items():
            shares = first * terms[name]
            weight = float(shares[~deletion.left].sum() / shares.sum()) if shares.any() else float("nan")
            rows.append(row_of(5, name, minimum, deletion, residual_of(side, before[name], weight)))
    return rows
