"""Layers and parameters of a DenseNet-BC in closed form (Huang et al. 2017, sections 3 and 4.2, table 2)."""

import math

from margin_jax.errors import InputError

BOTTLENECK = 4  # a bottleneck has this many times the growth


def stem_channels(stem: int, growth: int) -> int:
    """Channels of the first convolution: `stem`, or twice the growth for 0."""
    return stem or 2 * growth


def transition_channels(channels: int, reduction: float) -> int:
    """Channels after a transition, floor(reduction * channels).

    Raises:
      InputError: none would be left.
    """
    kept = math.floor(round(reduction * channels, 9))  # rounded first: in floats 0.29 of 100 is less than 29
    if kept < 1:
        raise InputError(f"config: model.reduction {reduction} leaves no channel of the {channels} that reach a "
                         "transition; enlarge it, model.stem or model.growth")
    return kept


def count_layers(blocks: tuple[int, ...]) -> int:
    """The depth L of the paper: convolutions and the dense layer, 2 sum(blocks) + (len(blocks) - 1) + 2."""
    return 2 * sum(blocks) + len(blocks) - 1 + 2


def count_parameters(blocks: tuple[int, ...], growth: int, reduction: float, stem: int, num_classes: int,
                     image_channels: int, biases: bool) -> int:
    """Trained parameters: kernels, scale and bias of every BatchNorm, the dense layer.

    Args:
      blocks: layers of each dense block.
      growth: k, channels that a layer adds.
      reduction: share of the channels that a transition keeps.
      stem: channels of the first convolution; 0: twice the growth.
      num_classes: outputs of the dense layer.
      image_channels: of the input.
      biases: whether the dense layer has them.

    Returns:
      Their number. A block of b layers that c channels enter has (2 + 4k)(bc + k b(b - 1)/2) + b(8k + 36k^2): every
      layer reads, normalises and maps to 4k channels all that came before, and maps 4k normalised channels to k.

    Raises:
      InputError: a transition would keep no channel.
    """
    channels, k = stem_channels(stem, growth), growth
    total = 9 * image_channels * channels
    for block, layers in enumerate(blocks):
        if block:
            kept = transition_channels(channels, reduction)
            total += 2 * channels + channels * kept
            channels = kept
        read = layers * channels + k * layers * (layers - 1) // 2
        total += (2 + BOTTLENECK * k) * read + layers * (2 * BOTTLENECK * k + 9 * BOTTLENECK * k * k)
        channels += layers * k
    return total + 2 * channels + channels * num_classes + (num_classes if biases else 0)
