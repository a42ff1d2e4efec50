"""The whole method on the bundled digits: train to data separation, keep the 100 smallest margins, train on.

Claim      after data separation a network can go on with a few small-margin examples and lose little test accuracy.
Data       scikit-learn's 1,437 training and 360 test scans of digits, 8x8; no download.
Expected   separation at epoch 40, 4.4% test error with 100 kept, 4.2% with all, seed 0: far within noise of one another
           (results/quickstart).
Time       about 10 s on two CPU cores.
Run        python launch/train.py --config=configs/quickstart.py --workdir=runs/quickstart
"""

from ml_collections import ConfigDict

from margin_jax.config import default_config


def get_config() -> ConfigDict:
    """Digits, ConvNet, SGD; removal at data separation."""
    config = default_config()
    config.devices = 1  # the numbers below on any number of cores; pictures of 8x8 gain nothing from more
    config.epochs = 100
    config.stop.rule = "separation"
    config.compress.keep = 100
    config.compress.epochs = 50
    return config
