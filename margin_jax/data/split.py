"""What every reader returns: one split of labelled images, two of them in a data set, and a hash of their content."""

import dataclasses
import hashlib

import numpy as np


@dataclasses.dataclass(frozen=True)
class Split:
    """Labelled images in ascending order of id.

    Attributes:
        images: (N, H, W, C) uint8 pixels as stored, or float32 for a user's own real-valued arrays.
        labels: (N,) int32 in 0..C-1, what is trained on.
        ids: (N,) int64, strictly ascending: the example's number in the data set's own order. A class subset keeps
            the numbers of the full data set, so that an id names the same picture in every run.
        true_labels: (N,) int32, the labels before any randomisation; equal to `labels` without it.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    true_labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A training and a test split over the same classes.

    Attributes:
        name: what the configuration calls the data set, such as "cifar10".
        train: the training split.
        test: the test split, whose ids count on their own from 0.
        class_names: one name per class; label k means `class_names[k]`.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]


def make_split(images: np.ndarray, labels: np.ndarray, ids: np.ndarray | None = None) -> Split:
    """Builds a split with the types of `Split`, its rows sorted by id.

    Args:
        images: (N, H, W, C) uint8 or float32.
        labels: (N,) of any integer type whose values fit int32.
        ids: (N,) of any integer type, in any order; None numbers the rows 0..N-1.

    Returns:
        The split, with `true_labels` equal to `labels`. Images that need no sorting are not copied.
    """
    labels = np.asarray(labels).astype(np.int32)
    if ids is None:
        ids = np.arange(len(images), dtype=np.int64)
    ids = np.asarray(ids).astype(np.int64)
    if np.any(ids[1:] < ids[:-1]):
        order = np.argsort(ids, kind="stable")
        images, labels, ids = images[order], labels[order], ids[order]
    return Split(images, labels, ids, labels)


def digest(dataset: Dataset) -> str:
    """Hashes the content of a data set, to recognise the same data when a run resumes.

    Args:
        dataset: any data set. Its name and the names of its classes do not enter the hash.

    Returns:
        The SHA-256 of shapes, types and values of both splits' ids, labels, true labels and images: 64 hexadecimal
        digits, the same on every machine.
    """
    sha = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for array in (split.ids, split.labels, split.true_labels, split.images):
            # Little-endian and contiguous, so that the bytes mean the same everywhere.
            array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            sha.update(f"{array.dtype.str}{array.shape};".encode())
            sha.update(memoryview(array).cast("B") if array.size else b"")
    return sha.hexdigest()
