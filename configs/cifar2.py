"""The paper's ConvNet on CIFAR-2 (automobile and bird), trained to data separation (section 4.2).

Claim      10,000 examples of two classes are separated; the paper reports 3.54% and 4.65% test error for two networks.
Expected   separation after some tens of epochs (results/cifar2_separation holds a run).
Time       about 2 s an epoch on two CPU cores.
Run        python launch/train.py --config=configs/cifar2.py --config.data.dir=DIR --workdir=runs/cifar2
Trial      add --config.data.name=digits
"""

from ml_collections import ConfigDict

from margin_jax.config import default_config


def get_config() -> ConfigDict:
    """CIFAR-2, ConvNet without BatchNorm, SGD with momentum 0.9 and learning rate 0.01, batch 50, fixed order."""
    config = default_config()
    config.data.name = "cifar2"
    config.epochs = 200
    config.stop.rule = "separation"
    config.stop.after = 10
    return config
