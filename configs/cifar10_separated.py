"""ConvNet with BatchNorm on CIFAR-10, trained to data separation: where the compressions of fig. 5 and table 1 start.

Claim      "A model was trained to 100% training accuracy on the original 50,000 datapoints" (section C.5).
Expected   separation at epoch 60 to 73 with 34.2 to 35.2% test error, seeds 0 to 2. Batch 254 is the paper's for its
           other compressions: with 50, steps separate the data too, but the running statistics, with which margins are
           measured, leave about 90 of the 50,000 wrong for as long as was waited, each batch being always the same 50
           examples (add --config.batch_size=50 --config.epochs=70).
Time       4 to 5 s an epoch on two quiet CPU cores; those runs took 10 to 20 minutes beside other work.
Run        python launch/train.py --config=configs/cifar10_separated.py --config.data.dir=DIR --config.seed=0
               --workdir=runs/separated/seed_0
Trial      add --config.data.name=digits
"""

from ml_collections import ConfigDict

from margin_jax.config import default_config


def get_config() -> ConfigDict:
    """CIFAR-10, ConvNet with BatchNorm, SGD with momentum 0.9 and learning rate 0.01, batch 254, fixed order."""
    config = default_config()
    config.data.name = "cifar10"
    config.model.batch_norm = True
    config.batch_size = 254
    config.epochs = 250
    config.stop.rule = "separation"
    config.record.every = 5
    return config
