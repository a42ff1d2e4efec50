"""Checks of a config before any compute: unknown keys, wrong types, values out of range."""

import math
from typing import Any

import numpy as np

from margin_jax import masks
from margin_jax.allowed import CHOICES, RANGES, SEVERAL, UNUSED
from margin_jax.config import default_config, flatten
from margin_jax.errors import InputError
from margin_jax.nearest import nearest
from margin_jax.removals import kept_counts


def _check_keys(flat: dict[str, Any], known: dict[str, Any]) -> None:
    for key, value in flat.items():
        if key not in known:
            raise InputError(f"config: there is no key {key!r}; the nearest is {nearest(key, known)!r}")
        wanted = known[key]
        number = isinstance(wanted, float) and isinstance(value, int) and not isinstance(value, bool)
        sequence = isinstance(wanted, tuple) and isinstance(value, (tuple, list))
        if not (number or sequence or type(value) is type(wanted)):
            raise InputError(f"config: {key} should be of type {type(wanted).__name__} like {wanted!r}, "
                             f"got {value!r} of type {type(value).__name__}")
    missing = sorted(known.keys() - flat.keys())
    if missing:
        raise InputError(f"config: missing {', '.join(missing)}; start from margin_jax.config.default_config()")


def _need(flat: dict[str, Any], key: str, holds: bool, expected: str) -> None:
    if not holds:
        raise InputError(f"config: {key} should be {expected}, got {flat[key]!r}")


def _check_choices_and_ranges(flat: dict[str, Any]) -> None:
    for key, allowed in CHOICES.items():
        _need(flat, key, flat[key] in allowed, f"one of {', '.join(name or repr(name) for name in allowed)}")
    for key, allowed in SEVERAL.items():
        known = set(flat[key]) <= set(allowed) and len(set(flat[key])) == len(flat[key])
        _need(flat, key, known, f"some of {', '.join(allowed)}, each once")
    for key, value in flat.items():
        if isinstance(value, float):
            _need(flat, key, math.isfinite(value) or (key == "rho.p" and value > 0), "a finite number")
    for keys, holds, expected in RANGES:
        for key in keys:
            _need(flat, key, holds(flat[key]), expected)


def validate(config: Any) -> None:
    """Checks keys, types and ranges.

    Args:
      config: a ConfigDict or nested dict.

    Raises:
      InputError: the first thing wrong, with the key, what was expected and what came.
    """
    flat = flatten(config)
    _check_keys(flat, flatten(default_config()))
    _check_choices_and_ranges(flat)
    _need(flat, "rho.mode", flat["rho.mode"] != "batch_norm" or flat["model.batch_norm"],
          "batch_norm only with model.batch_norm=True")
    normalised = flat["model.batch_norm"] or flat["model.name"] == "convnet"
    _need(flat, "model.batch_norm", normalised, "True with model.name=densenet, which always has BatchNorm")
    _need(flat, "compress.balanced", not flat["compress.balanced"] or flat["compress.rule"] not in ("ids", "balanced"),
          "False for the rules 'ids', which names every example, and 'balanced', which is so already")
    named = flat["compress.keep"] > 0 and flat["compress.rule"] == "ids"
    _need(flat, "compress.ids", not named or len(flat["compress.ids"]) == flat["compress.keep"],
          f"the {flat['compress.keep']} ids of compress.keep for compress.rule='ids'")


def validate_compression(config: Any) -> None:
    """Checks what launch/compress.py needs beyond `validate`.

    Raises:
      InputError: no count to keep, ids for a schedule or several counts, or a schedule without epochs.
    """
    flat = flatten(config)
    continuous = flat["compress.mode"] == "continuous"
    several = len(flat["compress.keeps"]) > 0
    default = flatten(default_config())
    for key in UNUSED[flat["compress.mode"]]:
        given = tuple(flat[key]) if isinstance(flat[key], list) else flat[key]
        _need(flat, key, given == default[key],
              f"{default[key]!r} in mode {flat['compress.mode']!r}, which does not use it")
    fresh = "scratch" in flat["compress.controls"]
    _need(flat, "compress.keeps", not (continuous and fresh) or several or flat["compress.keep"] > 0,
          "the counts at which fresh networks are trained, for the control 'scratch'")
    _need(flat, "compress.keep", continuous or several or flat["compress.keep"] > 0, ">= 1, the count to keep")
    _need(flat, "compress.rule", flat["compress.rule"] != "ids" or not (continuous or several),
          "a rule that ranks examples where several counts are kept")
    _need(flat, "compress.epochs", not continuous or flat["compress.epochs"] > 0, ">= 1 in mode 'continuous'")


def validate_sweep(config: Any) -> None:
    """Checks what launch/sweep.py needs beyond `validate`.

    Raises:
      InputError: a removal, which a sweep does not make, or BatchNorm for a network or a rho that cannot be without.
    """
    flat = flatten(config)
    _need(flat, "compress.keep", flat["compress.keep"] == 0, "0 in a sweep, which removes nothing")
    _need(flat, "compress.mode", flat["compress.mode"] == "immediate", "'immediate' in a sweep, which removes nothing")
    _need(flat, "record.collapse_every", flat["record.collapse_every"] == 0,
          "0 in a sweep, whose networks do not record it; launch/train.py does")
    without = False in flat["sweep.batch_norms"]
    _need(flat, "sweep.batch_norms", not without or flat["model.name"] == "convnet",
          "() or (True,) with model.name=densenet, which always has BatchNorm")
    _need(flat, "rho.mode", not without or flat["rho.mode"] != "batch_norm",
          "default, all or conv where sweep.batch_norms has networks without BatchNorm")


def validate_stability(config: Any, train: int | None = None, test: int | None = None) -> None:
    """Checks what launch/stability.py needs beyond `validate`.

    Args:
      config: a ConfigDict or nested dict, valid by itself.
      train, test: how many examples there are, where that is known.

    Raises:
      InputError: a removal, a stop rule that does not wait for data separation, nothing to do, or too few examples.
    """
    flat = flatten(config)
    _need(flat, "compress.keep", flat["compress.keep"] == 0, "0 in launch/stability.py, which keeps every example")
    _need(flat, "compress.mode", flat["compress.mode"] == "immediate", "'immediate' in launch/stability.py")
    _need(flat, "stop.rule", flat["stop.rule"] != "epochs",
          "separation or convergence, since a point is replaced once the data are separated")
    trials = flat["stability.trials"] > 0
    _need(flat, "stability.trials", trials or len(flat["stability.deletions"]) > 0,
          "> 0 where stability.deletions is (), or nothing is left to do")
    _need(flat, "stability.choices", not trials or len(flat["stability.choices"]) > 0, "one or more choices")
    if train is not None:
        _need(flat, "stability.pool", flat["stability.pool"] <= train, f"at most the {train} training examples")
    if test is not None and trials and test < 2:
        raise InputError(f"data: expected 2 or more test examples, one of which takes the place of a training example, "
                         f"got {test}")


def validate_with_data(config: Any, ids: np.ndarray) -> None:
    """Checks what depends on the data.

    Args:
      config: a ConfigDict or nested dict, valid by itself.
      ids: (N,) integer ids of the training examples.

    Raises:
      InputError: compress.keep or batch_size above N, or explicit ids that are not among `ids`.
    """
    flat = flatten(config)
    for key in ("compress.keep", "batch_size") + ("stop.smallest",) * (flat["stop.rule"] == "convergence"):
        _need(flat, key, flat[key] <= ids.size, f"at most the {ids.size} training examples")
    _need(flat, "compress.keeps", max(flat["compress.keeps"], default=0) <= ids.size,
          f"at most the {ids.size} training examples")
    if flat["compress.mode"] == "continuous":
        met = kept_counts(ids.size, flat["compress.schedule"])
        _need(flat, "compress.schedule", len(met) > 0, f"below the {ids.size} training examples")
        key = "compress.keeps" if flat["compress.keeps"] else "compress.keep"
        wanted = set(np.atleast_1d(flat[key]).astype(int)) - {0}
        _need(flat, key, wanted <= set(met), f"of the counts of compress.schedule, {met[0]}, ..., {met[-1]}")
    if flat["compress.keep"] and flat["compress.rule"] == "ids":
        masks.of_ids(ids, np.asarray(flat["compress.ids"]))
