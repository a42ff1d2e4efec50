"""Fig. 8 and 9: pictures of the final 20 and 100 smallest margins, ranked at every epoch before.

Claim      at data separation 55% of the final 20 are among the 20 smallest already (fig. 8, separation at epoch 25,
           final set at epoch 60); in another network 85% of 20 and 40% of 100 (fig. 9, final set at epoch 100).
Expected   on CIFAR-2 separation at epoch 26, 5.6% test error at epoch 61, seed 0. At separation 5 of the final 20 (11
           to 47%), 46 of 100 (37 to 56%) and 128 of 200 are present; half way there none, 12 and 52. Other numbers of
           devices than --config.devices=1 round otherwise.
Time       about 1.3 s an epoch on two CPU cores, some 60 epochs.
Run        python launch/train.py --config=configs/fig08.py --config.data.dir=DIR --workdir=runs/fig08
           To the length of fig. 9: add --config.stop.after=75
           On CIFAR-10, with what separates it: --config=configs/fig08.py:cifar10 (see configs/cifar10_separated.py; 4
           to 5 s an epoch, about 100 epochs; not run to the end yet).
Trial      add --config.data.name=digits
"""

from ml_collections import ConfigDict

from configs.cifar2 import get_config as cifar2
from configs.cifar10_separated import get_config as separated


def get_config(data: str = "cifar2") -> ConfigDict:
    """CIFAR-2 as in configs/cifar2.py, or CIFAR-10; margins of every epoch, 35 epochs past separation."""
    if data not in ("cifar2", "cifar10"):
        raise ValueError(f"expected configs/fig08.py, or configs/fig08.py:cifar10, got {data!r}")
    config = cifar2() if data == "cifar2" else separated()
    config.stop.after = 35
    config.record.every = 1
    config.figures = ("support", "fig08", "fig09", "fig08_ids", "fig09_ids")
    return config
