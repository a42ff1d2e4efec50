"""When a run records, removes examples and stops: pure functions of the config and of what has happened."""

from typing import Any, NamedTuple

import numpy as np


class Progress(NamedTuple):
    """What has happened so far, as arrays so that a checkpoint holds it.

    Attributes:
      mask: (N,) boolean, the rows kept.
      removed_epoch: (N,) int32, the epoch at whose end a row was removed; -1 where it is kept.
      separation_epoch: () int32, the first epoch at whose end every kept margin was > 0; -1 before.
      removal_epoch: () int32, the epoch at whose end examples were removed; -1 before.
      seconds: () float64, wall time so far.
    """

    mask: np.ndarray
    removed_epoch: np.ndarray
    separation_epoch: np.ndarray
    removal_epoch: np.ndarray
    seconds: np.ndarray


def fresh(count: int) -> Progress:
    """Nothing has happened yet to `count` examples."""
    return Progress(np.ones(count, bool), np.full(count, -1, np.int32), np.int32(-1), np.int32(-1), np.float64(0))


def phase_over(config: Any, epoch: int, progress: Progress) -> bool:
    """Whether training on the present mask ends with `epoch`: by the stop rule, or after compress.epochs."""
    if progress.removal_epoch >= 0:
        return epoch >= progress.removal_epoch + config.compress.epochs
    by_rule = (config.stop.rule == "separation" and progress.separation_epoch >= 0
               and epoch >= progress.separation_epoch + config.stop.after)
    return by_rule or epoch >= config.epochs


def removal_due(config: Any, epoch: int, progress: Progress) -> bool:
    """Whether examples are removed at the end of `epoch`.

    Under the stop rule "separation" nothing is removed from a network that did not separate in time.
    """
    reached = config.stop.rule == "epochs" or progress.separation_epoch >= 0
    return config.compress.keep > 0 and progress.removal_epoch < 0 and reached and phase_over(config, epoch, progress)


def record_due(config: Any, epoch: int, progress: Progress, seen_errors: int) -> bool:
    """Whether margins and test error are taken at the end of `epoch`.

    That is every `record.every` epochs, at the end of a phase, and, until separation, wherever the errors seen inside
    the epoch are so few that the data may have become separated.

    Args:
      config: the config.
      epoch: epochs finished.
      progress: what has happened before this epoch's record.
      seen_errors: errors counted inside the epoch, each before its own update.
    """
    dense = progress.separation_epoch < 0 and seen_errors <= config.record.dense_below * progress.mask.sum()
    return epoch % config.record.every == 0 or dense or phase_over(config, epoch, progress)
