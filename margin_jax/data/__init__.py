"""Data sets: one `Split(images, labels, ids, true_labels)` for every source."""

from margin_jax.data.load import load
from margin_jax.data.split import Dataset, Split, digest, make_split
from margin_jax.data.standardise import channel_statistics
from margin_jax.data.subsets import randomise_labels, select_classes
from margin_jax.data.validate import validate_dataset

__all__ = ["Dataset", "Split", "channel_statistics", "digest", "load", "make_split", "randomise_labels",
           "select_classes", "validate_dataset"]
