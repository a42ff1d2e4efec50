"""Fig. 5: right after data separation, keep the 200 or 100 smallest margins of CIFAR-10 and go on, beside all controls.

Claim      "When the dataset is compressed to 200 datapoints the test error increases slightly but plateaus": by 2.89.
Run        python launch/compress.py --config=configs/fig05.py --config.data.dir=DIR --workdir=runs/fig05
           The networks before the removal come from runs/separated and are trained there if they are not (see
           configs/cifar10_separated.py).
Trial      add --config.data.name=digits --config.compress.base= --config.batch_size=100
"""

from ml_collections import ConfigDict

from configs.cifar10_separated import get_config as separated


def get_config() -> ConfigDict:
    """From separation on: batch 50, learning rate 0.01, 50 epochs; counts 200 and 100, three seeds, all controls."""
    config = separated()
    config.compress.keeps = (200, 100)
    config.compress.seeds = (0, 1, 2)
    config.compress.batch_size = 50
    config.compress.epochs = 50
    config.compress.base = "runs/separated"
    return config
