"""The embedded data set: scikit-learn's bundled scans of handwritten digits. No download, ready in a second."""

import numpy as np

from margin_jax.data.split import Dataset, make_split

_TEST_EVERY = 5


def read_digits() -> Dataset:
    """Reads the 1,797 scans that come with scikit-learn.

    Returns:
        images (N, 8, 8, 1) uint8 with values 0..16; ids 0..1796 number the scans in scikit-learn's order. The 360
        scans whose id is a multiple of five are the test split and the other 1,437 the training split, whose
        ids therefore have gaps.
    """
    from sklearn.datasets import load_digits

    scans = load_digits()
    images = scans.images.astype(np.uint8)[..., None]
    ids = np.arange(len(images))
    test = ids % _TEST_EVERY == 0
    train_split, test_split = (make_split(images[rows], scans.target[rows], ids[rows]) for rows in (~test, test))
    return Dataset("digits", train_split, test_split, tuple(str(name) for name in scans.target_names))
