"""Fig. 3, 13 and 14: margin curves through 200 epochs, with and without BatchNorm, with and without L2.

Claim      "in the presence of both regularization and batch normalization, the distribution of margins does indeed get
           flatter with time. [...] without either L2 regularization or batch normalization, such flattening is not
           apparent"; for some classes more than for others.
L2         5e-4, that of the CIFAR networks of Papyan, Han and Donoho (2020), whose neural collapse the claim is about;
           the paper gives no value.
Order      a new one every epoch, unlike the paper's: in fixed order with 50 examples at a time, running statistics of
           BatchNorm leave some examples wrong for good (configs/cifar10_separated.py), and flattening counts from data
           separation.
Expected   on CIFAR-2, three seeds, std / mean falls from separation on to 0.63 (0.50 to 0.78) of its value with both,
           to 0.91 (0.86 to 0.96) with BatchNorm alone, 0.87 (0.84 to 0.90) with L2 alone, 0.97 (0.95 to 0.99) with
           neither; the end is a mean over epochs, since with both single epochs leave the course
           (results/regularisation, which has these runs and a third L2). One seed leaves the claim open.
Time       0.7 s an epoch of one network on two CPU cores (configs/regularisation.py): some 10 minutes.
Run        python launch/sweep.py --config=configs/fig03.py --config.data.dir=DIR --workdir=runs/fig03
           On CIFAR-10, as in the paper: --config.data.name=cifar10. Three seeds: --config.sweep.networks=12.
Trial      add --config.data.name=digits
"""

from ml_collections import ConfigDict

from margin_jax.config import default_config


def get_config() -> ConfigDict:
    """CIFAR-2, ConvNet, 200 epochs whatever happens; four networks of one seed, margins of every fifth epoch."""
    config = default_config()
    config.data.name = "cifar2"
    config.epochs = 200
    config.shuffle = True
    config.record.every = 5
    config.sweep.networks = 4
    config.sweep.init_stds = ()
    config.sweep.weight_decays = (0.0, 5e-4)
    config.sweep.batch_norms = (True, False)
    return config
