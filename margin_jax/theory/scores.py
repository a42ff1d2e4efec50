"""Rivals of the margin: scores that say of each training example how difficult or how important it is.

EL2N and GraNd look at one network: at the error of its probabilities, and at the gradient of the example's loss.
Forgetting events, AUM and DUAL look at the course of training: how often an example was unlearned, its mean margin, how
sure and how steady the network was. Greedy k-center looks at where examples lie and at no label. The record `Dynamics`
gathers what forgetting events and AUM need from the logit margins that the training steps see; any framework may
compute these, since arrays that NumPy understands go in. A *presentation* is one training step that reads the example;
the end of an epoch is none.

All arrays (N,) are in the order of ascending data set ids. Which end of a score a selection keeps is said in
`margin_jax.theory.selection`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax.errors import InputError
from margin_jax.parallel import map_pieces
from margin_jax.theory.checks import (
    checked_count,
    checked_labels,
    checked_logits,
    checked_mask,
    checked_weights,
    is_array,
    precise,
)


def _gaps(logits: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """f_j - f_y of one example, (C,) float, NaN if y is out of range; and which classes are not y, (C,) boolean."""
    if logits.ndim != 1 or logits.shape[0] < 2:
        raise InputError(f"expected logits of shape (C,) for each example with C >= 2, got {logits.shape}")
    logits = precise(logits)
    others = jnp.arange(logits.shape[0]) != label
    true_logit = jnp.sum(jnp.where(others, 0, logits)) + jnp.where(jnp.all(others), jnp.nan, 0)
    return logits - true_logit, others


def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Cross-entropy of one example, with a gradient that is exact to rounding however confident the network is.

    Written log(1 + sum_{j != y} exp(f_j - f_y)). The usual gradient has a component p_y - 1, which float32 rounds to
    0 from a margin of about 17 on.

    Args:
      logits: (C,) float, C >= 2.
      label: () integer in 0..C-1.

    Returns:
      () float >= 0 in nats; NaN, like its gradient, where the label is out of range.

    Raises:
      ValueError: logits of another shape.
    """
    gaps, others = _gaps(logits, label)
    return jax.nn.softplus(jax.nn.logsumexp(gaps, where=others))


def _el2n(logits: jax.Array, label: jax.Array) -> jax.Array:
    # With e = 1 - p_y the norm is e sqrt(1 + sum_{j != y} (p_j / e)^2): no difference that cancels, no tiny square.
    gaps, others = _gaps(logits, label)
    # The shares of the others do not need y's logit, beside which theirs are rounded away where it is far below.
    finite = jnp.where(jnp.all(jnp.isfinite(logits)), logits, jnp.nan)
    shares = jax.nn.softmax(finite, where=others)
    return jax.nn.sigmoid(jax.nn.logsumexp(gaps, where=others)) * jnp.sqrt(1 + jnp.sum(jnp.square(shares)))


def el2n(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """EL2N = ||softmax(f) - onehot(y)||_2 of N examples (Paul, Ganguli and Dziugaite 2021).

    Args:
      logits: (N, C) floating and finite, C >= 2.
      labels: (N,) integer in 0..C-1, or a column (N, 1).

    Returns:
      (N,) float in [0, sqrt(2)], at least float32, exact to rounding until the probability of an error underflows; NaN
      where the label is out of range.

    Raises:
      InputError: logits or labels of another shape or type, such as one-hot labels.
    """
    logits = checked_logits(logits)
    return jax.vmap(_el2n)(logits, checked_labels(labels, logits.shape[0]))


def _tree_norm(tree: Any) -> jax.Array:
    """L2 norm over all leaves, scaled by the largest entry: squares of gradients below 1e-19 underflow in float32."""
    leaves = [precise(leaf) for leaf in jax.tree.leaves(tree)]
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in leaves]))
    scale = jnp.where(jnp.isfinite(largest) & (largest > 0), largest, 1)
    return scale * jnp.sqrt(sum(jnp.sum(jnp.square(leaf / scale)) for leaf in leaves))


def grand(loss_fn: Callable[..., jax.Array], params: Any, arrays: tuple[jax.Array, ...], piece: int = 50) -> jax.Array:
    """GraNd = ||grad_theta loss_n||_2 over all parameters, for any loss (Paul, Ganguli and Dziugaite 2021).

    The gradients of one piece are alive at a time: P times the parameters, beside the activations.

    Args:
      loss_fn: (params, *row) -> () float, the loss of one example; `row` is one row of every entry of `arrays`.
      params: pytree of float arrays.
      arrays: tuple of arrays (N, ...), N >= 1.
      piece: P, rows at once, static; N need not divide by it.

    Returns:
      (N,) float >= 0, at least float32.

    Raises:
      InputError: parameters that are no floats, or a loss that is not one number.
      ValueError: piece < 1, no rows, or arrays of different length.
    """
    checked_weights(params)

    def loss(params: Any, *row: jax.Array) -> jax.Array:
        value = loss_fn(params, *row)
        if not is_array(value) or value.shape or not jnp.issubdtype(value.dtype, jnp.floating):
            shape = f"{value.dtype} {value.shape}" if is_array(value) else type(value).__name__
            raise InputError(f"expected the loss of one example, () float, got {shape}; loss_fn gets one row of every "
                             "array, without the axis of examples, and gives one number")
        return value

    def norm(*row: jax.Array) -> jax.Array:
        return _tree_norm(jax.grad(loss)(params, *row))

    return map_pieces(jax.vmap(norm), arrays, piece)


def network_grand(apply_fn: Callable[[Any, jax.Array], jax.Array], params: Any, images: jax.Array, labels: jax.Array,
                  piece: int = 50) -> jax.Array:
    """GraNd of the cross-entropy of a network.

    A network with BatchNorm is taken in evaluation mode, with its running statistics held constant: a batch of one
    has no statistics of its own, and those of a larger batch would mix the gradients of its examples.

    Args:
      apply_fn: any function (params, x (1, ...)) -> logits (1, C), in evaluation mode.
      params: pytree of float arrays; running statistics are not among them.
      images: (N, ...) inputs in the form that `apply_fn` accepts.
      labels: (N,) integer in 0..C-1, or a column (N, 1).
      piece: as in `grand`.

    Returns:
      (N,) float >= 0, at least float32; NaN where the label is out of range.

    Raises:
      InputError: labels of another shape or type, parameters that are no floats, or a network that gives anything else
        than logits (1, C).
      ValueError: piece < 1, no rows, or images and labels of different length.
    """
    return grand(lambda params, image, label: cross_entropy(checked_logits(apply_fn(params, image[None]), 1)[0], label),
                 params, (images, checked_labels(labels)), piece)


class Dynamics(NamedTuple):
    """What training has shown of each example, over its presentations so far.

    Attributes:
      presentations: (N,) int32, how often a training step has read the example.
      correct: (N,) boolean, whether it was correct at its last presentation; False before the first.
      learned: (N,) boolean, whether it was correct at any presentation.
      forgotten: (N,) int32, presentations at which it was not correct after having been so at the one before.
      margin_sum: (N,) float32, sum of its logit margins over presentations.
    """

    presentations: jax.Array
    correct: jax.Array
    learned: jax.Array
    forgotten: jax.Array
    margin_sum: jax.Array


def fresh_dynamics(count: int) -> Dynamics:
    """The record of N = `count` examples before training: no presentation yet, all fields (N,) of zeros and False."""
    # Five arrays of their own: one array in two fields could not be donated to a compiled step.
    return Dynamics(jnp.zeros(count, jnp.int32), jnp.zeros(count, bool), jnp.zeros(count, bool),
                    jnp.zeros(count, jnp.int32), jnp.zeros(count, jnp.float32))


def present(dynamics: Dynamics, margins: jax.Array, shown: jax.Array) -> Dynamics:
    """Adds one presentation of every example that is shown, usually those of one epoch.

    Args:
      dynamics: the record so far.
      margins: (N,) float, logit margins that the training steps saw, each before its own update; rows that are not
        shown may hold anything. A NaN margin that is shown is not correct, and makes the AUM of its row NaN.
      shown: (N,) boolean; the other rows, for instance removed ones, stay as they are.

    Returns:
      The new record.

    Raises:
      InputError: arrays that do not cover all N examples, or `shown` that is no boolean mask.
    """
    margins, shown, last = jnp.asarray(margins, jnp.float32), jnp.asarray(shown), jnp.asarray(dynamics.correct)
    if not margins.shape == shown.shape == last.shape or shown.dtype != bool:
        raise InputError(f"expected margins and a boolean mask of all {last.shape} examples, got {margins.shape} and "
                         f"{shown.dtype} {shown.shape}")
    correct = margins > 0
    return Dynamics(
        presentations=dynamics.presentations + shown.astype(jnp.int32),
        correct=jnp.where(shown, correct, last),
        learned=dynamics.learned | (shown & correct),
        forgotten=dynamics.forgotten + (shown & last & ~correct).astype(jnp.int32),
        margin_sum=dynamics.margin_sum + jnp.where(shown, margins, 0),
    )


def forgetting(dynamics: Dynamics) -> jax.Array:
    """Forgetting events (Toneva et al. 2019): correct at one presentation and not at the next.

    Args:
      dynamics: the record.

    Returns:
      (N,) int32; an example that was never learned counts as its number of presentations, which is 0 for one that was
      never presented.
    """
    return jnp.where(dynamics.learned, dynamics.forgotten, dynamics.presentations)


def aum(dynamics: Dynamics) -> jax.Array:
    """AUM, the mean logit margin over presentations (Pleiss et al. 2020).

    Args:
      dynamics: the record.

    Returns:
      (N,) float32; NaN for an example that was never presented or had a NaN margin.
    """
    count = dynamics.presentations
    return jnp.where(count > 0, dynamics.margin_sum / jnp.maximum(count, 1), jnp.nan)


def dual(probabilities: jax.Array, window: int = 10) -> jax.Array:
    """DUAL, difficulty times uncertainty over the trajectory (Cho, Shin, Kang and Yun 2025, equations 3 and 4).

    With p_t the probability of the label after epoch t: in a window of J epochs (1 - mean p) times the standard
    deviation of p, which divides by J - 1; of this the mean over all windows.

    Args:
      probabilities: (E, N) floating, in order of epochs, those of the label.
      window: J, in 2..E.

    Returns:
      (N,) float32 or float64, >= 0.

    Raises:
      InputError: another shape or type, or a window that is no number of epochs in 2..E.
    """
    probabilities = probabilities if is_array(probabilities) else np.asarray(probabilities)
    if probabilities.ndim != 2 or not jnp.issubdtype(probabilities.dtype, jnp.floating):
        raise InputError(f"expected probabilities (E, N) of the labels after each epoch, got {probabilities.dtype} "
                         f"{probabilities.shape}; of losses give exp(-losses)")
    epochs = probabilities.shape[0]
    if not 2 <= window <= epochs:
        raise InputError(f"expected a window of 2..E epochs, here E = {epochs}, got {window}; record more epochs or "
                         "take a shorter window")
    probabilities = precise(probabilities)

    def of_window(first: jax.Array) -> jax.Array:
        part = jax.lax.dynamic_slice_in_dim(probabilities, first, window)
        return (1 - jnp.mean(part, axis=0)) * jnp.std(part, axis=0, ddof=1)

    return jnp.mean(jax.lax.map(of_window, jnp.arange(epochs - window + 1)), axis=0)


def farthest_first(features: jax.Array, count: int, labels: jax.Array | None = None,
                   within: jax.Array | None = None) -> jax.Array:
    """The order in which greedy k-center takes examples (Gonzalez 1985; Sener and Savarese 2018).

    The first is the one nearest to the mean, each other one that which is farthest from all before it; ties go to the
    smaller id. Its first k are the greedy k-center for every k <= count. With labels it goes class by class: a class
    that has been taken from less comes first, and distances are those within the class. In memory that is a few times
    N, beside the features; in time count N D.

    Args:
      features: (N, D) float, such as the input of the last dense layer.
      count: how many are taken, in 1..N, or all of `within` if it has fewer.
      labels: (N,) integer classes; absent: all as one.
      within: (N,) boolean, the rows to choose from; all if absent.

    Returns:
      (N,) int32, the place of each example, from 0; N for those that are not taken. Not for use under `jit`.

    Raises:
      InputError: arrays of another shape or type, features that are not finite, or a count out of range.
    """
    features = np.asarray(features)
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating) or not np.isfinite(features).all():
        raise InputError(f"expected finite features (N, D) float, got {features.dtype} {features.shape}; of a network "
                         "that diverged there are none")
    size = features.shape[0]
    within = np.ones(size, bool) if within is None else np.asarray(checked_mask(within, size, "within"))
    labels = np.zeros(size, np.int32) if labels is None else np.asarray(checked_labels(labels, size))
    start = np.zeros(size, np.float32)
    for label in np.unique(labels[within]):
        rows = np.flatnonzero(within & (labels == label))
        start[rows] = -np.square(features[rows] - features[rows].mean(axis=0, dtype=np.float64)).sum(axis=1)
    # Distances are differences of squares, which lose fewest digits about the mean.
    centred = (features - features[within].mean(axis=0, dtype=np.float64)).astype(np.float32)
    steps = min(checked_count(count, size, "count"), int(within.sum()))
    return _traversal(jnp.asarray(centred), jnp.int32(steps), jnp.asarray(labels), jnp.asarray(within),
                      jnp.asarray(start))


@jax.jit
def _traversal(features: jax.Array, steps: jax.Array, labels: jax.Array, within: jax.Array,
               start: jax.Array) -> jax.Array:
    """As `farthest_first`; `start` (N,) stands for the distances of a class of which nothing is taken."""
    size, squares = features.shape[0], jnp.sum(jnp.square(features), axis=1)

    def step(place: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        places, nearest, taken = carry
        free = within & (places == size)
        least = jnp.min(jnp.where(free, taken, size))
        new = jnp.argmax(jnp.where(free & (taken == least), nearest, -jnp.inf))
        distance = squares - 2 * jnp.matmul(features, features[new], precision="highest") + squares[new]
        ours = labels == labels[new]
        nearest = jnp.where(ours, jnp.where(taken == 0, distance, jnp.minimum(nearest, distance)), nearest)
        return places.at[new].set(place), nearest, taken + ours.astype(jnp.int32)

    begun = jnp.full(size, size, jnp.int32), start, jnp.zeros(size, jnp.int32)
    return jax.lax.fori_loop(0, steps, step, begun)[0]
