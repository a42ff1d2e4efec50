"""A network as pure functions, which is all that training and measuring need to know of it; from config to network."""

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import errors as flax_errors
from flax import linen as nn

from margin_jax.errors import InputError
from margin_jax.models.convnet import ConvNet, Geometry
from margin_jax.models.convolution import choose_convolution
from margin_jax.models.densenet import DenseNetBC
from margin_jax.models.layers import FEATURES

Params = Any
BatchStats = Any
# How BatchNorm goes on after a removal. "tracked": as before, steps are normalised by the kept rows of their batch and
# running statistics follow them. "frozen": the same steps, but the running statistics, which evaluation uses, stay.
# "fixed": the running statistics stay and normalise the steps too.
BATCH_NORM = ("tracked", "frozen", "fixed")


class Network(NamedTuple):
    """Pure functions of one architecture.

    Attributes:
      init: (key, images (1, H, W, C)) -> (params, batch_stats); `batch_stats` is {} without BatchNorm.
      forward: (params, batch_stats, x (B, H, W, C), weights (B,)) -> (logits (B, C), new batch_stats), in training.
      logits: (params, batch_stats, x (B, H, W, C)) -> logits (B, C), in evaluation, in full float32 on every machine:
        the smallest margins and their order are read off them, and a GPU's TF32 has ten bits.
      batched: whether the examples of a batch interact, as BatchNorm makes them do.
      features: (params, batch_stats, x (B, H, W, C)) -> (B, D), the input of the last dense layer, in evaluation:
        with `classifier(params)` they give the logits.
    """

    init: Callable[[jax.Array, jax.Array], tuple[Params, BatchStats]]
    forward: Callable[[Params, BatchStats, jax.Array, jax.Array], tuple[jax.Array, BatchStats]]
    logits: Callable[[Params, BatchStats, jax.Array], jax.Array]
    batched: bool
    features: Callable[[Params, BatchStats, jax.Array], jax.Array]


def from_flax(module: nn.Module, batched: bool = True) -> Network:
    """Wraps a Flax module called as `module(x, train, weights)`, with its running statistics in `batch_stats`.

    `batched` says that the examples of a batch interact, as BatchNorm makes them do; a step is then never cut into
    pieces. True is right for every module, and costs memory where it need not be. `weights` (B,) float32 is 0 for rows
    that only fill the batch up, which no statistic over the batch may count.

    For `features` the module sows the input of its last dense layer, called `dense`, as FEATURES; nothing else needs
    it. Sowing costs nothing where it is not asked for: the collection is then immutable, and the call does nothing.

    Raises InputError for a module that is not called so, and its functions do for one that draws random numbers in a
    step, as Dropout does.
    """
    call = inspect.signature(module.__call__)
    try:
        call.bind(None, None, None)
    except TypeError as error:
        raise InputError(f"expected a module that is called as module(x, train, weights), got {type(module).__name__} "
                         f"with __call__{call}; let it take all three and ignore what it does not need") from error

    def named(fn: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        try:
            return fn(*arguments, **keywords)
        except flax_errors.InvalidRngError as error:
            raise InputError(f"expected a module without random numbers in its steps, got {type(module).__name__}, "
                             "which draws some, as Dropout does; leave them out, or write the functions of a "
                             "margin_jax.Network yourself, with keys of your own") from error

    def init(key: jax.Array, images: jax.Array) -> tuple[Params, BatchStats]:
        variables = named(module.init, key, images, True, jnp.ones(images.shape[0], jnp.float32))
        return variables["params"], variables.get("batch_stats", {})

    def forward(params: Params, batch_stats: BatchStats, x: jax.Array,
                weights: jax.Array) -> tuple[jax.Array, BatchStats]:
        logits, updated = named(module.apply, {"params": params, "batch_stats": batch_stats}, x, True, weights,
                                mutable=["batch_stats"])
        return logits, updated.get("batch_stats", {})

    def logits(params: Params, batch_stats: BatchStats, x: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            return named(module.apply, {"params": params, "batch_stats": batch_stats}, x, False,
                         jnp.ones(x.shape[0], jnp.float32))

    def features(params: Params, batch_stats: BatchStats, x: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            _, sown = named(module.apply, {"params": params, "batch_stats": batch_stats}, x, False,
                            jnp.ones(x.shape[0], jnp.float32), mutable=["intermediates"])
        features = sown.get("intermediates", {}).get(FEATURES)
        if features is None:
            raise InputError(f"expected a module that sows the input of its last dense layer as {FEATURES!r} in "
                             f"'intermediates', got {type(module).__name__}, which does not; add "
                             f"self.sow('intermediates', {FEATURES!r}, x) before that layer")
        return features[0]

    return Network(init, forward, logits, batched, features)


def classifier(params: Params) -> tuple[jax.Array, jax.Array]:
    """Weights (D, C) and biases (C,), zeros without, of the last dense layer: logits = features @ weights + biases."""
    layer = params["dense"]
    return layer["kernel"], layer.get("bias", jnp.zeros(layer["kernel"].shape[1], layer["kernel"].dtype))


@functools.lru_cache(maxsize=32)  # one object for one architecture, so that what is compiled for it is found again
def with_batch_norm(network: Network, mode: str) -> Network:
    """The network whose running statistics of BatchNorm go on as `mode` says, one of BATCH_NORM.

    Without BatchNorm the three are the same. Raises ValueError for an unknown mode.
    """
    if mode not in BATCH_NORM:
        raise ValueError(f"expected a mode of BatchNorm of {BATCH_NORM}, got {mode!r}")
    if mode == "frozen":
        return network._replace(forward=lambda params, batch_stats, x, weights: (
            network.forward(params, batch_stats, x, weights)[0], batch_stats))
    if mode == "fixed":  # examples no longer interact
        return network._replace(forward=lambda params, batch_stats, x, weights: (
            network.logits(params, batch_stats, x), batch_stats), batched=False)
    return network


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
    if ":" in model.name:
        return own_network(model.name, num_classes, rows_axis)
    shared = (model.biases, model.init, model.init_std, choose_convolution(model.conv, backend, mapped), rows_axis)
    if model.name == "densenet":
        return _of_package(DenseNetBC(num_classes, tuple(model.blocks), model.growth, model.reduction, model.stem,
                                      *shared), True)
    convnet = ConvNet(num_classes, tuple(model.widths), model.batch_norm, *shared, model.kernel, geometry_of(model),
                      tuple(model.dense))
    return _of_package(convnet, model.batch_norm)


def _own_function(name: str) -> Callable[..., nn.Module]:
    """The function that `model.name` "package.module:function" names; raises InputError."""
    module, _, function = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        raise InputError(f"config: model.name={name!r} should name a module that Python finds, got none called "
                         f"{error.name!r}; give its folder in PYTHONPATH") from error
    if not callable(made):
        raise InputError(f"config: model.name={name!r} should name a function of the module {module}, which has none "
                         f"called {function!r}")
    return made


def shares_rows(name: str) -> bool:
    """Whether a network can be trained with the rows of a step shared out among devices.

    Those of margin_jax can. One of the user's own can where its function takes `rows_axis`, the name of the axis of
    devices over which BatchNorm has to average; None means one device.
    """
    return ":" not in name or "rows_axis" in inspect.signature(_own_function(name)).parameters


@functools.lru_cache(maxsize=32)  # as of `with_batch_norm`
def own_network(name: str, num_classes: int, rows_axis: str | None = None) -> Network:
    """The network of a function outside this package.

    Args:
      name: "package.module:function"; function(num_classes) gives a Flax module as `from_flax` takes it.
      num_classes: C >= 2.
      rows_axis: given to the function by this name where it is not None.

    Raises:
      InputError: no such function, or one that gives anything else than a Flax module.
    """
    module = _own_function(name)(num_classes, **({} if rows_axis is None else {"rows_axis": rows_axis}))
    if not isinstance(module, nn.Module):
        raise InputError(f"config: model.name={name!r} should name a function that returns a flax.linen Module for a "
                         f"number of classes, got {type(module).__name__}")
    return from_flax(module)


def check_network(network: Network, image_shape: tuple[int, ...], num_classes: int) -> None:
    """Sees that a network takes the images and gives logits, without computing anything.

    Args:
      network: its pure functions.
      image_shape: (H, W, C).
      num_classes: how many logits there must be.

    Raises:
      InputError: images that it does not take, anything else than floating logits (B, C), or random numbers in a step.
    """
    images, rows = (jax.ShapeDtypeStruct((count, *image_shape), jnp.float32) for count in (1, 3))
    try:
        params, batch_stats = jax.eval_shape(network.init, jax.random.key(0), images)
        weights = jax.ShapeDtypeStruct((3,), jnp.float32)
        trained = jax.eval_shape(network.forward, params, batch_stats, rows, weights)[0]
        given = jax.eval_shape(network.logits, params, batch_stats, rows)
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError, flax_errors.FlaxError) as error:
        raise InputError(f"expected a network for images {image_shape}, got one that does not take them: {error}"
                         ) from error
    for logits in (trained, given):
        shape = getattr(logits, "shape", None)
        if shape != (3, num_classes) or not jnp.issubdtype(logits.dtype, jnp.floating):
            found = type(logits).__name__ if shape is None else f"{logits.dtype} {shape}"
            raise InputError(f"expected a network that gives logits (B, {num_classes}), one for each class, of B = 3 "
                             f"images, got {found}; it has to return what comes before softmax, and nothing else")


_of_package = functools.lru_cache(maxsize=32)(from_flax)  # as of `with_batch_norm`; users' modules need not hash


def geometry_of(model: Any) -> Geometry:
    """Strides, padding and pooling of the ConvNet that the config's section `model` describes."""
    return Geometry(tuple(model.strides), model.padding, tuple(model.pooling))
