"""What the pure functions accept: logits, labels, masks, counts, and what a network gave, checked before any compute.

Shapes and types are known when a function is traced, so that these checks cost a compiled step nothing and never wait
for a device. Values are looked at only where they lie on the host: a count that is no tracer, labels of NumPy.

Half precision is for activations. What is summed or compared here is at least float32; float64 stays float64 where
JAX is told to know it (`jax_enable_x64`).
"""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax.errors import InputError


def is_array(value: Any) -> bool:
    """Whether a value is an array of NumPy or JAX, traced or not, or a NumPy scalar."""
    return isinstance(value, jax.Array | np.ndarray | np.generic)


def precise(values: Any) -> jax.Array:
    """The same numbers in float32 or, of a wider type, in that; nothing happens to arrays that are."""
    values = jnp.asarray(values)
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def checked_logits(logits: Any, rows: int | None = None) -> jax.Array:
    """The logits of a batch, in float32 at least.

    Args:
      logits: (N, C) floating, C >= 2: what a network gave.
      rows: N that it must have; any if absent.

    Returns:
      (N, C) float32 or float64.

    Raises:
      InputError: something else than one array, another rank, one class, another number of rows, or numbers that are
        not floating.
    """
    if not is_array(logits):
        raise InputError(f"expected logits as one array (N, C), got {type(logits).__name__}; a network that also gives "
                         "other outputs, or new state, has to be wrapped so that it gives its logits alone: "
                         "lambda params, x: network(params, x)[0]")
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InputError(f"expected logits (N, C), a row for each example, with C >= 2 classes, got {logits.shape}; "
                         "for two classes a network needs two outputs")
    if rows is not None and logits.shape[0] != rows:
        raise InputError(f"expected logits (N, C) of N = {rows} examples, got {logits.shape}; each example needs a row "
                         "of its own")
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise InputError(f"expected floating logits, got {logits.dtype}; give the network's outputs before softmax and "
                         "argmax, or logits.astype(jnp.float32)")
    return precise(logits)


def checked_labels(labels: Any, count: int | None = None) -> Any:
    """The classes of N examples.

    Args:
      labels: (N,) integers, or a column (N, 1) of them; of NumPy, JAX or a list.
      count: N that they must have; any if absent.

    Returns:
      (N,) integers. Those of NumPy that JAX's integers cannot hold are -1, which is out of range as they are.

    Raises:
      InputError: one-hot rows, numbers that are not integers, or another number of labels.
    """
    labels = labels if is_array(labels) else np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise InputError(f"expected labels (N,), an integer class for each example, got {labels.shape}; of one-hot "
                         "rows give labels.argmax(1)")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(f"expected integer labels (N,), got {labels.dtype}; if they are whole numbers give "
                         "labels.astype('int32')")
    if labels.ndim not in (1, 2) or count is not None and labels.shape[0] != count:
        raise InputError(f"expected labels ({'N' if count is None else count},), an integer class for each example, "
                         f"got {labels.shape}")
    labels = labels.reshape(labels.shape[0])
    if isinstance(labels, np.ndarray) and labels.dtype.itemsize == 8:
        fits = (labels >= 0) & (labels <= np.iinfo(np.int32).max)
        labels = np.where(fits, np.where(fits, labels, 0).astype(np.int32), np.int32(-1))
    return labels


def checked_mask(mask: Any, count: int, name: str = "where") -> jax.Array:
    """A boolean mask (N,) over N = `count` examples, as it is.

    Raises:
      InputError: another shape, or numbers in place of booleans.
    """
    mask = mask if is_array(mask) else np.asarray(mask)
    if mask.shape != (count,) or mask.dtype != bool:
        raise InputError(f"expected {name} as a boolean mask ({count},), got {mask.dtype} {mask.shape}; of rows to "
                         "take make one by np.isin(np.arange(N), rows)")
    return mask


def checked_count(keep: Any, total: int, name: str = "keep") -> Any:
    """How many of `total` rows to take, as it is.

    Args:
      keep: an integer in 1..total; a traced one is checked for its type alone.
      total: how many there are.
      name: of the argument, for the message.

    Raises:
      InputError: no integer, or out of range.
    """
    wanted = f"expected {name} as an integer in 1..N = {total}"
    if isinstance(keep, jax.core.Tracer):
        if keep.ndim or not jnp.issubdtype(keep.dtype, jnp.integer):
            raise InputError(f"{wanted}, got {keep.dtype} {keep.shape}")
        return keep
    try:
        number = operator.index(keep)
    except TypeError:
        number = -1
    if isinstance(keep, bool | np.bool) or not 1 <= number <= total:
        raise InputError(f"{wanted}, got {keep!r}")
    return number


def checked_weights(params: Any) -> None:
    """Sees that every leaf of a parameter pytree is an array of floats, of which there are gradients.

    Raises:
      InputError: another leaf, named by its path.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not (is_array(leaf) or isinstance(leaf, float)) or not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            kind = leaf.dtype if is_array(leaf) else type(leaf).__name__
            raise InputError(f"expected parameters that are arrays of floats, got {kind} in {name!r}; keep what is not "
                             "trained out of `params`, in the function itself")
