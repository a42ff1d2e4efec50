"""One call from a name in the configuration to a checked data set."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from margin_jax.data.archives import BINARY_FOLDER, find_archive, read_archive
from margin_jax.data.cache import cached
from margin_jax.data.digits import read_digits
from margin_jax.data.npz import read_npz
from margin_jax.data.split import Dataset
from margin_jax.data.subsets import check_randomisation, first_of_each_class, randomise_labels, select_classes
from margin_jax.data.tfds import describe_tfds, find_tfds, read_tfds
from margin_jax.data.validate import validate_dataset
from margin_jax.errors import InputError
from margin_jax.nearest import nearest

NAMES = ("cifar10", "cifar2", "digits", "npz")
CIFAR2_CLASSES = ("automobile", "bird")


def load(name: str, *, data_dir: str = "", cache_dir: str = "", classes: Sequence[str | int] = (),
         examples: int = 0, random_fraction: float = 0.0, random_seed: int = 0) -> Dataset:
    """Reads a data set, chooses classes, checks it, shortens it, and randomises training labels, in this order.

    Args:
        name: "cifar10"; "cifar2", its automobiles and birds; "digits", bundled with scikit-learn; "npz", a user's own.
        data_dir: for CIFAR a folder prepared by TFDS or holding the official archive, empty for the environment's
            TFDS_DATA_DIR; for npz the file or its folder; not used for digits.
        cache_dir: where decoded arrays are kept, see `margin_jax.data.cache.cache_root`.
        classes: names or numbers of at least two classes, relabelled 0, 1, ... in this order; empty for all.
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
        dataset = _read_own(data_dir)
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


def _read_own(data_dir: str) -> Dataset:
    if not data_dir:
        raise InputError("the data set 'npz' needs config.data.dir: an .npz file, or a folder with dataset.npz (the "
                         "format is in docs/data.md)")
    return read_npz(Path(data_dir).expanduser())


def _read_cifar10(data_dir: str, cache_dir: str) -> Dataset:
    given = data_dir or os.environ.get("TFDS_DATA_DIR", "")
    if not given:
        raise InputError("CIFAR-10 needs a folder: set config.data.dir or the environment's TFDS_DATA_DIR to a TFDS "
                         "data folder or to one with the official cifar-10-batches-bin or -py. To fetch it: "
                         "python launch/prepare_data.py --dir=DIR. Without any download: config.data.name=digits")
    folder = Path(given).expanduser()
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
