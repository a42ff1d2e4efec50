"""The rows of deletion.csv: equations (4) and (5) of appendix B at one network, before and after deletions.

Equation (4) is about minima of least squares, taken on the network's features; equation (5) about the gradient of the
loss with respect to each layer.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax.errors import InputError
from margin_jax.models.network import BatchStats, Network, Params
from margin_jax.parallel import map_pieces
from margin_jax.run_folder.tables import Row
from margin_jax.theory.deletion import (
    Residual,
    homogeneous,
    interpolates,
    least_squares,
    network_sides,
    regression_side,
    residual_of,
    soft_weights,
    term_norms,
    weighted_gradient,
)
from margin_jax.training.state import Examples, standardised


class Deletion(NamedTuple):
    """Which examples are deleted.

    Attributes:
      choice: "none", "smallest", "largest" (by margin) or "random".
      draw: number of the random draw, 0 otherwise.
      removed: how many.
      left: (N,) boolean.
    """

    choice: str
    draw: int
    removed: int
    left: np.ndarray


class Deletions(NamedTuple):
    """Which deletions are tried.

    Attributes:
      counts: how many examples to delete.
      seed: of the random draws, whose larger sets contain the smaller ones.
      draws: how many random sets of each count.
    """

    counts: tuple[int, ...]
    seed: int
    draws: int = 5


def deletions(wanted: Deletions, margins: np.ndarray) -> Iterator[Deletion]:
    """None first, then each count below N by each choice, of examples with raw `margins` (N,).

    Ties go to the smaller id.
    """
    counts, seed, draws = wanted
    size = margins.size
    orders = [("smallest", 0, np.argsort(margins, kind="stable")), ("largest", 0, np.argsort(-margins, kind="stable"))]
    orders += [("random", draw, np.random.default_rng((seed, draw)).permutation(size)) for draw in range(draws)]
    yield Deletion("none", 0, 0, np.ones(size, bool))
    for count in sorted(count for count in counts if count < size):
        for choice, draw, order in orders:
            yield Deletion(choice, draw, count, ~np.isin(np.arange(size), order[:count]))


def row_of(equation: int, layer: str, minimum: str, deletion: Deletion, residual: Residual) -> Row:
    """A row with the columns `tables.DELETION`."""
    return {"equation": equation, "layer": layer, "minimum": minimum, "choice": deletion.choice, "draw": deletion.draw,
            "removed": deletion.removed, "examples": int(deletion.left.sum()), **residual._asdict()}


def regression_rows(wanted: Deletions, features: np.ndarray, targets: np.ndarray, margins: np.ndarray) -> list[Row]:
    """Rows of an interpolating minimum, of some examples, and of one that does not interpolate, of all.

    Args:
      wanted: which deletions.
      features: (N, D) float64.
      targets: (N, C) float64.
      margins: (N,) raw.

    Returns:
      The rows; none of a minimum that these features do not have.
    """
    few = interpolable(features, targets, margins, wanted.seed)
    rows = _minimum("interpolating", wanted, features[few], targets[few], margins[few]) if few.size else []
    if not interpolates(features, targets, least_squares(features, targets)):
        rows += _minimum("not interpolating", wanted, features, targets, margins)
    return rows


def _minimum(minimum: str, wanted: Deletions, features: np.ndarray, targets: np.ndarray,
             margins: np.ndarray) -> list[Row]:
    solution = least_squares(features, targets)
    sizes = np.linalg.norm(features, axis=1) * np.linalg.norm(features @ solution - targets, axis=1)
    before = regression_side(features, targets, solution, np.ones(margins.size, bool))
    rows = []
    for deletion in deletions(wanted, margins):
        side = regression_side(features, targets, solution, deletion.left)
        weight = float(sizes[~deletion.left].sum() / sizes.sum()) if minimum != "interpolating" else float("nan")
        rows.append(row_of(4, "least squares", minimum, deletion, residual_of(side, before, weight)))
    return rows


def interpolable(features: np.ndarray, targets: np.ndarray, margins: np.ndarray, seed: int) -> np.ndarray:
    """Rows whose targets a linear model of their features meets.

    As many as half the features, or that halved until they are met, which dead units may ask for; one half of them
    those of smallest margin, the others drawn from the rest.

    Args:
      features: (N, D) float64.
      targets: (N, C) float64.
      margins: (N,) raw.
      seed: of the draw.

    Returns:
      (n,) ascending rows; n = 0 if not even one can be met.
    """
    order = np.argsort(margins, kind="stable")
    count = min(max(features.shape[1] // 2, 1), margins.size)
    while count:
        near = order[:-(-count // 2)]
        rest = np.random.default_rng(seed).permutation(order[near.size:])[:count - near.size]
        chosen = np.sort(np.concatenate([near, rest]))
        if interpolates(features[chosen], targets[chosen], least_squares(features[chosen], targets[chosen])):
            return chosen
        count //= 2
    return np.empty(0, np.int64)


_PIECE = 50  # rows at once; per-example gradients take that many times the parameters


def deletion_rows(wanted: Deletions, network: Network, params: Params, batch_stats: BatchStats, examples: Examples,
                  margins: np.ndarray, num_classes: int) -> list[Row]:
    """Residuals of equation (5) for each layer and of the regression gradient, before and after each deletion.

    Args:
      wanted: which deletions.
      network: without BatchNorm and biases.
      params, batch_stats: of the network.
      examples: the training set on the device.
      margins: (N,) raw margins of the network.
      num_classes: C.

    Returns:
      Rows with the columns `tables.DELETION`. Counts that leave no example are left out, and so is the minimum that
      does not interpolate where the features of all examples can be fitted exactly.

    Raises:
      InputError: a network that is not positively homogeneous.
    """
    if not homogeneous(params, batch_stats):
        raise InputError("appendix B is about positively homogeneous networks, got one with BatchNorm or biases; train "
                         "with model.name=convnet, model.batch_norm=False and model.biases=False")
    margins = np.asarray(margins, np.float64)

    @jax.jit
    def features_of(params: Params, data: Examples) -> jax.Array:
        return map_pieces(lambda rows: network.features(params, batch_stats, standardised(rows, data)), (data.images,),
                          _PIECE)

    features = np.asarray(features_of(params, examples), np.float64)
    targets = np.eye(num_classes)[np.asarray(examples.labels)]
    return (_classification(wanted, network, params, batch_stats, examples, margins)
            + regression_rows(wanted, features, targets, margins))


def _classification(wanted: Deletions, network: Network, params: Params, batch_stats: BatchStats, examples: Examples,
                    margins: np.ndarray) -> list[Row]:
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
    for deletion in deletions(wanted, margins):
        weights = soft_weights(margins, deletion.left)
        sides = network_sides(params, gradient(params, examples, jnp.asarray(weights, jnp.float32)), margins, weights,
                              terms)
        before, first = (before, first) if before else (sides, weights)
        for name, side in sides.items():
            shares = first * terms[name]
            weight = float(shares[~deletion.left].sum() / shares.sum()) if shares.any() else float("nan")
            rows.append(row_of(5, name, minimum, deletion, residual_of(side, before[name], weight)))
    return rows
