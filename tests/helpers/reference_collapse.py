"""Neural collapse in NumPy, class by class."""

import numpy as np

from margin_jax.theory.neural_collapse import Collapse

NUMBERS = [name for name in Collapse._fields if name != "centres"]


def by_hand(features, labels, weights, biases=None, where=None):
    """The definitions, with matrices (D, D), the pseudo-inverse and loops."""
    where = np.ones(len(labels), bool) if where is None else where
    h, y, w = np.asarray(features, np.float64)[where], np.asarray(labels)[where], np.asarray(weights, np.float64)
    logits = h @ w + (0 if biases is None else np.asarray(biases, np.float64))
    present = np.unique(y)
    means = np.stack([h[y == c].mean(0) for c in present])
    centred = means - means.mean(0)
    within = sum(np.outer(d, d) for d in (row - means[list(present).index(c)] for row, c in zip(h, y))) / len(y)
    between = centred.T @ centred / len(present)
    pairs = [(a, b) for a in range(len(present)) for b in range(len(present)) if a != b]

    def spread(vectors):
        norms = np.linalg.norm(vectors, axis=1)
        cosines = [vectors[a] @ vectors[b] / norms[a] / norms[b] for a, b in pairs]
        return norms.std() / norms.mean(), np.mean(np.abs(np.array(cosines) + 1 / (len(present) - 1)))

    nearest = [present[np.argmin(((row - means) ** 2).sum(1))] for row in h]
    rows = w.T[present]
    return dict(zip(NUMBERS, (
        np.trace(within @ np.linalg.pinv(between, rcond=1e-10, hermitian=True)) / len(present), *spread(centred),
        *spread(rows), np.linalg.norm(rows / np.linalg.norm(rows) - centred / np.linalg.norm(centred)),
        np.mean(nearest != np.argmax(logits, 1))), strict=True))
