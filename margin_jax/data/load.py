"""`load_data`: one call from a name in the configuration to a checked data set.

The readers of CIFAR-10 are in `margin_jax.data.cifar`, that of a user's own arrays in `margin_jax.data.npz`. The
smallest is here: `read_digits`, scikit-learn's bundled scans of handwritten digits, which need no download.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from margin_jax.data.cache import cached, expanded
from margin_jax.data.cifar import BINARY_FOLDER, describe_tfds, find_archive, find_tfds, read_archive, read_tfds
from margin_jax.data.dataset import Dataset, make_split, validate_dataset
from margin_jax.data.npz import read_npz
from margin_jax.data.transforms import check_randomisation, first_of_each_class, randomise_labels, select_classes
from margin_jax.errors import InputError, nearest

_TEST_EVERY = 5


def read_digits() -> Dataset:
    """Reads the 1,797 scans that come with scikit-learn.

    Returns:
        images (N, 8, 8, 1) uint8 with values 0..16; labels 0..9, the digit; ids 0..1796 number the scans in
        scikit-learn's order. The 360 scans whose id is a multiple of five are the test split and the other 1,437 the
        training split, whose ids therefore have gaps.
    """
    from sklearn.datasets import load_digits

    scans = load_digits()
    images = scans.images.astype(np.uint8)[..., None]
    ids = np.arange(len(images))
    test = ids % _TEST_EVERY == 0
    train_split, test_split = (make_split(images[rows], scans.target[rows], ids[rows]) for rows in (~test, test))
    return Dataset("digits", train_split, test_split, tuple(str(name) for name in scans.target_names))


NAMES = ("cifar10", "cifar2", "digits", "npz")
CIFAR2_CLASSES = ("automobile", "bird")


def load_data(name: str, *, data_dir: str = "", cache_dir: str = "", classes: Sequence[str | int] = (),
              examples: int = 0, random_fraction: float = 0.0, random_seed: int = 0) -> Dataset:
    """Reads a data set, chooses classes, checks it, shortens it, and randomises training labels, in this order.

    Args:
        name: "cifar10"; "cifar2", its automobiles and birds; "digits", bundled with scikit-learn; "npz", a user's own.
        data_dir: for CIFAR a folder prepared by TFDS or holding the official archive, empty for the environment's
            TFDS_DATA_DIR; for npz the file or its folder; not used for digits.
        cache_dir: where decoded arrays are kept, see `margin_jax.data.cache.cache_root`.
        classes: names or numbers of at least two classes, relabelled 0, 1, ... in this order; empty for all. Numbers
            are those before relabelling, for "cifar2" of its two classes.
        examples: training rows to keep, the first of each class; 0 for all.
        random_fraction: share of the training rows that get a random label, in [0, 1]. Test labels stay.
        random_seed: of the random labels, 0 or larger.

    Returns:
        The data set: images (N, H, W, C) uint8 (float32 for real-valued npz), labels (N,) int32, ids (N,) int64
        strictly ascending.

    Raises:
        InputError: an unknown name or class, no data where they should be, or data that cannot be used.
    """
    if name not in NAMES:
        raise InputError(f"no data set is called {name!r}; nearest is {nearest(name, NAMES)!r} of {', '.join(NAMES)}")
    check_randomisation(random_fraction, random_seed)
    if name == "digits":
        dataset = read_digits()
    elif name == "npz":
        dataset = _read_users_npz(data_dir)
    else:
        dataset = _read_cifar10(data_dir, cache_dir)
    if name == "cifar2":
        dataset = select_classes(dataset, CIFAR2_CLASSES)
    if len(classes):
        dataset = select_classes(dataset, classes)
    validate_dataset(dataset)
    if examples:
        dataset = first_of_each_class(dataset, examples)
    train = dataset.train
    if random_fraction > 0:
        train = randomise_labels(train, random_fraction, random_seed, len(dataset.class_names))
    return dataclasses.replace(dataset, name=name, train=train)


def _read_users_npz(data_dir: str) -> Dataset:
    if not data_dir:
        raise InputError("the data set 'npz' needs config.data.dir: an .npz file, or a folder with dataset.npz (the "
                         "format is in docs/data.md)")
    return read_npz(expanded(data_dir))


def _read_cifar10(data_dir: str, cache_dir: str) -> Dataset:
    given = data_dir or os.environ.get("TFDS_DATA_DIR", "")
    if not given:
        raise InputError("CIFAR-10 needs a folder: set config.data.dir or the environment's TFDS_DATA_DIR to a TFDS "
                         "data folder or to one with the official cifar-10-batches-bin or -py. To fetch it: "
                         "python launch/prepare_data.py --dir=DIR. Without any download: config.data.name=digits")
    folder = expanded(given)
    archive, version = find_archive(folder), find_tfds(folder)
    # The binary archive first: the official pixels, nothing to decode, and where launch/prepare_data.py mends a TFDS
    # folder that is not whole. The pickles last: TFDS needs no unpickling.
    if version is not None and (archive is None or not _is_binary(archive)):
        return cached(lambda: read_tfds(version), reader="tfds-cifar10", source=version, cache_dir=cache_dir)
    if archive is not None:
        return read_archive(archive)
    raise InputError(f"{describe_tfds(folder)}; expected a TFDS data folder, cifar-10-batches-bin or "
                     f"cifar-10-batches-py. To fetch it: python launch/prepare_data.py --dir={folder}")


def _is_binary(archive: Path) -> bool:
    return archive.name == BINARY_FOLDER or any(archive.glob("*.bin"))
