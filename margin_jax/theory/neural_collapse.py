"""Neural collapse of the features before the last layer: NC1 to NC4 of Papyan, Han and Donoho (2020), pure functions.

h_n are the features of example n, mu_c their mean over class c, m_c = mu_c - mean_c mu_c the centred class means. Every
class with an example counts once in that mean, so that equal angles mean -1/(C - 1) for classes of any size.

Features are made piece by piece, twice: the first pass gives the class means, the second one the scatter around them.
Collapse makes the scatter orders of magnitude smaller than the means, and no difference of large squares would show it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from margin_jax.errors import InputError
from margin_jax.parallel import sum_pieces
from margin_jax.theory.checks import checked_labels, checked_mask, is_array

_EXACT = lax.Precision.HIGHEST  # accelerators round the factors of a product otherwise


class Sample(NamedTuple):
    """The examples whose features are looked at.

    Attributes:
      images: (N, ...) inputs in the form that the network accepts.
      labels: (N,) integer in 0..C-1.
      where: (N,) boolean, the examples that count, whatever the others hold; all if None.
    """

    images: jax.Array
    labels: jax.Array
    where: jax.Array | None = None

    @property
    def counted(self) -> jax.Array:
        """(N,) boolean, `where` or all."""
        return jnp.ones(self.labels.shape, bool) if self.where is None else self.where


class Classifier(NamedTuple):
    """The last layer, whose logits are features @ weights + biases.

    Attributes:
      weights: (D, C) float.
      biases: (C,) float; none if None.
    """

    weights: jax.Array
    biases: jax.Array | None = None


class Centres(NamedTuple):
    """Class means.

    Attributes:
      counts: (C,) float32, examples of each class.
      means: (C, D) float32, mu_c; 0 where a class has no example.
    """

    counts: jax.Array
    means: jax.Array


class Collapse(NamedTuple):
    """How far features have collapsed; each () float32, 0 when they have entirely.

    NaN where nothing is defined: fewer than two classes with examples, or class means that are all the same. For two
    classes the centred means are opposite by construction, so that the first two numbers of NC2 are 0.

    Attributes:
      nc1: tr(Sigma_W Sigma_B^+) / C: Sigma_W = mean_n (h_n - mu_y)(h_n - mu_y)^T, Sigma_B = mean_c m_c m_c^T.
      nc2_norms: coefficient of variation of ||m_c|| over classes.
      nc2_angles: mean over pairs of classes of |cos(m_c, m_c') + 1/(C - 1)|.
      nc2_norms_weights: the first of these of the columns of the classifier, as they are.
      nc2_angles_weights: the second.
      nc3: || W/||W||_F - M/||M||_F ||_F, W the classifier (D, C), M the centred means as columns.
      nc4: share of examples, 0 to 1, whose nearest centre is of another class than the network's decision.
      centres: the class means.
    """

    nc1: jax.Array
    nc2_norms: jax.Array
    nc2_angles: jax.Array
    nc2_norms_weights: jax.Array
    nc2_angles_weights: jax.Array
    nc3: jax.Array
    nc4: jax.Array
    centres: Centres


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=_EXACT)


def _one_hot(labels: jax.Array, where: jax.Array, classes: int) -> jax.Array:
    return ((labels[:, None] == jnp.arange(classes)[None]) & where[:, None]).astype(jnp.float32)


def _centred(centres: Centres) -> jax.Array:
    """m_c (C, D), 0 where a class has no example."""
    present = centres.counts > 0
    middle = jnp.sum(centres.means, 0) / jnp.sum(present)
    return jnp.where(present[:, None], centres.means - middle[None], 0)


def _inverse_root(centred: jax.Array, present: jax.Array) -> jax.Array:
    """A (D, K) with A A^T = Sigma_B^+, without a matrix (D, D): a scatter is then a mean of ||A^T (h - mu)||^2."""
    count = jnp.sum(present)
    _, sizes, axes = jnp.linalg.svd(centred, full_matrices=False)
    smallest = jnp.finfo(jnp.float32).eps * max(centred.shape) * sizes[0]
    # The means are centred: their rank is at most C - 1, and what rounding leaves in the last direction is nothing.
    kept = (jnp.arange(sizes.shape[0]) < count - 1) & (sizes > smallest)
    factors = jnp.where(kept, jnp.sqrt(count.astype(jnp.float32)) / jnp.where(kept, sizes, 1), 0)
    return jnp.where(jnp.any(kept), axes.T * factors[None], jnp.nan)


def _nearest(centres: Centres) -> Callable[[jax.Array], jax.Array]:
    """Features (P, D) to the class (P,) of the nearest centre: the largest m_c . (h - mean_c mu_c) - ||m_c||^2 / 2."""
    present, points = centres.counts > 0, _centred(centres)
    middle = jnp.sum(centres.means, 0) / jnp.sum(present)
    lengths = jnp.where(present, jnp.sum(jnp.square(points), 1) / 2, jnp.inf)
    return lambda features: jnp.argmax(_product(features - middle[None], points.T) - lengths[None], 1)


def _spread(vectors: jax.Array, present: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Coefficient of variation of the norms of the rows present, and how far their cosines are from -1/(C - 1)."""
    count = jnp.sum(present)
    norms = jnp.linalg.norm(vectors, axis=1)
    mean = jnp.sum(norms, where=present) / count
    deviation = jnp.sqrt(jnp.sum(jnp.square(norms - mean), where=present) / count)
    units = vectors / jnp.where(present, norms, 1)[:, None]
    pairs = present[:, None] & present[None] & ~jnp.eye(present.shape[0], dtype=bool)
    angles = jnp.sum(jnp.abs(_product(units, units.T) + 1 / (count - 1)), where=pairs) / jnp.sum(pairs)
    return deviation / mean, angles


def _duality(weights: jax.Array, centred: jax.Array, present: jax.Array) -> jax.Array:
    columns = jnp.where(present[:, None], weights.T, 0)
    return jnp.linalg.norm(columns / jnp.linalg.norm(columns) - centred / jnp.linalg.norm(centred))


def _checked_features(features: Any, rows: int, width: int | None = None) -> jax.Array:
    if not is_array(features) or features.ndim != 2 or features.shape != (rows, width or features.shape[1]):
        got = features.shape if is_array(features) else type(features).__name__
        raise InputError(f"expected features ({rows}, {width or 'D'}) of {rows} rows, the input of the classifier, got "
                         f"{got}; give a function of (params, x) that returns them alone, each row flat")
    return features


def _checked_sample(sample: Sample) -> Sample:
    labels = checked_labels(sample.labels)
    where = jnp.ones(labels.shape, bool) if sample.where is None else checked_mask(sample.where, labels.shape[0])
    return Sample(sample.images, labels, where)


def class_means(apply_fn: Callable[[Any, jax.Array], jax.Array], params: Any, sample: Sample, classes: int,
                piece: int = 100, mesh: Mesh | None = None) -> Centres:
    """Means of the features of each of `classes` classes; the other arguments as of `neural_collapse`."""

    def sums(x: jax.Array, y: jax.Array, kept: jax.Array, new: jax.Array) -> tuple[jax.Array, jax.Array]:
        classes_of = _one_hot(y, kept & new, classes)
        features = jnp.where((kept & new)[:, None], _checked_features(apply_fn(params, x), x.shape[0]), 0)
        return jnp.sum(classes_of, 0), _product(classes_of.T, features)

    counts, total = sum_pieces(sums, tuple(_checked_sample(sample)), piece, mesh)
    return Centres(counts, total / jnp.maximum(counts, 1)[:, None])


def neural_collapse(apply_fn: Callable[[Any, jax.Array], jax.Array], params: Any, sample: Sample,
                    classifier: Classifier, centres: Centres | None = None, piece: int = 100,
                    mesh: Mesh | None = None) -> Collapse:
    """NC1 to NC4 of a network whose logits are those of `classifier` on its features.

    Args:
      apply_fn: (params, x (P, ...)) -> features (P, D), each row of its own x alone.
      params: any pytree that `apply_fn` accepts.
      sample: N examples.
      classifier: of D features and C classes.
      centres: those that NC4 looks for the nearest among, for instance of the training set; those of these examples if
        absent.
      piece: rows whose features are alive at once, static.
      mesh: as of `sum_pieces`.

    Returns:
      The numbers, the first class means corrected by what the second pass sees of their rounding. All are NaN where an
      example that counts has a label out of range.

    Raises:
      InputError: labels, `where`, weights, biases or features of another shape or type.
      ValueError: as `map_pieces`.
    """
    weights, biases = classifier
    if weights.ndim != 2 or biases is not None and biases.shape != weights.shape[1:]:
        raise InputError(f"expected a classifier's weights (D, C) and biases (C,), got {weights.shape} and "
                         f"{None if biases is None else biases.shape}")
    sample, classes = _checked_sample(sample), weights.shape[1]
    biases = jnp.zeros(classes, weights.dtype) if biases is None else biases
    first = class_means(apply_fn, params, sample, classes, piece, mesh)
    present, count = first.counts > 0, jnp.sum(first.counts)
    root = _inverse_root(_centred(first), present)
    nearest = _nearest(first if centres is None else centres)

    def sums(x: jax.Array, y: jax.Array, kept: jax.Array, new: jax.Array) -> tuple[jax.Array, ...]:
        kept = kept & new
        features = _checked_features(apply_fn(params, x), x.shape[0], weights.shape[0])
        features = jnp.where(kept[:, None], features, 0)
        from_mean = jnp.where(kept[:, None], features - first.means[y], 0)
        decision = jnp.argmax(_product(features, weights) + biases[None], 1)
        return (_product(_one_hot(y, kept, classes).T, from_mean), jnp.sum(jnp.square(_product(from_mean, root))),
                jnp.sum(kept & (nearest(features) != decision)).astype(jnp.float32))

    shifts, scatter, differing = sum_pieces(sums, (sample.images, sample.labels, sample.counted), piece, mesh)
    shifts = shifts / jnp.maximum(first.counts, 1)[:, None]
    scatter = scatter - jnp.sum(first.counts * jnp.sum(jnp.square(_product(shifts, root)), 1))
    sample_centres = Centres(first.counts, first.means + shifts)
    centred = _centred(sample_centres)
    collapse = Collapse(jnp.maximum(scatter, 0) / (count * jnp.sum(present)), *_spread(centred, present),
                        *_spread(weights.T, present), _duality(weights, centred, present), differing / count,
                        sample_centres)
    unknown = jnp.any(sample.where & ((sample.labels < 0) | (sample.labels >= classes)))
    return jax.tree.map(lambda leaf: jnp.where(unknown, jnp.nan, leaf), collapse)
