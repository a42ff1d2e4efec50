"""Layer norms and their product rho, from any parameter pytree.

A *weight layer* is a leaf with two or more axes, a *convolution* one with three or more, a *dense* layer one with
exactly two; a BatchNorm layer is a leaf named `scale` together with its sibling `bias`, if it has one. Biases of
convolutions and dense layers enter no norm (Banburski et al. 2021, section 2.1: networks are without them).

For one network of a stack use `jax.vmap(rho)`.
"""

from typing import Any

import jax
import jax.numpy as jnp

KINDS = ("frobenius", "spectral", "p")
MODES = ("default", "all", "conv", "batch_norm")


def _leaves(params: Any) -> dict[str, jax.Array]:
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): jnp.asarray(leaf) for path, leaf in flat}


def layer_norm(weight: jax.Array, kind: str = "frobenius", p: float = 2.0) -> jax.Array:
    """Norm of one weight array.

    Args:
      weight: (..., out) float of any rank >= 1.
      kind: "frobenius", the entrywise L2 norm; "spectral", the largest singular value of the weight as a matrix
        (product of the other axes, out), which for a convolution is the norm of its patch matrix and not of the
        operator it applies to an image; "p", the entrywise p-norm.
      p: >= 1 or inf, used by kind "p" alone.

    Returns:
      () float >= 0.

    Raises:
      ValueError: unknown kind, or p < 1.
    """
    if kind == "frobenius":
        return jnp.sqrt(jnp.sum(jnp.square(weight)))
    if kind == "spectral":
        return jnp.linalg.norm(weight.reshape(-1, weight.shape[-1]), ord=2)
    if kind == "p" and p >= 1:
        return jnp.linalg.norm(weight.reshape(-1), ord=p)
    raise ValueError(f"expected a norm of {KINDS} and p >= 1, got kind {kind!r} and p = {p}")


def layer_norms(params: Any, kind: str = "frobenius", p: float = 2.0) -> dict[str, jax.Array]:
    """Norm rho_k = ||W_k|| of every weight layer, by its path in the pytree; each () float."""
    return {name: layer_norm(leaf, kind, p) for name, leaf in _leaves(params).items() if leaf.ndim >= 2}


def batch_norm_norms(params: Any) -> dict[str, jax.Array]:
    """sqrt(||scale||^2 + ||bias||^2) of every BatchNorm layer, by its path; each () float."""
    leaves, by_layer = _leaves(params), {}
    for name, scale in leaves.items():
        layer, _, last = name.rpartition("/")
        if last == "scale":
            bias = leaves.get(f"{layer}/bias" if layer else "bias", jnp.zeros_like(scale))
            by_layer[layer] = jnp.sqrt(jnp.sum(jnp.square(scale)) + jnp.sum(jnp.square(bias)))
    return by_layer


def default_mode(params: Any) -> str:
    """The mode of rho used when none is named: "batch_norm" if there are BatchNorm layers, else "all"."""
    return "batch_norm" if batch_norm_norms(params) else "all"


def rho_factors(params: Any, mode: str = "default", kind: str = "frobenius", p: float = 2.0) -> jax.Array:
    """The factors whose product is rho.

    Deep networks overflow float32 in the product, so that whoever records rho multiplies these in float64.

    Args:
      params: any parameter pytree.
      mode: "all", every weight layer: f(W; x) = rho f(V; x) holds exactly for a bias-free ReLU network (section 2.1);
        "conv", the convolutions alone, the wording of section 3; "batch_norm", BatchNorm layers
        sqrt(||scale||^2 + ||bias||^2) times the dense layers (section 3); "default", see `default_mode`.
      kind: see `layer_norm`; BatchNorm layers always take the L2 norm.
      p: see `layer_norm`.

    Returns:
      (K,) float, in the order of the pytree.

    Raises:
      ValueError: unknown mode, or no layer of the kind that the mode needs.
    """
    if mode == "default":
        mode = default_mode(params)
    if mode not in MODES:
        raise ValueError(f"expected a mode of rho of {MODES}, got {mode!r}")
    ranks = {name: leaf.ndim for name, leaf in _leaves(params).items()}
    norms = layer_norms(params, kind, p)
    if mode == "all":
        factors = list(norms.values())
    elif mode == "conv":
        factors = [norm for name, norm in norms.items() if ranks[name] >= 3]
    else:
        scales = list(batch_norm_norms(params).values())
        factors = scales + [norm for name, norm in norms.items() if ranks[name] == 2] if scales else []
    if not factors:
        raise ValueError(f"rho in mode {mode!r} needs layers that these parameters do not have; "
                         f"they have {sorted(ranks) or 'no leaves'}")
    return jnp.stack(factors)


def rho(params: Any, mode: str = "default", kind: str = "frobenius", p: float = 2.0) -> jax.Array:
    """The product of layer norms, rho = prod_k rho_k; () float. Arguments and errors as in `rho_factors`."""
    return jnp.prod(rho_factors(params, mode, kind, p))


def normalised_params(params: Any, kind: str = "frobenius", p: float = 2.0) -> Any:
    """V_k = W_k / ||W_k|| for every weight layer, the other leaves as they are; the same pytree (section 2.1)."""
    return jax.tree.map(lambda leaf: leaf / layer_norm(leaf, kind, p) if leaf.ndim >= 2 else leaf, params)
