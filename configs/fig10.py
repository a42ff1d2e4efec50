"""Fig. 10: DenseNet-BC (blocks 6, 12, 12, 16) on CIFAR-10, compressed to 200 and 100 right after data separation.

Claim      82.7% accuracy before; 4.49 points lost at 200.
Time       made for a GPU, not measured on one yet; a small network on 1,000 examples of CIFAR-2 takes 15 minutes on two
           CPU cores (results/fig10_small).
Run        python launch/compress.py --config=configs/fig10.py --config.data.dir=DIR --workdir=runs/fig10
Trial      add --config.data.name=digits --config.model.blocks="(2,2)" --config.compress.base=
"""

from ml_collections import ConfigDict

from configs.fig05 import get_config as fig05


def get_config() -> ConfigDict:
    """As fig. 5, with DenseNet-BC and batch 50 from the first epoch on."""
    config = fig05()
    config.model.name = "densenet"
    config.batch_size = 50
    config.compress.base = "runs/separated_densenet"
    return config
