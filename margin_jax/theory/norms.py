"""Layer norms and their product rho, from any parameter pytree.

What a leaf is, its name tells where it can, the last part of its path:

- a *bias* is called `bias` or `offset`, or the name begins with `bias_` or ends in `_bias`; so is `b` beside `w`, and
  `beta` beside `gamma`;
- a *scale* is called `scale`, or `gamma` beside `beta`, or has the shape of its own bias: it acts entry by entry;
- a *weight layer* is any other leaf with two or more axes, a *convolution* one with three or more, a *dense* layer one
  with exactly two.

Biases and scales enter no norm of weight layers, whatever their rank (Banburski et al. 2021, section 2.1: networks are
without them): attention has biases (heads, dim), Equinox (out, 1, 1), Haiku a scale and an offset (1, 1, 1, C).

A *BatchNorm* layer is a leaf called `scale` together with its sibling `bias` or `offset`, if it has one. Other
normalisations hold the same two arrays. Running statistics tell them apart, where they are given: a BatchNorm has some
under its own path. Else the name of the layer does: BatchNorm is what is called so (`BatchNorm_0`, `batch_norm`,
`bn1`), and none what is called after LayerNorm, GroupNorm, InstanceNorm, RMSNorm, WeightNorm or SpectralNorm
(`LayerNorm_0`, `layer_norm`, `ln_1`, `gn`). In the networks of this package, known by the names of all their layers,
`norm` and `norm_0` are BatchNorm. Any other name tells nothing, and what needs to know is refused.

For one network of a stack use `jax.vmap(rho)`.
"""

import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from margin_jax.errors import InputError
from margin_jax.theory.checks import is_array, precise

KINDS = ("frobenius", "spectral", "p")
MODES = ("default", "all", "conv", "batch_norm")
_BIAS_OR_SCALE = re.compile(r"bias|offset|bias_.*|.*_bias|scale")
_BESIDE = {"b": "w", "beta": "gamma", "gamma": "beta"}  # names that tell nothing alone: {"a": ..., "b": ...}
_NOT_BATCH_NORM = re.compile(r"(layer|group|instance|rms|weight|spectral)_?norm|(?<![a-z])(ln|gn)(?![a-z])")
_BATCH_NORM = re.compile(r"batch_?norm|(?<![a-z])bn(?![a-z])")
# The leaves of this package's ConvNet and DenseNetBC.
_CONVNET = re.compile(r"((conv|norm|hidden)_\d+|dense)/(kernel|bias|scale)")
_DENSENET = re.compile(r"(stem_conv|((block_\d+_layer_\d+_(bottleneck|growth)|transition_\d+)/)?(conv|norm)|dense)/"
                       r"(kernel|bias|scale)")
_RANGE = 80  # an entry whose p-th power lies within 2^-80 and 2^80 is as far from overflow as from underflow


def _leaves(params: Any) -> dict[str, Any]:
    """The leaves of a pytree by their path, arrays or shapes of arrays; InputError for a leaf that is neither."""
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    leaves = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}
    for name, leaf in leaves.items():
        if not is_array(leaf) and not isinstance(leaf, jax.ShapeDtypeStruct | int | float):
            raise InputError(f"expected parameters whose leaves are arrays, got {type(leaf).__name__} at {name!r}; "
                             "give the arrays alone, of Equinox equinox.filter(model, equinox.is_array)")
    return {name: leaf if hasattr(leaf, "ndim") else jnp.asarray(leaf) for name, leaf in leaves.items()}


def _sibling(leaves: dict[str, Any], name: str, names: tuple[str, ...]) -> Any:
    layer = name.rpartition("/")[0]
    paths = [f"{layer}/{last}" if layer else last for last in names]
    return next((leaves[path] for path in paths if path in leaves), None)


def weight_layers(params: Any) -> dict[str, Any]:
    """The weight layers of a pytree, by their path: its leaves but for biases and scales; see the module.

    Args:
      params: pytree of arrays, or of their shapes.

    Raises:
      InputError: a leaf that is no array.
    """
    leaves = _leaves(params)

    def is_weight(name: str, leaf: Any) -> bool:
        last = name.rpartition("/")[2].lower()
        bias = _sibling(leaves, name, ("bias", "offset"))
        elementwise = bias is not None and bias.shape == leaf.shape
        beside = last in _BESIDE and _sibling(leaves, name, (_BESIDE[last],)) is not None
        return leaf.ndim >= 2 and not (elementwise or beside or _BIAS_OR_SCALE.fullmatch(last))

    return {name: leaf for name, leaf in leaves.items() if is_weight(name, leaf)}


@functools.partial(jax.jit, static_argnames="p", inline=True)  # called eagerly: one program, not a dozen
def _scaled_norm(arrays: list[jax.Array], p: float) -> jax.Array:
    """The entrywise p-norm over all arrays, computed on entries of at most 1 where their powers leave the range."""
    arrays = [precise(array) for array in arrays]
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(array), initial=0) for array in arrays]))
    outside = (largest < 2.0 ** (-_RANGE / p)) | (largest > 2.0 ** (_RANGE / p))
    # A factor of 1 changes no bit. The norm does not depend on the scale, nor has its gradient any business with it. It
    # is taken in two steps, since the reciprocal of the largest floats is so small that machines round it to 0.
    known = outside & (largest > 0) & jnp.isfinite(largest)
    root = lax.stop_gradient(jnp.where(known, jnp.sqrt(largest), 1))
    arrays = [array * (1 / root) * (1 / root) for array in arrays]
    if p == 2:
        return root * (root * jnp.sqrt(sum(jnp.sum(jnp.square(array)) for array in arrays)))
    return root * (root * jnp.linalg.norm(jnp.concatenate([array.reshape(-1) for array in arrays]), ord=p))


def layer_norm(weight: jax.Array, kind: str = "frobenius", p: float = 2.0) -> jax.Array:
    """Norm of one weight array.

    Args:
      weight: (..., out) float of any rank >= 1.
      kind: "frobenius", the entrywise L2 norm; "spectral", the largest singular value of the weight as a matrix
        (product of the other axes, out), which for a convolution is the norm of its patch matrix and not of the
        operator it applies to an image; "p", the entrywise p-norm.
      p: >= 1 or inf, used by kind "p" alone.

    Returns:
      () float >= 0, at least float32, right wherever that can hold it: no power of an entry under- or overflows.

    Raises:
      InputError: unknown kind, p < 1, or a weight that is a number alone or not real.
    """
    weight = precise(weight)
    if kind not in KINDS or kind == "p" and not p >= 1:
        raise InputError(f"expected a norm of {KINDS} and p >= 1, got kind {kind!r} and p = {p}")
    if weight.ndim < 1 or not jnp.issubdtype(weight.dtype, jnp.floating):
        raise InputError(f"expected a weight (..., out) of real numbers, got {weight.dtype} {weight.shape}")
    if not weight.size:
        return jnp.zeros((), weight.dtype)
    if kind == "frobenius":
        return _scaled_norm([weight], 2)
    if kind == "spectral":
        return jnp.linalg.norm(weight.reshape(-1, weight.shape[-1]), ord=2)
    if math.isinf(p):
        return jnp.max(jnp.abs(weight))
    return _scaled_norm([weight], p)


def layer_norms(params: Any, kind: str = "frobenius", p: float = 2.0) -> dict[str, jax.Array]:
    """Norm rho_k = ||W_k|| of every weight layer, by its path in the pytree; each () float, as of `layer_norm`."""
    return {name: layer_norm(leaf, kind, p) for name, leaf in weight_layers(params).items()}


def _of_this_package(leaves: dict[str, Any]) -> bool:
    convs, normed = ({name.partition("/")[0].removeprefix(kind) for name in leaves if name.startswith(kind)}
                     for kind in ("conv_", "norm_"))
    convnet = convs == normed and all(_CONVNET.fullmatch(name) for name in leaves)
    return convnet or "stem_conv/kernel" in leaves and all(_DENSENET.fullmatch(name) for name in leaves)


def _batch_norm_scales(leaves: dict[str, Any], batch_stats: Any) -> list[str]:
    """The paths of the scales that belong to BatchNorm; InputError where nothing tells."""
    scales = [name for name in leaves if name.rpartition("/")[2] == "scale"]
    if batch_stats is not None:
        running = list(_leaves(batch_stats))
        followed = [name for name in scales if any(path.startswith(name.removesuffix("scale")) for path in running)]
        if running and not followed:
            raise InputError(f"expected batch_stats with the running statistics of the layers of these parameters, got "
                             f"{running[0]!r} beside the scales {scales}; of Flax give variables['batch_stats']")
        return followed
    batch_norms, ours = [], _of_this_package(leaves)
    for name in scales:
        layer = name.rpartition("/")[0].rpartition("/")[2].lower()
        if _NOT_BATCH_NORM.search(layer):
            continue
        if not (ours or _BATCH_NORM.search(layer)):
            raise InputError(f"{name!r} may be the scale of BatchNorm or of another normalisation, which the name of "
                             "the layer does not tell; give the running statistics, "
                             "batch_stats=variables['batch_stats'], or {} without any, or else a mode that needs none, "
                             "mode='all' or 'conv'")
        batch_norms.append(name)
    return batch_norms


def batch_norm_norms(params: Any, batch_stats: Any = None) -> dict[str, jax.Array]:
    """sqrt(||scale||^2 + ||bias||^2) of every BatchNorm layer, by its path; each () float.

    Arguments and errors as in `rho_factors`.
    """
    leaves, by_layer = _leaves(params), {}
    for name in _batch_norm_scales(leaves, batch_stats):
        scale, bias = leaves[name], _sibling(leaves, name, ("bias", "offset"))
        by_layer[name.rpartition("/")[0]] = _scaled_norm([scale, jnp.zeros_like(scale) if bias is None else bias], 2)
    return by_layer


def default_mode(params: Any, batch_stats: Any = None) -> str:
    """The mode of rho used when none is named: "batch_norm" if there are BatchNorm layers, else "all".

    Arguments and errors as in `rho_factors`.
    """
    return "batch_norm" if _batch_norm_scales(_leaves(params), batch_stats) else "all"


def rho_factors(params: Any, mode: str = "default", kind: str = "frobenius", p: float = 2.0,
                batch_stats: Any = None) -> jax.Array:
    """The factors whose product is rho.

    Deep networks overflow float32 in the product, so that whoever records rho multiplies these in float64, or takes
    their logarithms (`log_rho`).

    Args:
      params: any parameter pytree.
      mode: "all", every weight layer: f(W; x) = rho f(V; x) holds exactly for a bias-free ReLU network (section 2.1);
        "conv", the convolutions alone, the wording of section 3; "batch_norm", BatchNorm layers
        sqrt(||scale||^2 + ||bias||^2) times the dense layers (section 3); "default", see `default_mode`.
      kind: see `layer_norm`; BatchNorm layers always take the L2 norm.
      p: see `layer_norm`.
      batch_stats: running statistics, of Flax the collection `batch_stats`, {} of a network without any. They tell
        which layers are BatchNorm in the modes "batch_norm" and "default"; names do if absent, see the module.

    Returns:
      (K,) float, at least float32, in the order of the pytree.

    Raises:
      InputError: unknown mode, a leaf that is no array, no layer of the kind that the mode needs, or one of which
        nothing tells whether it is BatchNorm.
    """
    if mode == "default":
        mode = default_mode(params, batch_stats)
    if mode not in MODES:
        raise InputError(f"expected a mode of rho of {MODES}, got {mode!r}")
    ranks = {name: leaf.ndim for name, leaf in weight_layers(params).items()}
    norms = layer_norms(params, kind, p)
    if mode == "all":
        factors = list(norms.values())
    elif mode == "conv":
        factors = [norm for name, norm in norms.items() if ranks[name] >= 3]
    else:
        scales = list(batch_norm_norms(params, batch_stats).values())
        factors = scales + [norm for name, norm in norms.items() if ranks[name] == 2] if scales else []
    if not factors:
        raise InputError(f"rho in mode {mode!r} needs layers that these parameters do not have; "
                         f"they have {sorted(_leaves(params)) or 'no leaves'}")
    return jnp.stack(factors)


def rho(params: Any, mode: str = "default", kind: str = "frobenius", p: float = 2.0,
        batch_stats: Any = None) -> jax.Array:
    """The product of layer norms, rho = prod_k rho_k; () float. Arguments and errors as in `rho_factors`.

    In float32 it is infinite for a network of some 50 layers with norms of 10; `log_rho` is not.
    """
    return jnp.prod(rho_factors(params, mode, kind, p, batch_stats))


def log_rho(params: Any, mode: str = "default", kind: str = "frobenius", p: float = 2.0,
            batch_stats: Any = None) -> jax.Array:
    """ln rho = sum_k ln rho_k, for networks so deep that their rho leaves the range of floats.

    `distribution.normalised_margins(values, log_rho=...)` divides by it.

    Args:
      params, mode, kind, p, batch_stats: as in `rho_factors`, with its errors.

    Returns:
      () float; -inf where a layer is 0.
    """
    return jnp.sum(jnp.log(rho_factors(params, mode, kind, p, batch_stats)))


def normalised_params(params: Any, kind: str = "frobenius", p: float = 2.0) -> Any:
    """V_k = W_k / ||W_k|| for every weight layer, the other leaves as they are; the same pytree (section 2.1)."""
    norms = layer_norms(params, kind, p)

    def normalised(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return leaf / norms[name] if name in norms else leaf

    return jax.tree_util.tree_map_with_path(normalised, params)
