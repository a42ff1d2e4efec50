"""What the values of a config may be: choices and ranges as data, which `validate` walks before any compute."""

import math
import re
from typing import Any

import numpy as np

from margin_jax.config import default_config, flatten
from margin_jax.data.load import NAMES as DATA_NAMES
from margin_jax.data.transforms import SCALINGS
from margin_jax.errors import InputError, nearest
from margin_jax.models.convolution import CONVOLUTIONS, PADDINGS
from margin_jax.models.layers import INITS
from margin_jax.models.network import BATCH_NORM
from margin_jax.theory import norms, replace_one, selection
from margin_jax.theory.selection import is_schedule, kept_counts
from margin_jax.training.state import OPTIMIZERS

MODEL_NAMES = ("convnet", "densenet")
_OWN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")  # model.name of a network of the user's own


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _whole(values: Any) -> bool:
    return all(isinstance(v, int) and not isinstance(v, bool) for v in values)


def _numbers(values: Any) -> bool:
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) and _finite(v) for v in values)


def _positive(values: Any) -> bool:
    return _numbers(values) and all(v > 0 for v in values)


def _single(value: float) -> bool:
    """Whether a number > 0 is so in float32 too, in which networks compute."""
    return 1e-37 <= value <= 1e38


def _distinct(values: Any) -> bool:
    return len(set(values)) == len(values)


def _texts(values: Any) -> bool:
    return all(isinstance(v, str) for v in values)


MODES = ("immediate", "continuous", "grid")
CONTROLS = ("frozen", "scratch", "full", "full_updates")  # beside the rules
LABEL_DRAWS = ("shared", "by_seed")
CHOICES = {
    "data.name": DATA_NAMES, "model.init": INITS, "model.conv": CONVOLUTIONS,
    "model.padding": PADDINGS, "data.scaling": SCALINGS,
    "optimizer.name": OPTIMIZERS, "stop.rule": ("epochs", "separation", "convergence"),
    "compress.difficulty": tuple(selection.HARDEST_IS_LARGEST), "compress.mode": MODES,
    "compress.optimizer": ("", *OPTIMIZERS),
    "compress.batch_norm": BATCH_NORM, "compress.grid_scope": ("after", "whole_run"),
    "rho.mode": norms.MODES, "rho.norm": norms.KINDS, "sweep.label_draws": LABEL_DRAWS,
}
SEVERAL = {"stability.choices": replace_one.CHOICES,
           "compress.grid_optimizers": OPTIMIZERS, "compress.optimizers": OPTIMIZERS}
# Keys that a mode of compression does not use: they must hold their defaults, lest they seem to do something.
UNUSED = {
    "immediate": ("compress.init_stds", "compress.optimizers"),
    "continuous": ("compress.updates",),
    "grid": ("compress.init_stds", "compress.optimizers", "compress.keeps", "compress.record_every"),
}
# A cell's settings are those after the removal, unless they hold for the whole run.
UNUSED_AFTER = ("compress.optimizer", "compress.learning_rate", "compress.batch_size")
RANGES = (
    (("epochs", "record.every", "record.margins_every", "sweep.networks", "sweep.seeds_per_std", "sweep.resamples",
      "stop.smallest", "stop.times", "model.growth", "model.kernel"), lambda v: v >= 1, ">= 1"),
    (("compress.batch_size",), lambda v: v >= -1, ">= 1, 0 for full gradient descent, or -1 for no change"),
    (("batch_size",), lambda v: v >= 0, ">= 1, or 0 for full gradient descent"),
    (("seed", "data.random_seed", "score.seed"), lambda v: 0 <= v < 2**32, "in 0..2^32 - 1"),
    (("score.epoch",), lambda v: v >= -1, ">= 0, or -1 for the stop rule"),
    (("score.window",), lambda v: v >= 2, ">= 2"),
    (("micro_batch", "devices", "data.examples", "stop.after", "compress.keep", "compress.epochs",
      "compress.record_every", "compress.updates", "score.networks",
      "record.piece", "record.collapse_every", "sweep.train_loss", "sweep.chunk", "optimizer.weight_decay",
      "checkpoint_seconds", "log_every_seconds", "model.stem",
      "compress.learning_rate"), lambda v: v >= 0, ">= 0"),
    (("model.init_std", "optimizer.learning_rate"), _single, "> 0, in 1e-37..1e38"),
    (("data.random_fraction", "record.dense_below", "stop.overlap", "compress.hardest"), lambda v: 0 <= v <= 1,
     "in [0, 1]"),
    (("model.reduction",), lambda v: 0 < v <= 1, "in (0, 1]"),
    (("optimizer.momentum",), lambda v: 0 <= v < 1, "in [0, 1)"),
    (("rho.p",), lambda v: v >= 1, ">= 1"),
    (("model.widths", "model.blocks"), lambda v: len(v) > 0 and _whole(v) and _positive(v),
     "one or more whole numbers > 0"),
    (("model.strides", "model.dense"), lambda v: _whole(v) and _positive(v), "whole numbers > 0, or ()"),
    (("model.pooling",), lambda v: _whole(v) and _distinct(v) and min(v, default=0) >= 0,
     "distinct numbers of convolutions, counted from 0, or ()"),
    (("gamma.absolute", "gamma.relative"), _positive, "numbers > 0"),
    (("compress.init_stds", "sweep.learning_rates"), lambda v: _positive(v) and _distinct(v) and all(map(_single, v)),
     "distinct numbers > 0, in 1e-37..1e38"),
    (("sweep.init_stds",), lambda v: len(v) < 3 and _positive(v) and list(v) == sorted(set(v)) and all(map(_single, v)),
     "the lowest and the highest standard deviation, one alone, or none"),
    (("sweep.weight_decays",), lambda v: _numbers(v) and _distinct(v) and min(v, default=0) >= 0,
     "distinct numbers >= 0"),
    (("sweep.random_fractions",), lambda v: _numbers(v) and _distinct(v) and all(0 <= x <= 1 for x in v),
     "distinct numbers in [0, 1]"),
    (("sweep.batch_norms",), lambda v: all(isinstance(x, bool) for x in v) and _distinct(v),
     "some of True and False, each once"),
    (("compress.grid_optimizers",), lambda v: len(v) > 0, "one or more optimisers"),
    (("compress.ids",), _whole, "whole numbers"),
    (("compress.keeps",), lambda v: _whole(v) and _positive(v) and _distinct(v), "distinct whole numbers > 0"),
    (("compress.seeds",), lambda v: _whole(v) and _distinct(v) and all(0 <= s < 2**32 for s in v),
     "distinct whole numbers in 0..2^32 - 1"),
    (("compress.grid_learning_rates",), lambda v: len(v) > 0 and _positive(v) and _distinct(v) and all(map(_single, v)),
     "one or more distinct numbers > 0, in 1e-37..1e38"),
    (("compress.grid_batch_sizes",), lambda v: len(v) > 0 and _whole(v) and _distinct(v) and min(v) >= 0,
     "one or more distinct whole numbers >= 0"),
    (("stability.trials", "stability.chunk"), lambda v: v >= 0, ">= 0"),
    (("stability.epochs", "stability.pool"), lambda v: v >= 1, ">= 1"),
    (("stability.deletions",), lambda v: _whole(v) and _positive(v) and _distinct(v), "distinct whole numbers > 0"),
    (("figures",), _texts, "names of figures"),
    (("data.classes",), lambda v: all(_texts((x,)) or _whole((x,)) for x in v), "names or numbers of classes"),
    (("model.widths", "model.blocks", "model.dense", "model.strides"), lambda v: len(v) <= 1000,
     "at most 1000 numbers"),
    (("compress.schedule",), is_schedule, "pairs (until, step) of whole numbers > 0, until falling"),
)
# The largest whole numbers: beyond these a job would die of memory or of a type's range, or never begin.
MOST = {
    **dict.fromkeys(("seed", "data.random_seed", "compress.seeds", "score.seed"), 2**32 - 1), "compress.ids": 2**63 - 1,
    **dict.fromkeys(("model.widths", "model.dense", "model.growth", "model.stem"), 65_536), "model.blocks": 1000,
    **dict.fromkeys(("model.kernel", "model.strides"), 1023), "devices": 256, "sweep.networks": 100_000,
    **dict.fromkeys(("sweep.resamples", "stability.trials"), 10**7),
}
MOST_ELSEWHERE = 2**31 - 1  # epochs are recorded as int32


def shown(value: Any) -> str:
    """A value in a message: at most a line of it."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def _writable(item: Any) -> bool:
    """False for text with NUL or half of a surrogate pair."""
    try:
        return not isinstance(item, str) or b"\0" not in item.encode()
    except UnicodeEncodeError:
        return False


def _check_items(flat: dict[str, Any]) -> None:
    """Checks what is in each value, whatever the key: plain values, no text that no file can hold, no huge number."""
    for key, value in flat.items():
        pairs = key == "compress.schedule"
        values = value if isinstance(value, (tuple, list)) else (value,)
        items = [item for v in values for item in (v if pairs and isinstance(v, (tuple, list)) else (v,))]
        plain = all(isinstance(item, (str, int, float)) for item in items)
        _need(flat, key, plain, "pairs of whole numbers" if pairs else "made of plain numbers or texts")
        _need(flat, key, all(map(_writable, items)), "text that can be written to a file, without NUL")
        most = MOST.get(key, MOST_ELSEWHERE)
        _need(flat, key, all(abs(item) <= most for item in items if isinstance(item, int)), f"at most {most}")


def _check_keys(flat: dict[str, Any], known: dict[str, Any]) -> None:
    for key, value in flat.items():
        if key not in known:
            raise InputError(f"config: there is no key {key!r}; the nearest is {nearest(key, known)!r}")
        wanted = known[key]
        number = isinstance(wanted, float) and isinstance(value, int) and not isinstance(value, bool)
        sequence = isinstance(wanted, tuple) and isinstance(value, (tuple, list))
        if not (number or sequence or type(value) is type(wanted)):
            raise InputError(f"config: {key} should be of type {type(wanted).__name__} like {wanted!r}, "
                             f"got {shown(value)} of type {type(value).__name__}")
    missing = sorted(known.keys() - flat.keys())
    if missing:
        raise InputError(f"config: missing {', '.join(missing)}; start from margin_jax.config.default_config()")


def _need(flat: dict[str, Any], key: str, holds: bool, expected: str) -> None:
    if not holds:
        raise InputError(f"config: {key} should be {expected}, got {shown(flat[key])}")


def _check_choices_and_ranges(flat: dict[str, Any]) -> None:
    for key, allowed in CHOICES.items():
        _need(flat, key, flat[key] in allowed, f"one of {', '.join(name or repr(name) for name in allowed)}")
    for key, allowed in SEVERAL.items():
        known = set(flat[key]) <= set(allowed) and len(set(flat[key])) == len(flat[key])
        _need(flat, key, known, f"some of {', '.join(allowed)}, each once")
    for key, value in flat.items():
        if isinstance(value, (int, float)):
            _need(flat, key, _finite(value) or (key == "rho.p" and value > 0), "a finite number")
    for keys, holds, expected in RANGES:
        for key in keys:
            _need(flat, key, holds(flat[key]), expected)


def _rules(flat: dict[str, Any]) -> list[selection.NamedRule]:
    """The rule and the controls that are rules, checked."""
    controls = flat["compress.controls"]
    _need(flat, "compress.controls", _texts(controls) and _distinct(controls),
          f"some of {', '.join((*CONTROLS, *selection.RULES))}, each once")
    rules = []
    for key, names in (("compress.rule", (flat["compress.rule"],)),
                       ("compress.controls", [name for name in controls if name not in CONTROLS])):
        for name in names:
            try:
                rules.append(selection.named_rule(name))
            except InputError as error:
                beside = f"some of {', '.join(CONTROLS)}, and rules: " * (key == "compress.controls")
                raise InputError(f"config: {key} should be {beside}{str(error).removeprefix('expected ')}") from error
    _need(flat, "compress.rule", not rules[0].balanced, "without '+balanced', which compress.balanced=True says")
    _need(flat, "compress.controls", all(rule.name != "ids" for rule in rules[1:]),
          "without the rule 'ids', which compress.rule alone may be")
    return rules


def _check_model_name(flat: dict[str, Any]) -> None:
    name, default = flat["model.name"], flatten(default_config())
    own = bool(_OWN.fullmatch(name))
    _need(flat, "model.name", own or name in MODEL_NAMES, f"one of {', '.join(MODEL_NAMES)}, or "
          "package.module:function for a network of your own")
    for key in (key for key in flat if own and key.startswith("model.")):
        given = tuple(flat[key]) if isinstance(flat[key], list) else flat[key]
        _need(flat, key, key in ("model.name", "model.batch_norm") or given == default[key],
              f"{default[key]!r} with model.name={name}, whose function does not see it")
    _need(flat, "compress.init_stds", not own or not flat["compress.init_stds"],
          f"() with model.name={name}, which makes its initial weights itself")


def _check_scores(flat: dict[str, Any], rules: list[selection.NamedRule]) -> None:
    """Checks the section `score` against the rules of a compression."""
    networks, first = flat["score.networks"], flat["score.seed"]
    for rule in rules:
        name = rule.name if rule.epoch is None else f"{rule.name}@{rule.epoch}"
        _need(flat, "score.networks", networks > 0 or rule.epoch is None, f">= 1 for the rule {name!r}: only networks "
              "that are trained to be scored are looked at on their way")
        score = selection.RANKINGS[rule.name].score or flat["compress.difficulty"] if rule.name != "ids" else ""
        _need(flat, "score.networks", networks > 0 or score != "dual", ">= 1 for the score 'dual', which needs the "
              "probabilities of every epoch")
        epoch = flat["score.epoch"] if rule.epoch is None else rule.epoch
        _need(flat, "score.epoch", epoch <= flat["epochs"], f"at most the {flat['epochs']} epochs of a network, which "
              f"holds of the rule {name!r} too")
        _need(flat, "score.window", score != "dual" or epoch < 0 or epoch >= flat["score.window"],
              f"at most the {epoch} epochs after which the rule {name!r} is scored")
    if not networks:
        for key in ("score.epoch", "score.seed", "score.window"):
            default = flatten(default_config())[key]
            _need(flat, key, flat[key] == default, f"{default} with score.networks=0, which does not use it")
        return
    seeds = set(flat["compress.seeds"]) or {flat["seed"]}
    _need(flat, "score.seed", not seeds & set(range(first, first + networks)) and first + networks <= 2**32,
          "such that no network is scored and compressed: seeds "
          f"{first}..{first + networks - 1} are scored, {', '.join(map(str, sorted(seeds)))} compressed")
    _need(flat, "score.networks", flat["compress.mode"] != "grid" or flat["compress.grid_scope"] == "after",
          "0 with compress.grid_scope=whole_run, whose networks have the settings of their cells")


def validate(config: Any) -> None:
    """Checks keys, types and ranges.

    Args:
      config: a ConfigDict or nested dict.

    Raises:
      InputError: the first thing wrong, with the key, what was expected and what came.
    """
    if not hasattr(config, "items"):
        raise InputError(f"config: expected a ConfigDict or dict, got {shown(config)}")
    flat = flatten(config)
    _check_keys(flat, flatten(default_config()))
    _check_items(flat)
    _check_choices_and_ranges(flat)
    _need(flat, "rho.mode", flat["rho.mode"] != "batch_norm" or flat["model.batch_norm"],
          "batch_norm only with model.batch_norm=True")
    layers = len(flat["model.widths"])
    _need(flat, "model.strides", len(flat["model.strides"]) in (0, layers), f"one for each of the {layers} "
          "convolutions of model.widths, or () for 2 everywhere")
    _need(flat, "model.pooling", max(flat["model.pooling"], default=0) < layers,
          f"numbers of the convolutions 0..{layers - 1} of model.widths")
    _need(flat, "model.kernel", flat["model.padding"] == "valid" or flat["model.kernel"] % 2 == 1,
          "odd with model.padding=same")
    _check_model_name(flat)
    normalised = flat["model.batch_norm"] or flat["model.name"] != "densenet"
    _need(flat, "model.batch_norm", normalised, "True with model.name=densenet, which always has BatchNorm")
    _need(flat, "compress.balanced", not flat["compress.balanced"] or flat["compress.rule"] not in ("ids", "balanced"),
          "False for the rules 'ids', which names every example, and 'balanced', which is so already")
    _rules(flat)
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
    grid = flat["compress.mode"] == "grid"
    in_grid = UNUSED_AFTER * (grid and flat["compress.grid_scope"] == "after")
    for key in (*UNUSED[flat["compress.mode"]], *in_grid):
        given = tuple(flat[key]) if isinstance(flat[key], list) else flat[key]
        _need(flat, key, given == default[key],
              f"{default[key]!r} in mode {flat['compress.mode']!r}, which does not use it")
    _need(flat, "compress.controls", grid or "full_updates" not in flat["compress.controls"],
          "without 'full_updates', which a grid alone has")
    _check_scores(flat, _rules(flat))
    fresh = "scratch" in flat["compress.controls"]
    _need(flat, "compress.keeps", not (continuous and fresh) or several or flat["compress.keep"] > 0,
          "the counts at which fresh networks are trained, for the control 'scratch'")
    _need(flat, "compress.keep", continuous or several or flat["compress.keep"] > 0, ">= 1, the count to keep")
    _need(flat, "compress.rule", flat["compress.rule"] != "ids" or not (continuous or several),
          "a rule that ranks examples where several counts are kept")
    _need(flat, "compress.epochs", not continuous or flat["compress.epochs"] > 0, ">= 1 in mode 'continuous'")


def _need_no_scoring(flat: dict[str, Any]) -> None:
    _need(flat, "score.networks", flat["score.networks"] == 0, "0 but in launch/compress.py, which alone scores others")


def validate_training(config: Any) -> None:
    """Checks what launch/train.py needs beyond `validate`.

    Raises:
      InputError: a mode of launch/compress.py, or a rule whose score needs other networks or the course of training.
    """
    flat = flatten(config)
    _need(flat, "compress.mode", flat["compress.mode"] == "immediate", "'immediate' to train one network; "
          "launch/compress.py runs every mode, with its controls")
    _need_no_scoring(flat)
    _check_scores(flat, _rules(flat)[:1])


def validate_sweep(config: Any) -> None:
    """Checks what launch/sweep.py needs beyond `validate`.

    Raises:
      InputError: a removal, which a sweep does not make, or BatchNorm for a network or a rho that cannot be without.
    """
    flat = flatten(config)
    _need(flat, "compress.keep", flat["compress.keep"] == 0, "0 in a sweep, which removes nothing")
    _need(flat, "compress.mode", flat["compress.mode"] == "immediate", "'immediate' in a sweep, which removes nothing")
    _need_no_scoring(flat)
    _need(flat, "record.collapse_every", flat["record.collapse_every"] == 0,
          "0 in a sweep, whose networks do not record it; launch/train.py does")
    own, without = ":" in flat["model.name"], False in flat["sweep.batch_norms"]
    _need(flat, "sweep.init_stds", not own or not flat["sweep.init_stds"],
          f"() with model.name={flat['model.name']}, which makes its initial weights itself")
    _need(flat, "sweep.batch_norms", not own or not flat["sweep.batch_norms"],
          f"() with model.name={flat['model.name']}, whose layers are its own")
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
    _need_no_scoring(flat)
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
        selection.of_ids(ids, np.asarray(flat["compress.ids"]))
