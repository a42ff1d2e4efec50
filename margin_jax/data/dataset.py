"""What every reader returns: `Split`, labelled images with ids, and `Dataset`, a training and a test split.

`validate_dataset` refuses one that would train wrongly or fail late and says which row or array is at fault; `digest`
recognises the same content when a run resumes.
"""

import collections
import dataclasses
import hashlib

import numpy as np

from margin_jax.errors import InputError


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

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image."""
        return self.train.images.shape[1:]

    @property
    def white(self) -> float:
        """The pixel value that stands for 1: 16 for the digits, 255 for other bytes, 1 for real-valued images."""
        if self.name == "digits":
            return 16.0
        return 255.0 if self.train.images.dtype == np.uint8 else 1.0


def make_split(images: np.ndarray, labels: np.ndarray, ids: np.ndarray | None = None) -> Split:
    """Builds a split with the types of `Split`, its rows sorted by id.

    Args:
        images: (N, H, W, C) uint8 or float32.
        labels: (N,) of any integer type whose values fit int32.
        ids: (N,) of any integer type, in any order; None numbers the rows 0..N-1.

    Returns:
        The split, with `true_labels` equal to `labels`. Images that need no sorting are not copied. Nothing is checked:
        that is `validate_dataset`'s.
    """
    labels = np.asarray(labels).astype(np.int32)
    if ids is None:
        ids = np.arange(len(images), dtype=np.int64)
    ids = np.asarray(ids).astype(np.int64)
    if np.any(ids[1:] < ids[:-1]):
        order = np.argsort(ids, kind="stable")
        images, labels, ids = images[order], labels[order], ids[order]
    return Split(images, labels, ids, labels)


def short(text: object, most: int = 200) -> str:
    """The beginning of what a file holds or an error says, for a message."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[:most]}..."


def listed(words: list[str], most: int = 8) -> str:
    """Joins words for a message: the first few, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(short(word, 60) for word in words[:most]) + more


def sorted_by_class(labels: np.ndarray) -> str:
    """Says that rows lie class after class, which makes training in a fixed order forget class after class.

    Args:
        labels: (N,) integers, in the order in which rows are trained on.

    Returns:
        A warning; empty where rows are mixed, as in every data set that the library brings.
    """
    if labels.size < 2:
        return ""
    changes = int((labels[1:] != labels[:-1]).sum())
    shares = np.unique(labels, return_counts=True)[1] / labels.size
    # Of mixed rows, each differs from the one before with this probability.
    mixed = (1 - float((shares ** 2).sum())) * (labels.size - 1)
    if shares.size < 2 or changes > 0.1 * mixed:
        return ""
    return (f"the {labels.size} training examples lie class after class ({changes} changes of class, about {mixed:.0f} "
            "if they were mixed): in this fixed order a network forgets one class while it learns the next. Set "
            "config.shuffle=True, or mix images and labels with one permutation and number the ids anew")


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


def validate_dataset(dataset: Dataset) -> None:
    """Checks everything the rest of the library takes for granted about a data set.

    Args:
        dataset: the data set to check; nothing is changed.

    Raises:
        InputError: arrays of different length, wrong rank or type, an empty split, ids that are negative, repeated
            or out of order, labels outside 0..C-1, NaN or infinite pixels, fewer than two classes, class names that
            repeat, train and test images of different shape, or a class without a training example.
    """
    names = dataset.class_names
    if len(names) < 2:
        raise InputError(f"a margin needs at least two classes, but {dataset.name} has {len(names)} "
                         f"({listed(list(names))})")
    if len(set(names)) != len(names):
        repeated = sorted(name for name, count in collections.Counter(names).items() if count > 1)
        raise InputError(f"class names must differ, but {listed(repeated)} occurs more than once in {dataset.name}")
    for split_name, split in (("train", dataset.train), ("test", dataset.test)):
        validate_rows(split, split_name, len(names))
        _validate_pixels(split, split_name)
    if dataset.train.images.shape[1:] != dataset.test.images.shape[1:]:
        raise InputError("train and test images must have one shape (H, W, C), but train has "
                         f"{dataset.train.images.shape[1:]} and test {dataset.test.images.shape[1:]}")
    counts = np.bincount(dataset.train.labels, minlength=len(names))
    absent = [f"{k} ({names[k]})" for k in np.flatnonzero(counts == 0)]
    if absent:
        raise InputError(f"every class needs a training example, but class {listed(absent)} of {dataset.name} has "
                         "none; remove it from the class names and renumber the labels from 0")


def validate_rows(split: Split, split_name: str, num_classes: int) -> None:
    """Checks the types, shapes, ids and labels of one split: all but its pixels.

    Args:
        split: the split to check.
        split_name: what to call it in messages, "train" or "test".
        num_classes: C; both kinds of labels must lie in 0..C-1.

    Raises:
        InputError: naming the array at fault, and for labels and ids the first bad one.
    """
    if split.images.ndim != 4:
        raise InputError(f"{split_name} images must have four axes (N, H, W, C), got shape {split.images.shape}; add a "
                         "channel axis with images[..., None] if they are grey")
    _validate_types(split, split_name)
    lengths = {name: len(getattr(split, name)) for name in ("images", "labels", "ids", "true_labels")}
    if len(set(lengths.values())) != 1:
        listing = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise InputError(f"{split_name} arrays must have one length, got {listing}")
    if split.images.size == 0:
        raise InputError(f"the {split_name} split is empty: its images have shape {split.images.shape}")
    if split.ids[0] < 0:
        raise InputError(f"{split_name} ids must be 0 or larger, got {split.ids[0]}")
    wrong = np.diff(split.ids) <= 0
    if wrong.any():
        first, second = split.ids[np.argmax(wrong):][:2]
        problem = f"id {first} occurs twice" if first == second else f"{second} follows {first}"
        raise InputError(f"{split_name} ids must be strictly ascending, but {problem}; give every example its own id")
    for labels in (split.labels, split.true_labels):
        bad = (labels < 0) | (labels >= num_classes)
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(f"labels must lie in 0..{num_classes - 1}, but {int(bad.sum())} of the {split_name} split "
                             f"do not: first id {split.ids[row]} with label {labels[row]}")


def _validate_types(split: Split, split_name: str) -> None:
    allowed = {"images": ("uint8", "float32"), "labels": ("int32",), "ids": ("int64",), "true_labels": ("int32",)}
    for name, types in allowed.items():
        array = getattr(split, name)
        if array.dtype.name not in types:
            raise InputError(f"{split_name} {name} must be {' or '.join(types)}, got {array.dtype.name}; convert them "
                             f"with .astype(np.{types[-1]})")
        if name != "images" and array.ndim != 1:
            raise InputError(f"{split_name} {name} must have one axis (N,), got shape {array.shape}")


def _validate_pixels(split: Split, split_name: str) -> None:
    if split.images.dtype == np.uint8:
        return
    bad = ~np.isfinite(split.images).all(axis=(1, 2, 3))
    if bad.any():
        raise InputError(f"pixels must be finite, but {int(bad.sum())} {split_name} images hold NaN or infinity: first "
                         f"id {split.ids[np.argmax(bad)]}; repair or remove them")
