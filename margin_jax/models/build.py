"""From config to network."""

from typing import Any

from margin_jax.models.convnet import ConvNet
from margin_jax.models.densenet import DenseNetBC
from margin_jax.network import Network, from_flax
from margin_jax.tuning import choose_convolution


def make_network(model: Any, num_classes: int, backend: str, mapped: bool = False,
                 rows_axis: str | None = None) -> Network:
    """The network that `config.model` describes.

    Args:
      model: the config's section `model`, validated.
      num_classes: C >= 2.
      backend: `jax.default_backend()`, for the choice of the convolution's formulation.
      mapped: whether many networks run under vmap.
      rows_axis: name of the device axis over which the rows of a step are shared out, if they are.

    Returns:
      Its pure functions.
    """
    shared = (model.biases, model.init, model.init_std, choose_convolution(model.conv, backend, mapped), rows_axis)
    if model.name == "densenet":
        return from_flax(DenseNetBC(num_classes, tuple(model.blocks), model.growth, model.reduction, model.stem,
                                    *shared), batched=True)
    return from_flax(ConvNet(num_classes, tuple(model.widths), model.batch_norm, *shared), batched=model.batch_norm)
