"""What values a config may hold, key by key: choices and ranges, as data that `margin_jax.validation` walks."""

from typing import Any

from margin_jax import masks, norms, replace_one
from margin_jax.config import MODEL_NAMES
from margin_jax.data.load import NAMES as DATA_NAMES
from margin_jax.models.initialisers import INITS
from margin_jax.network import BATCH_NORM
from margin_jax.optimizers import OPTIMIZERS
from margin_jax.removals import is_schedule
from margin_jax.tuning import CONVOLUTIONS


def _whole(values: Any) -> bool:
    return all(isinstance(v, int) and not isinstance(v, bool) for v in values)


def _numbers(values: Any) -> bool:
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _positive(values: Any) -> bool:
    return _numbers(values) and all(v > 0 for v in values)


def _distinct(values: Any) -> bool:
    return len(set(values)) == len(values)


MODES = ("immediate", "continuous", "grid")
CONTROLS = ("frozen", "random", "largest", "balanced", "scratch", "full")
CHOICES = {
    "data.name": DATA_NAMES, "model.name": MODEL_NAMES, "model.init": INITS, "model.conv": CONVOLUTIONS,
    "optimizer.name": OPTIMIZERS, "stop.rule": ("epochs", "separation", "convergence"),
    "compress.rule": masks.RULES, "compress.mode": MODES, "compress.optimizer": ("", *OPTIMIZERS),
    "compress.batch_norm": BATCH_NORM, "compress.grid_scope": ("after", "whole_run"),
    "rho.mode": norms.MODES, "rho.norm": norms.KINDS,
}
SEVERAL = {"stability.choices": replace_one.CHOICES,
           "compress.controls": CONTROLS, "compress.grid_optimizers": OPTIMIZERS, "compress.optimizers": OPTIMIZERS}
# Keys that a mode of compression does not use: they must hold their defaults, lest they seem to do something.
UNUSED = {
    "immediate": ("compress.init_stds", "compress.optimizers"),
    "continuous": (),
    "grid": ("compress.init_stds", "compress.optimizers", "compress.keeps", "compress.optimizer",
             "compress.learning_rate", "compress.batch_size", "compress.record_every"),
}
RANGES = (
    (("epochs", "record.every", "record.margins_every", "sweep.networks", "sweep.seeds_per_std", "sweep.resamples",
      "stop.smallest", "stop.times", "model.growth"), lambda v: v >= 1, ">= 1"),
    (("compress.batch_size",), lambda v: v >= -1, ">= 1, 0 for full gradient descent, or -1 for no change"),
    (("batch_size",), lambda v: v >= 0, ">= 1, or 0 for full gradient descent"),
    (("seed", "data.random_seed"), lambda v: 0 <= v < 2**32, "in 0..2^32 - 1"),
    (("micro_batch", "devices", "data.examples", "stop.after", "compress.keep", "compress.epochs",
      "compress.record_every",
      "record.piece", "record.collapse_every", "sweep.train_loss", "sweep.chunk", "optimizer.weight_decay",
      "checkpoint_seconds", "log_every_seconds", "model.stem",
      "compress.learning_rate"), lambda v: v >= 0, ">= 0"),
    (("model.init_std", "optimizer.learning_rate"), lambda v: v > 0, "> 0"),
    (("data.random_fraction", "record.dense_below", "stop.overlap"), lambda v: 0 <= v <= 1, "in [0, 1]"),
    (("model.reduction",), lambda v: 0 < v <= 1, "in (0, 1]"),
    (("optimizer.momentum",), lambda v: 0 <= v < 1, "in [0, 1)"),
    (("rho.p",), lambda v: v >= 1, ">= 1"),
    (("model.widths", "model.blocks"), lambda v: len(v) > 0 and _whole(v) and _positive(v),
     "one or more whole numbers > 0"),
    (("gamma.absolute", "gamma.relative"), _positive, "numbers > 0"),
    (("compress.init_stds", "sweep.learning_rates"), lambda v: _positive(v) and _distinct(v), "distinct numbers > 0"),
    (("sweep.init_stds",), lambda v: len(v) < 3 and _positive(v) and list(v) == sorted(set(v)),
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
    (("compress.grid_learning_rates",), lambda v: len(v) > 0 and _positive(v) and _distinct(v),
     "one or more distinct numbers > 0"),
    (("compress.grid_batch_sizes",), lambda v: len(v) > 0 and _whole(v) and _distinct(v) and min(v) >= 0,
     "one or more distinct whole numbers >= 0"),
    (("stability.trials", "stability.chunk"), lambda v: v >= 0, ">= 0"),
    (("stability.epochs", "stability.pool"), lambda v: v >= 1, ">= 1"),
    (("stability.deletions",), lambda v: _whole(v) and _positive(v) and _distinct(v), "distinct whole numbers > 0"),
    (("compress.schedule",), is_schedule, "pairs (until, step) of whole numbers > 0, until falling"),
)
