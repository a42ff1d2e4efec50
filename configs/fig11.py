"""Fig. 11: one point of the training set of a separated network is replaced by a test point, 1,000 times per choice.

Claim      "Removing the smallest-margin datapoint has a significant higher influence on the test loss and rho" than
           removing a random one (section C.2 and the caption; no numbers, neither epochs nor data set are given).
Expected   on CIFAR-2, one epoch on, the smallest margin's point changes the test loss 5.8 (4.6 to 7.6) times and rho
           2.9 (2.3 to 4.1) times as much as a random one, which most often changes nothing; a few incoming points that
           the network gets wrong make up most of its mean (results/fig11).
Time       with --config.stability.epochs=1 38 minutes on two CPU cores: 3,000 epochs at 0.8 s. As it stands, 5 epochs,
           over three hours; --config.stability.choices="('smallest','random')" takes less.
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
