"""Fig. 7 and 15 to 18: the 200 smallest, middle and largest margins through training with batch size 1.

Claim      "There is no clear way of predicting which datapoints will have smallest margin before data separation"
           (epoch 40 in fig. 7, 60 in fig. 15).
Expected   on CIFAR-2 separation at epoch 28, 32 and 28 for seeds 0 to 2, 5.3% to 5.9% test error at the end. Half way
           there the order of all margins is mostly that of the end (Spearman's correlation 0.88 +- 0.04), but of the
           final 20 smallest none is there, of 100 10 +- 9%, of 200 20 +- 10%; chance gives up to 5%, 3% and 4%. At
           separation 45 +- 57%, 58 +- 16% and 71 +- 16% are (results/fig07). The learning rate is 0.003 without
           momentum: with the paper's 0.01 the network does not last, see below.
Time       2 minutes on one CPU core.
Run        python launch/train.py --config=configs/fig07.py --config.data.dir=DIR --workdir=runs/fig07
           On CIFAR-10, as in fig. 15 to 18: --config.data.name=cifar10 (see below).
Trial      add --config.data.name=digits

Batch size 1 on CIFAR-2, seed 0, tried for the setting. Rate 0.01, momentum 0, which is the paper's "standard SGD": 2.2%
training error at best (epoch 8), then the weights grow and the loss stops being finite in epoch 30; shuffled, 1.6% at
best, and a constant output from epoch 30 on. Rate 0.01, momentum 0.9: a constant output from the first epoch on.
On CIFAR-10, rate 0.01 and images in [-1, 1] (--config.data.scaling=half): 43% training error at best (epoch 3), then
slowly worse, 51% at epoch 27, where it was stopped.
"""

from ml_collections import ConfigDict

from margin_jax.config import default_config


def get_config() -> ConfigDict:
    """CIFAR-2, ConvNet without BatchNorm, SGD without momentum, batch 1, fixed order, 20 epochs past separation."""
    config = default_config()
    config.data.name = "cifar2"
    config.batch_size = 1
    config.optimizer.learning_rate = 0.003
    config.optimizer.momentum = 0.0
    config.epochs = 200
    config.stop.rule = "separation"
    config.stop.after = 20
    config.figures = ("fig07", "fig15", "fig16", "fig17", "fig18", "support")
    return config
