"""The regularisation runs of the supplement: fig. 3 without L2 and with L2 at two strengths.

Claim      the change of the margin distribution over time "is dependent on batch-normalization and regularization";
           with BatchNorm "this effect is increased with regularization" (fig. 13).
Expected   on CIFAR-2 those of configs/fig03.py for the first two strengths; at 0.005 no network separates within 200
           epochs, with and without BatchNorm, 0.1% to 3.0% training error being left (results/regularisation).
Time       three seeds 55 minutes on two CPU cores beside other work.
Run        python launch/sweep.py --config=configs/regularisation.py --config.data.dir=DIR --workdir=runs/regularisation
           Three seeds: --config.sweep.networks=18. Its first two strengths are those of configs/fig03.py, whose figures
           are drawn too.
Trial      add --config.data.name=digits
"""

from ml_collections import ConfigDict

from configs.fig03 import get_config as fig03


def get_config() -> ConfigDict:
    """As fig. 3, with a third weight decay, ten times as strong."""
    config = fig03()
    config.sweep.networks = 6
    config.sweep.weight_decays = (0.0, 5e-4, 5e-3)
    return config
