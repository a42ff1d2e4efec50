"""Neural collapse through training, NC1 to NC4 (Papyan, Han and Donoho 2020), with BatchNorm and L2.

Claim      with BatchNorm, L2 and training far past separation "all data are equally important": the variability within
           classes vanishes (NC1), class means and classifier come to a simplex (NC2, NC3), decisions to the nearest
           mean (NC4).
Expected   not measured yet. The centred means of two classes are opposite by construction, so that NC2 of the means
           says nothing.
Run        python launch/train.py --config=configs/collapse.py --config.data.dir=DIR --workdir=runs/collapse
           On CIFAR-10: --config.data.name=cifar10. Without L2: --config.optimizer.weight_decay=0.0
Trial      add --config.data.name=digits
"""

from ml_collections import ConfigDict

from margin_jax.config import default_config


def get_config() -> ConfigDict:
    """CIFAR-2, ConvNet with BatchNorm and the L2 of fig. 3, 200 epochs, neural collapse at every fifth."""
    config = default_config()
    config.data.name = "cifar2"
    config.epochs = 200
    config.shuffle = True  # as in configs/fig03.py
    config.model.batch_norm = True
    config.optimizer.weight_decay = 5e-4
    config.record.every = 5
    config.record.collapse_every = 5
    return config
