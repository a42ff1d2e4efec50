"""The two networks that the paper may have trained, by name.

Claim      273,546 parameters (section 3) for "4 convolutional layers with filter size 3 x 3 and stride 2, one dense".
Expected   `described` follows these words and has 102,320 parameters on CIFAR-10, whatever biases and BatchNorm add.
           `candidate` has 273,546: convolutions 3x3 of stride 1 without padding, 32, 64, 128 and 128 channels, biases
           and BatchNorm, 2x2 max-pooling after the second and the fourth, one dense layer. That the number fits is
           no proof: among networks of this kind about one in a hundred numbers is met by accident.
Time       the candidate costs about 40 times the arithmetic of the described network.
Run        python launch/train.py --config=configs/networks.py:candidate --config.data.dir=DIR --workdir=runs/candidate
           In another config: "from configs.networks import candidate", then config.model.update(candidate()).
Trial      add --config.data.name=digits --config.model.padding=same
"""

from typing import Any

from ml_collections import ConfigDict

from configs.cifar2 import get_config as cifar2
from margin_jax.models.convnet import CANDIDATE, DESCRIBED


def described() -> dict[str, Any]:
    """The section `model` of the network that the paper describes: 3x3, stride 2, one zero pixel around."""
    return dict(DESCRIBED)


def candidate() -> dict[str, Any]:
    """The section `model` of the network with the paper's number of parameters, without its BatchNorm."""
    return dict(CANDIDATE)


NETWORKS = {"described": described, "candidate": candidate}


def get_config(network: str = "candidate") -> ConfigDict:
    """CIFAR-2 to separation, as configs/cifar2.py, with one of the two networks."""
    if network not in NETWORKS:
        raise ValueError(f"expected configs/networks.py:NAME with a NAME of {', '.join(NETWORKS)}, got {network!r}")
    config = cifar2()
    config.model.update(NETWORKS[network]())
    return config
