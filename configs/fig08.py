"""Fig. 8 and 9: pictures of the final 20 and 100 smallest margins, ranked at every epoch before.

Claim      at data separation 55% of the final 20 are among the 20 smallest already (fig. 8, separation at epoch 25,
           final set at epoch 60); in another network 85% of 20 and 40% of 100 (fig. 9, final set at epoch 100).
Expected   on CIFAR-2 separation at epoch 26, 26 and 32 for seeds 0 to 2, 5.5% to 6.2% test error 35 epochs on. At
           separation 20% of the final 20 are present in each, 46 +- 16% of 100 and 60 +- 14% of 200; half way there 3
           +- 14%, 11 +- 10% and 18 +- 9% (results/fig08, on two devices; other numbers of devices round otherwise).
Time       1 to 1.5 minutes on two CPU cores.
Run        python launch/train.py --config=configs/fig08.py --config.data.dir=DIR --workdir=runs/fig08
           To the length of fig. 9: add --config.stop.after=75
           On CIFAR-10, with what separates it (see configs/cifar10_separated.py): --config=configs/fig08.py:cifar10, 17
           minutes. Separation at epoch 60, 73 and 69 for seeds 0 to 2, 34.4% to 35.2% test error 35 epochs on. At
           separation 10, 11 and 11 of the final 20 are present, 66 +- 21% of 100 (results/fig08_cifar10).
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
