"""From config to network."""

from typing import Any

from margin_jax.models.convnet import ConvNet
from margin_jax.models.convolution import choose_formulation
from margin_jax.network import Network, from_flax


def make_network(model: Any, num_classes: int, backend: str, mapped: bool = False) -> Network:
    """The network that `config.model` describes.

    Args:
      model: the config's section `model`, validated.
      num_classes: C >= 2.
      backend: `jax.default_backend()`, for the choice of the convolution's formulation.
      mapped: whether many networks run under vmap.

    Returns:
      Its pure functions.
    """
    module = ConvNet(num_classes, tuple(model.widths), model.batch_norm, model.biases, model.init, model.init_std,
                     choose_formulation(model.conv, backend, mapped))
    return from_flax(module, batched=model.batch_norm)
