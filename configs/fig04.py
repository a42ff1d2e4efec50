"""Fig. 4: examples with the largest margins are left out step by step, from 50,000 to 1, retraining after each step.

Claim      +0.68 and +1.43 points of test error at 100 examples for initial weights of standard deviation 0.01 and 0.09,
           and about 2 at 20.
Expected   on CIFAR-2 -0.03 +- 0.26 and 0.23 +- 0.92 at 100, 0.65 +- 1.46 and 0.50 +- 0.99 at 20, three seeds each;
           random examples do as well (results/fig04_cifar2). Not run on CIFAR-10 yet.
Time       CIFAR-2, three seeds, both initialisations: 22 minutes on two CPU cores.
Run        python launch/compress.py --config=configs/fig04.py --config.data.dir=DIR --workdir=runs/fig04
           On CIFAR-2, with every number of the schedule divided by five: --config=configs/fig04.py:cifar2
Trial      add --config.data.name=digits --config.batch_size=100
           --config.compress.schedule="((400,200),(100,50),(10,10),(1,1))"
"""

from ml_collections import ConfigDict

from margin_jax.config import PAPER_SCHEDULE, default_config


def get_config(data: str = "cifar10") -> ConfigDict:
    """ConvNet with BatchNorm, batch 254 to margin convergence, full gradient descent after; both initialisations."""
    config = default_config()
    config.data.name = data
    config.model.batch_norm = True
    config.batch_size = 254
    config.epochs = 250
    config.stop.rule = "convergence"
    config.compress.mode = "continuous"
    config.compress.init_stds = (0.01, 0.09)
    config.compress.batch_size = 0
    config.compress.epochs = 50
    config.compress.keeps = (200, 100, 20)
    config.compress.seeds = (0, 1, 2)
    config.record.every = 5
    if data == "cifar2":
        config.compress.schedule = tuple((max(until // 5, 1), max(step // 5, 1)) for until, step in PAPER_SCHEDULE)
    return config
