"""The paper's network, convolutions with ReLU and a dense layer (section 3), and the chain of affine maps that it is.

The chain has BatchNorm folded into the convolutions and ReLUs, and max-pooling where there is some, between its maps.
Measures that speak of the function, such as products of operator norms, are taken on it: the kernels of a network with
BatchNorm can be rescaled at will without changing what the network computes.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from margin_jax.errors import InputError
from margin_jax.models.convolution import SIZE, Conv, convolve, max_pool, out_size, zeros_around
from margin_jax.models.layers import EPSILON, FEATURES, MaskedBatchNorm, bias_init, kernel_init

# Sections `model` of the two networks that the paper may have trained: the one that it describes, and one that has its
# number of parameters, 273,546 with BatchNorm.
DESCRIBED = MappingProxyType({"name": "convnet", "widths": (16, 32, 64, 128), "kernel": 3, "strides": (),
                              "padding": "same", "pooling": (), "dense": (), "biases": False})
CANDIDATE = MappingProxyType({"name": "convnet", "widths": (32, 64, 128, 128), "kernel": 3, "strides": (1, 1, 1, 1),
                              "padding": "valid", "pooling": (1, 3), "dense": (), "biases": True})


class Geometry(NamedTuple):
    """How the convolutions of a ConvNet move over an image, which its parameters do not tell.

    Attributes:
      strides: of each convolution; () is 2 for all.
      padding: of every convolution, one of `convolution.PADDINGS`: "same", (size - 1)/2 zero pixels, or "valid", none.
      pooling: numbers of the convolutions, counted from 0, after whose ReLU stands a 2x2 max-pooling.
    """

    strides: tuple[int, ...] = ()
    padding: str = "same"
    pooling: tuple[int, ...] = ()

    def stride(self, layer: int) -> int:
        """Of the convolution of this number; IndexError where `strides` are too few."""
        return self.strides[layer] if self.strides else 2

    def check(self, layers: int, size: int, image_shape: tuple[int, ...]) -> None:
        """Raises InputError unless `layers` convolutions of `size` x `size` kernels can be applied to such images."""
        if self.strides and len(self.strides) != layers:
            raise InputError(f"expected a stride for each of the {layers} convolutions, or () for 2 everywhere, got "
                             f"model.strides={self.strides}")
        if any(not 0 <= layer < layers for layer in self.pooling):
            raise InputError(f"expected numbers of the convolutions 0..{layers - 1} after which to pool, got "
                             f"model.pooling={self.pooling}")
        if self.padding == "same" and size % 2 == 0:
            raise InputError(f"expected an odd kernel with model.padding='same', got model.kernel={size}")
        sides, zeros = tuple(image_shape[:2]), zeros_around(size, self.padding)
        for layer in range(layers):
            before, sides = sides, tuple(out_size(side, self.stride(layer), size, zeros) for side in sides)
            if layer in self.pooling:
                sides = tuple(side // 2 for side in sides)
            if 0 in sides:
                raise InputError(f"images of shape {tuple(image_shape)} are too small: convolution {layer} is given "
                                 f"{before[0]}x{before[1]} pixels, of which nothing is left; use fewer layers, less "
                                 "pooling or model.padding='same'")


class ConvNet(nn.Module):
    """Square convolutions, each followed by optional BatchNorm, ReLU and optional pooling, then dense layers.

    As it stands it is the network that the paper describes: four 3x3 convolutions of stride 2, one dense layer. With
    32x32x3 images and 10 classes it has 102,320 parameters, where the paper gives 273,546 for the same description.
    With widths (32, 64, 128, 128), strides 1, no padding, pooling after the second and the fourth convolution, biases
    and BatchNorm it has just these 273,546 (`CANDIDATE`).

    Without biases and BatchNorm the network is positively homogeneous: f(aW; x) = a^K f(W; x) for
    K = len(widths) + len(dense) + 1.

    Attributes:
      num_classes: C.
      widths: channels of each convolution.
      batch_norm: after every convolution.
      biases: of every layer.
      initialiser, init_std: of `layers.kernel_init`.
      conv: one of `convolution.FORMULATIONS`.
      rows_axis: name of the device axis over which the rows of a step are shared out, if they are.
      kernel: pixels along one side of a kernel.
      geometry: strides, padding and pooling.
      dense: widths of hidden dense layers, each followed by ReLU, before the last one.
    """

    num_classes: int
    widths: tuple[int, ...] = (16, 32, 64, 128)
    batch_norm: bool = False
    biases: bool = False
    initialiser: str = "pytorch"
    init_std: float = 0.03
    conv: str = "tiled"
    rows_axis: str | None = None
    kernel: int = SIZE
    geometry: Geometry = Geometry()
    dense: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, weights: jax.Array) -> jax.Array:
        """Logits of a batch.

        Args:
          x: (B, H, W, C) float, standardised images.
          train: whether BatchNorm uses (and updates) the statistics of this batch.
          weights: (B,) float, 1 for rows that count and 0 for padding.

        Returns:
          (B, num_classes) float logits.

        Raises:
          InputError: a geometry that does not fit the layers or the images.
        """
        geometry = Geometry(*self.geometry)  # Flax may have made a plain tuple of it
        geometry.check(len(self.widths), self.kernel, x.shape[1:])
        for layer, width in enumerate(self.widths):
            x = Conv(width, self.initialiser, self.init_std, self.biases, self.conv, self.kernel,
                     geometry.stride(layer), geometry.padding, name=f"conv_{layer}")(x)
            if self.batch_norm:
                x = MaskedBatchNorm(self.rows_axis, name=f"norm_{layer}")(x, train, weights)
            x = nn.relu(x)
            if layer in geometry.pooling:
                x = max_pool(x)
        x = x.reshape(x.shape[0], -1)
        for layer, width in enumerate(self.dense):
            x = nn.relu(self._dense(width, x.shape[-1], f"hidden_{layer}")(x))
        self.sow("intermediates", FEATURES, x)
        return self._dense(self.num_classes, x.shape[-1], "dense")(x)

    def _dense(self, width: int, inputs: int, name: str) -> nn.Dense:
        return nn.Dense(width, self.biases, name=name, kernel_init=kernel_init(self.initialiser, self.init_std),
                        bias_init=bias_init(self.initialiser, inputs))


class Layer(NamedTuple):
    """A weight layer on the input that it sees.

    Attributes:
      kernel: (size, size, C, O) float of a convolution, as of `convolution.convolve`, or (in, out) float of a dense
        layer.
      bias: (O,) or (out,) float, or None.
      shape: of one input: (H, W, C) or (in,).
      stride: of a convolution; 1 for a dense layer.
      padding: of a convolution, one of `convolution.PADDINGS`.
      pooled: whether a 2x2 max-pooling follows its ReLU, which is 1-Lipschitz and part of no norm.
    """

    kernel: jax.Array
    bias: jax.Array | None
    shape: tuple[int, ...]
    stride: int = 1
    padding: str = "same"
    pooled: bool = False


def apply_linear(layer: Layer, x: jax.Array) -> jax.Array:
    """The linear part of a layer, without bias and pooling: (B, *shape) to (B, H', W', O) or (B, out)."""
    if layer.kernel.ndim == 2:
        return x @ layer.kernel
    return convolve(x, layer.kernel, "patches", layer.stride, layer.padding)


def _names(params: Any, kind: str) -> list[str]:
    # In the order in which they are applied, not that of the alphabet, which has conv_10 before conv_2.
    return [f"{kind}_{layer}" for layer in range(sum(str(name).startswith(f"{kind}_") for name in params))]


def is_convnet(params: Any) -> bool:
    """Whether these are the parameters of a `ConvNet`, with or without BatchNorm and biases, judged by their names."""
    if not isinstance(params, Mapping):
        return False
    layers, normed = {*_names(params, "conv"), *_names(params, "hidden"), "dense"}, _names(params, "norm")
    return set(params) in (layers, layers | set(normed)) and len(normed) in (0, len(_names(params, "conv")))


def fold_batch_norm(params: Any, batch_stats: Any = None) -> Any:
    """The parameters of a ConvNet without BatchNorm that computes the same logits as this one in evaluation mode.

    BatchNorm after a convolution, with running mean m and variance v, maps channel o to s_o (x_o - m_o) + b_o for
    s = scale / sqrt(v + eps); the convolution of kernel s_o W_o and bias s_o (bias_o - m_o) + b_o does both.
    Jiang et al. 2020 take their measures on networks folded in this way.

    Args:
      params: of a ConvNet.
      batch_stats: its running statistics; None for those of a fresh network, mean 0 and variance 1.

    Returns:
      Parameters for the same ConvNet with `batch_norm=False, biases=True`; `params` itself if it has no BatchNorm.

    Raises:
      ValueError: parameters of another architecture.
    """
    if not is_convnet(params):
        raise ValueError(f"expected the parameters of a ConvNet, got {sorted(map(str, params))}")
    if "norm_0" not in params:
        return params
    folded = {}
    for name in _names(params, "conv"):
        layer, norm = params[name], params[name.replace("conv", "norm")]
        fresh = {"mean": jnp.zeros_like(norm["bias"]), "var": jnp.ones_like(norm["scale"])}
        stats = fresh if batch_stats is None else batch_stats[name.replace("conv", "norm")]
        factor = norm["scale"] / jnp.sqrt(stats["var"] + EPSILON)
        folded[name] = {"kernel": layer["kernel"] * factor[None, None, None],
                        "bias": (layer.get("bias", 0) - stats["mean"]) * factor + norm["bias"]}
    for name in (*_names(params, "hidden"), "dense"):
        folded[name] = {"bias": jnp.zeros_like(params[name]["kernel"][0])} | dict(params[name])
    return folded


def convnet_layers(params: Any, image_shape: tuple[int, int, int],
                   geometry: Geometry = Geometry()) -> dict[str, Layer]:
    """The weight layers of a ConvNet without BatchNorm, each with the shape of its input.

    Args:
      params: of a ConvNet; with BatchNorm fold it first (`fold_batch_norm`).
      image_shape: (H, W, C).
      geometry: of the ConvNet.

    Returns:
      Layers in the order in which they are applied, by the path of the kernel in the pytree, as `norms.layer_norms`.

    Raises:
      ValueError: another architecture, BatchNorm, or images or a geometry that the layers do not fit.
    """
    if not is_convnet(params) or "norm_0" in params:
        raise ValueError(f"expected the parameters of a ConvNet without BatchNorm, got {sorted(map(str, params))}")
    convs, layers, shape = _names(params, "conv"), {}, tuple(image_shape)
    geometry.check(len(convs), params[convs[0]]["kernel"].shape[0] if convs else SIZE, shape)
    for number, name in enumerate((*convs, *_names(params, "hidden"), "dense")):
        kernel, dense = jnp.asarray(params[name]["kernel"]), number >= len(convs)
        if dense:
            shape = (int(np.prod(shape)),)
        if kernel.shape[-2] != shape[-1]:
            raise ValueError(f"images of shape {tuple(image_shape)} do not fit: {name} takes {kernel.shape[-2]} "
                             f"channels and is given {shape[-1]}")
        layer = Layer(kernel, params[name].get("bias"), shape)
        if not dense:
            layer = layer._replace(stride=geometry.stride(number), padding=geometry.padding,
                                   pooled=number in geometry.pooling)
        layers[f"{name}/kernel"], shape = layer, _shape_after(layer)
    return layers


def _shape_after(layer: Layer) -> tuple[int, ...]:
    if layer.kernel.ndim == 2:
        return (layer.kernel.shape[1],)
    size = layer.kernel.shape[0]
    sides = [out_size(side, layer.stride, size, zeros_around(size, layer.padding)) for side in layer.shape[:2]]
    return (*(side // 2 if layer.pooled else side for side in sides), layer.kernel.shape[-1])
