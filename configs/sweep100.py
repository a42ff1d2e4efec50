"""Fig. 2 and the audit: 100 networks on CIFAR-2 that differ in their initial weights, trained together.

Claim      "larger margin distributions generalise better": the larger the area under the margin curve, the lower the
           test error; larger standard deviations of the initial weights give larger test errors.
Expected   all 100 separate; Spearman's correlation, above 0 where the claim holds, is -0.42 (-0.56 to -0.27) at
           separation and -0.50 (-0.63 to -0.35) at convergence; given std and training loss -0.09 (-0.28 to 0.12) and
           -0.02 (-0.27 to 0.22) (results/sweep100). 40 networks with the paper's number of parameters leave it open,
           0.01 (-0.23 to 0.22) at convergence (results/sweep40_candidate).
Time       97 minutes on two CPU cores, beside other work.
Run        python launch/sweep.py --config=configs/sweep100.py --config.data.dir=DIR --workdir=runs/sweep100
           With BatchNorm: --config.model.batch_norm=True. With steps of 250 examples: --config.batch_size=250.
           With the network that has the paper's number of parameters: --config=configs/sweep100.py:candidate
Trial      add --config.data.name=digits --config.sweep.networks=20 --config.sweep.init_stds="(0.1,0.16)"
"""

from ml_collections import ConfigDict

from configs.networks import NETWORKS
from margin_jax.config import default_config


def get_config(network: str = "described") -> ConfigDict:
    """ConvNet without BatchNorm, 20 standard deviations in 0.01 to 0.05, 5 seeds each, to margin convergence."""
    if network not in NETWORKS:
        raise ValueError(f"expected configs/sweep100.py:NAME with a NAME of {', '.join(NETWORKS)}, got {network!r}")
    config = default_config()
    config.model.update(NETWORKS[network]())
    config.data.name = "cifar2"
    config.epochs = 200
    config.stop.rule = "convergence"
    config.record.every = 5
    config.record.margins_every = 1000  # at separation, convergence and the end alone
    return config
