"""Fig. 6: two networks with the same distribution of initial weights, and which smallest margins they share.

Claim      3.54% and 4.65% test error on CIFAR-2; 60 to 63% of the 200 smallest margins are of the same examples.
Expected   6.75% and 5.35% at epoch 200; 26.5% at separation, epochs 58 and 62, 32.5% at margin convergence six epochs
           later, 31.5% at epoch 200 (results/fig06). With the network of the paper's number of parameters 3.50% and
           3.85%, and 49.5% (results/fig06_candidate).
Time       5 minutes on two CPU cores.
Run        python launch/sweep.py --config=configs/fig06.py --config.data.dir=DIR --workdir=runs/fig06
           With that network, on a GPU: --config=configs/fig06.py:candidate
Trial      add --config.data.name=digits --config.sweep.init_stds="(0.1,)"
"""

from ml_collections import ConfigDict

from configs.sweep100 import get_config as sweep100


def get_config(network: str = "described") -> ConfigDict:
    """Two seeds, standard deviation 0.01, margins of every epoch; 200 epochs, past margin convergence."""
    config = sweep100(network)
    config.sweep.networks = 2
    config.sweep.seeds_per_std = 2
    config.sweep.init_stds = (0.01,)
    config.stop.rule = "epochs"  # margins count as converged six epochs after separation
    config.record.every = 1
    config.record.margins_every = 1
    return config
