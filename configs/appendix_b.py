"""Appendix B: what deleting examples leaves of equations (4) and (5), at one separated network.

Claim      deleting any points leaves an interpolating minimum of the square loss a minimum (equation 4); for
           exponential-type losses "points that are closer to the decision boundary" matter (equation 5).
Expected   gradients of about 1e-14 for regression; in equation (5) the smallest margins change each layer's sum most.
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
