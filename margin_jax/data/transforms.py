"""Pure functions of a data set: some of its classes, fewer of its rows, random labels, and the scaling of its pixels.

What changes a data set returns a new one in which an example keeps its id. `channel_statistics` gives the mean and
standard deviation by which training standardises images, taken over the rows that are trained on; `pixel_scaling` also
knows other scalings.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from margin_jax.data.dataset import Dataset, Split, validate_rows
from margin_jax.errors import InputError, nearest


def select_classes(dataset: Dataset, classes: Sequence[str | int]) -> Dataset:
    """Keeps some classes of a data set, relabelled 0, 1, ... in the order listed.

    Args:
        dataset: the data set to choose from; unchanged.
        classes: at least two names or numbers of its classes, none twice. A name wins over a number where a text
            could be either.

    Returns:
        A data set of the same name that holds the rows of those classes in the same order, with their ids as they
        were in the full data set.

    Raises:
        InputError: fewer than two classes, a repeated one, or an unknown one (the message names the nearest).
    """
    if isinstance(classes, str):
        raise InputError(f"classes must be a list of names or numbers, got the text {classes!r}; write "
                         f"({classes!r}, ...)")
    chosen = [_class_number(dataset, entry) for entry in classes]
    if len(chosen) < 2:
        raise InputError(f"classes must name at least two classes, got {list(classes)}")
    if len(set(chosen)) != len(chosen):
        raise InputError(f"classes must not repeat, got {list(classes)}, which are the classes {chosen}")
    count = len(dataset.class_names)
    for split_name, split in (("train", dataset.train), ("test", dataset.test)):
        validate_rows(split, split_name, count)
    new_label = np.full(count, -1, np.int32)
    new_label[chosen] = np.arange(len(chosen), dtype=np.int32)
    return dataclasses.replace(
        dataset,
        train=_keep(dataset.train, new_label),
        test=_keep(dataset.test, new_label),
        class_names=tuple(dataset.class_names[k] for k in chosen),
    )


def first_of_each_class(dataset: Dataset, count: int) -> Dataset:
    """Keeps a small training set: of each class as many of its first rows, for trials on real data.

    Args:
        dataset: the data set to choose from; unchanged.
        count: training rows to keep, in equal shares of the classes; the first classes have one more where it does not
            divide. Classes are those of `true_labels`.

    Returns:
        The data set with those rows in the same order, their ids as they were; the test set is whole.

    Raises:
        InputError: fewer rows than classes, or a class with fewer rows than its share.
    """
    train, classes = dataset.train, len(dataset.class_names)
    shares = np.full(classes, count // classes) + (np.arange(classes) < count % classes)
    available = np.bincount(train.true_labels, minlength=classes)
    if count < classes or np.any(shares > available):
        raise InputError(f"a training set of {count} examples needs {shares.tolist()} of the {classes} classes, at "
                         f"least one each, and {dataset.name} has {available.tolist()}; choose another number")
    place = np.empty(len(train.true_labels), np.int64)  # of a row among those of its class
    for label in range(classes):
        place[train.true_labels == label] = np.arange(available[label])
    keep = place < shares[train.true_labels]
    return dataclasses.replace(dataset, train=Split(*(getattr(train, name)[keep] for name in (
        "images", "labels", "ids", "true_labels"))))


def randomise_labels(split: Split, fraction: float, seed: int, num_classes: int) -> Split:
    """Gives a share of the rows a label drawn uniformly over all classes (Zhang et al. 2017).

    A drawn label may be the true one, so about 1/C of the chosen rows keep theirs. Which rows are chosen and what
    they draw depends on the seed, the number of rows and of classes alone; for one seed the rows chosen at a smaller
    fraction are among those chosen at a larger one, with the same labels.

    Args:
        split: N rows, in ascending order of id; unchanged.
        fraction: share of the rows to choose, in [0, 1]; round(fraction * N) rows are chosen.
        seed: 0 or larger.
        num_classes: C, the number of classes to draw from.

    Returns:
        The split with new `labels`; images, ids, order and `true_labels` stay.

    Raises:
        InputError: the fraction lies outside [0, 1], or the seed is negative.
    """
    check_randomisation(fraction, seed)
    rows = len(split.labels)
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(rows)[: round(fraction * rows)]
    drawn = generator.integers(0, num_classes, rows, dtype=np.int32)
    labels = split.labels.copy()
    labels[chosen] = drawn[chosen]
    return dataclasses.replace(split, labels=labels)


def check_randomisation(fraction: float, seed: int) -> None:
    """Checks what `randomise_labels` is asked for, before any data are read.

    Args:
        fraction: share of rows, in [0, 1].
        seed: 0 or larger.

    Raises:
        InputError: either is out of range.
    """
    if not 0.0 <= fraction <= 1.0:  # also false for NaN
        raise InputError(f"the fraction of random labels must lie in [0, 1], got {fraction}")
    if seed < 0:
        raise InputError(f"the seed of the random labels must be 0 or larger, got {seed}")


def _keep(split: Split, new_label: np.ndarray) -> Split:
    keep = new_label[split.true_labels] >= 0
    labels = new_label[split.labels[keep]]
    if np.any(labels < 0):
        raise InputError("choose the classes before randomising the labels: a kept example has the random label of a "
                         "class that is left out")
    return Split(split.images[keep], labels, split.ids[keep], new_label[split.true_labels[keep]])


def _class_number(dataset: Dataset, entry: str | int) -> int:
    names = dataset.class_names
    if isinstance(entry, str) and entry in names:
        return names.index(entry)
    text = str(entry)
    number = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= number < len(names):
        raise InputError(f"{dataset.name} has no class {entry!r}; nearest is {nearest(text, names)!r}, and it has "
                         f"0..{len(names) - 1}: {', '.join(names)}")
    return number


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


SCALINGS = ("channel", "half", "unit")


def pixel_scaling(images: np.ndarray, scaling: str, white: float) -> tuple[np.ndarray, np.ndarray]:
    """What is subtracted from the pixels of each channel, and what the difference is divided by.

    Args:
        images: (N, H, W, C) uint8 or float, the training images.
        scaling: "channel", their mean and standard deviation (`channel_statistics`); "half", (x - 0.5)/0.5 with x in
            [0, 1]; "unit", x itself.
        white: the pixel value that stands for x = 1.

    Returns:
        mean and std, each (C,) float32 in pixel units.

    Raises:
        InputError: unknown scaling, or what `channel_statistics` refuses.
    """
    if scaling == "channel":
        return channel_statistics(images, np.ones(len(images), bool))
    if scaling not in SCALINGS:
        raise InputError(f"expected a scaling of {', '.join(SCALINGS)}, got {scaling!r}")
    mean, std = (white / 2, white / 2) if scaling == "half" else (0.0, white)
    channels = images.shape[3]
    return np.full(channels, mean, np.float32), np.full(channels, std, np.float32)


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
