"""The paper's ConvNet on CIFAR-10: the margin of all 50,000 training examples, epoch by epoch (section 3).

Claim      the margin distribution of all 50,000 examples moves above zero as the data become separated. Test
           performance "is not state of the art": no augmentation, no regularisation.
Expected   52% test error after 1 epoch, 38% after 6, 41% after 10, seed 0 (results/cifar10_10_epochs); with the fixed
           order and no BatchNorm the test error rises again while the training error falls. Separation was not
           waited for here.
           Those figures are of one device (--config.devices=1); others round otherwise.
Time       5 to 7 s an epoch on two CPU cores, 7 to 11 s with --config.devices=1.
Run        python launch/train.py --config=configs/cifar10.py --config.data.dir=DIR --workdir=runs/cifar10
Trial      add --config.data.name=digits
"""

from ml_collections import ConfigDict

from margin_jax.config import default_config


def get_config() -> ConfigDict:
    """CIFAR-10, ConvNet without BatchNorm, SGD with momentum 0.9 and learning rate 0.01, batch 50, fixed order."""
    config = default_config()
    config.data.name = "cifar10"
    config.epochs = 200
    config.stop.rule = "separation"
    config.stop.after = 20
    return config
