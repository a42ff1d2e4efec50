"""Mean and standard deviation per channel of the rows that are trained on: pure, exact, in bounded memory."""

from collections.abc import Iterator

import numpy as np

from margin_jax.errors import InputError

# A chunk of float64 copies or of counting indices takes about 8 MB: it stays near the cache.
_CHUNK_VALUES = 1 << 20


def channel_statistics(images: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes each channel's mean and population standard deviation over the kept rows.

    Rows whose mask is False are never looked at: they may hold anything, NaN included. A channel that is constant
    over the kept rows gets the standard deviation 1, so that standardising it gives zeros there instead of 0/0 or
    amplified rounding, and finite values in rows that were not kept.

    Args:
        images: (N, H, W, C) uint8 or float.
        mask: (N,) bool, True for the rows kept.

    Returns:
        mean: (C,) float32, in pixel units.
        std: (C,) float32, in pixel units, positive. Both are accumulated in float64 (uint8: exact counts).

    Raises:
        InputError: wrong shapes or types, or a mask that keeps no row.
    """
    images, mask = np.asarray(images), np.asarray(mask)
    if images.ndim != 4 or images.size == 0:
        raise InputError(f"images must have four non-empty axes (N, H, W, C), got shape {images.shape}")
    if mask.dtype != np.bool_ or mask.shape != images.shape[:1]:
        raise InputError(f"the mask must be bool of shape ({len(images)},), one entry per image, got {mask.dtype} of "
                         f"shape {mask.shape}")
    if not mask.any():
        raise InputError("the mask keeps no row, so there is nothing to take a mean of")
    if images.dtype == np.uint8:
        mean, variance, constant = _from_counts(images, mask)
    elif np.issubdtype(images.dtype, np.floating):
        mean, variance, constant = _in_two_passes(images, mask)
    else:
        raise InputError(f"images must be uint8 or float, got {images.dtype}")
    std = np.sqrt(variance).astype(np.float32)
    return mean.astype(np.float32), np.where(constant | (std == 0), np.float32(1), std)


def _kept_chunks(images: np.ndarray, mask: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the kept rows as (pixels, C) arrays, a bounded number of values at a time."""
    rows = np.flatnonzero(mask)
    step = max(1, _CHUNK_VALUES // int(np.prod(images.shape[1:])))
    for start in range(0, len(rows), step):
        part = rows[start:start + step]
        whole = part[-1] - part[0] + 1 == len(part)  # consecutive rows need no copy
        yield (images[part[0]:part[-1] + 1] if whole else images[part]).reshape(-1, images.shape[3])


def _from_counts(images: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counts = np.zeros((images.shape[3], 256), np.int64)
    for pixels in _kept_chunks(images, mask):
        for channel, row in enumerate(counts):
            row += np.bincount(pixels[:, channel], minlength=256)
    values, total = np.arange(256), counts[0].sum()
    mean = (counts @ values) / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(axis=1) / total
    return mean, variance, (counts > 0).sum(axis=1) == 1


def _in_two_passes(images: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    channels = images.shape[3]
    total, count = np.zeros(channels), 0
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    for pixels in _kept_chunks(images, mask):
        columns = pixels.T.astype(np.float64, order="C")
        total += columns.sum(axis=1)
        count += columns.shape[1]
        low, high = np.minimum(low, columns.min(axis=1)), np.maximum(high, columns.max(axis=1))
    mean = total / count
    squares = np.zeros(channels)
    for pixels in _kept_chunks(images, mask):
        columns = pixels.T.astype(np.float64, order="C") - mean[:, None]
        squares += np.einsum("cn,cn->c", columns, columns)
    # Compared by value: the rounded mean of equal values may miss them by a unit in the last place.
    return mean, squares / count, low == high
