"""Fig. 11: one point of the training set of a separated network is replaced by a test point, 1,000 times per choice.

Claim      "Removing the smallest-margin datapoint has a significant higher influence on the test loss and rho" than
           removing a random one (section C.2 and the caption; no numbers, neither epochs nor data set are given).
Expected   on digits a point of smallest margin changes more than a random one in nearly every trial, but a few incoming
           points that the network gets wrong make up most of the means: with 20 trials their interval is wide.
Time       3,000 trials of 5 epochs are 15,000 epochs of CIFAR-2 at 0.9 s on two quiet CPU cores: about four hours;
           --config.stability.choices="('smallest','random')" or fewer stability.epochs take less.
Run        python launch/stability.py --config=configs/fig11.py --config.data.dir=DIR --workdir=runs/fig11
Trial      add --config.data.name=digits --config.stability.trials=20
"""

from ml_collections import ConfigDict

from margin_jax.config import default_config


def get_config() -> ConfigDict:
    """CIFAR-2, ConvNet without BatchNorm, batch 50, learning rate 0.01; 5 epochs from data separation on."""
    config = default_config()
    config.data.name = "cifar2"
    config.epochs = 200
    config.stop.rule = "separation"
    return config
