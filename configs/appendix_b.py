"""Appendix B: what deleting examples leaves of equations (4) and (5), at one separated network.

Claim      deleting any points leaves an interpolating minimum of the square loss a minimum (equation 4); for
           exponential-type losses "points that are closer to the decision boundary" matter (equation 5).
Expected   on CIFAR-2 gradients of 1e-14 to 4e-14 for regression whatever is deleted; where it does not interpolate,
           0.0001 to 0.4. In equation (5) the one smallest margin moves each layer's sum by 9 to 11% of the size of its
           terms, the 200 smallest by 13 to 15%, 200 random ones by less than 1.5%, the 200 largest by nothing that
           double precision shows (results/appendix_b).
Time       1 minute on two CPU cores.
Run        python launch/stability.py --config=configs/appendix_b.py --config.data.dir=DIR --workdir=runs/appendix_b
           The network comes from the folder --config.stability.base, where fig11 may have left it, if one is given.
Trial      add --config.data.name=digits
"""

from ml_collections import ConfigDict

from configs.fig11 import get_config as fig11


def get_config() -> ConfigDict:
    """The network of fig. 11, and no trials; 1, 20, 200 deleted of the smallest, the largest and random margins."""
    config = fig11()
    config.stability.trials = 0
    return config
