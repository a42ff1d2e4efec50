"""How early can one compress: removal after a number of epochs, long before and after data separation.

Claim      none of the paper, which removes at data separation; its section 4.4 finds "no clear way of predicting which
           datapoints will have smallest margin before data separation".
Expected   on CIFAR-2, separated at epoch 26, 26 and 32, 200 random examples lose 11.5, 7.1, 2.3, 0.7, 0.5 and 0.0
           points where they are removed at epoch 1, 2, 5, 10, 20 and 40, the 200 smallest margins 56.1, 72.9, 67.3,
           25.3, 16.3 and 0.0: those are the wrong examples, of which it learns the opposite (results/early).
Time       about 1.5 s an epoch before the removal on two CPU cores, three seeds.
Run        for e in 1 2 5 10 20 40; do python launch/compress.py --config=configs/early.py:$e --config.data.dir=DIR
               --workdir=runs/early_$e; done
           On CIFAR-10: add --config.data.name=cifar10 --config.model.batch_norm=True --config.batch_size=254
Trial      add --config.data.name=digits
"""

from ml_collections import ConfigDict

from configs.cifar2 import get_config as cifar2


def get_config(epochs: str = "10") -> ConfigDict:
    """CIFAR-2 to this epoch, then 200 examples for 50 epochs of batch 50, as in configs/fig05.py; three seeds."""
    if not epochs.isdigit() or int(epochs) < 1:
        raise ValueError(f"expected configs/early.py:EPOCHS with a whole number of epochs >= 1, got {epochs!r}")
    config = cifar2()
    config.stop.rule = "epochs"
    config.stop.after = 0
    config.epochs = int(epochs)
    config.compress.keeps = (200,)
    config.compress.seeds = (0, 1, 2)
    config.compress.batch_size = 50
    config.compress.epochs = 50
    config.compress.controls = ("frozen", "random", "largest", "full")
    return config
