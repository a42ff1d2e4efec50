"""Neural collapse through training, NC1 to NC4 (Papyan, Han and Donoho 2020), with BatchNorm and L2.

Claim      with BatchNorm, L2 and training far past separation "all data are equally important": the variability within
           classes vanishes (NC1), class means and classifier come to a simplex (NC2, NC3), decisions to the nearest
           mean (NC4).
Expected   on CIFAR-2, seed 0, separation at epoch 13. By epoch 180 NC1 has fallen from 0.13 there to 0.02, NC3 from
           0.63 to 0.22, decisions other than the nearest mean's from 1.2% to 0. At a constant learning rate with
           BatchNorm and L2 the loss jumps now and then; a jump at epoch 190 takes NC1 back to 0.11, and the run ends at
           0.08 with 0.13% training error and 4.4% test error (results/collapse). The centred means of two classes are
           opposite by construction, so that NC2 of the means says nothing.
Time       4.5 minutes on two CPU cores.
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
