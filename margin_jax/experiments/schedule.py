"""When a run records, removes examples and stops: pure functions of the config and of what has happened."""

from typing import Any, NamedTuple

import numpy as np

from margin_jax.theory.distribution import separated, support_set
from margin_jax.theory.selection import kept_counts


class Progress(NamedTuple):
    """What has happened so far, as arrays so that a checkpoint holds it.

    Attributes:
      mask: (N,) boolean, the rows kept.
      removed_epoch: (N,) int32, the epoch at whose end a row was removed; -1 where it is kept.
      separation_epoch: () int32, the first epoch at whose end every kept margin was > 0; -1 before.
      convergence_epoch: () int32, the first epoch at whose end margins had converged; -1 before.
      support: (k,) int32, rows of the smallest margins at the last recorded epoch, ascending.
      stable: () int32, recorded epochs in a row, data separated, that kept enough of the support.
      removal_epoch: () int32, the epoch at whose end examples were last removed; -1 before.
      removals: () int32, how many removals there were.
      cleared_epoch: () int32, the last recorded epoch at whose end every kept margin was > 0; -1 before.
      seconds: () float64, wall time so far.
    """

    mask: np.ndarray
    removed_epoch: np.ndarray
    separation_epoch: np.ndarray
    convergence_epoch: np.ndarray
    support: np.ndarray
    stable: np.ndarray
    removal_epoch: np.ndarray
    removals: np.ndarray
    cleared_epoch: np.ndarray
    seconds: np.ndarray


def fresh(count: int, support: int = 0) -> Progress:
    """Nothing has happened yet to `count` examples, the `support` smallest margins of which will be followed."""
    never = np.int32(-1)
    return Progress(np.ones(count, bool), np.full(count, -1, np.int32), never, never,
                    np.full(min(support, count), -1, np.int32), np.int32(0), never, np.int32(0), never, np.float64(0))


def counts(section: Any, total: int) -> list[int]:
    """How many of `total` examples are kept after each removal, by the config's section `compress`.

    None without compress.keep in mode "immediate".
    """
    if section.mode == "continuous":
        return kept_counts(total, section.schedule)
    return [section.keep] if section.keep else []


def measured(stop: Any, epoch: int, progress: Progress, margins: np.ndarray) -> Progress:
    """Progress after a record: separation, margin convergence, and whether the kept rows are separated now.

    Margins have converged when, data being separated, the stop.smallest smallest kept margins of this record and of the
    one before share at least the share stop.overlap of their rows, for the stop.times-th time in a row.

    Args:
      stop: the config's section.
      epoch: epochs finished.
      progress: before the record.
      margins: (N,) raw margins; normalised ones would order alike.
    """
    kept = np.flatnonzero(progress.mask)
    cleared = bool(separated(margins, progress.mask))
    size = min(progress.support.size, kept.size)
    support = np.full(progress.support.size, -1, np.int32)
    if size:
        support[:size] = np.sort(support_set(margins[kept], kept, size))
    separation = np.int32(epoch) if cleared and progress.separation_epoch < 0 else progress.separation_epoch
    shared = np.isin(support[:size], progress.support).sum()
    still = cleared and size > 0 and shared >= stop.overlap * size
    stable = np.int32(progress.stable + 1 if still else 0)
    converged = progress.convergence_epoch < 0 and stable >= stop.times
    return progress._replace(
        separation_epoch=separation, support=support, stable=stable,
        convergence_epoch=np.int32(epoch) if converged else progress.convergence_epoch,
        cleared_epoch=np.int32(epoch) if cleared else progress.cleared_epoch)


def moment_reached(stop: Any, progress: Progress) -> bool:
    """Whether the rule of the config's section `stop` was met; the rule "epochs" always is."""
    moment = _moment(stop, progress)
    return moment is None or moment >= 0


def moment_missed(config: Any, progress: Progress) -> str:
    """Why the stop rule was not met, "" if it was."""
    if moment_reached(config.stop, progress):
        return ""
    missed = {"separation": "the data did not separate", "convergence": "the margins did not converge"}
    return f"{missed[config.stop.rule]} within {config.epochs} epochs"


def missed_status(stop: Any) -> str:
    """The status of a network that did not meet the rule of the config's section `stop`."""
    return {"separation": "not separated", "convergence": "not converged"}[stop.rule]


def divergence(epoch: int, step: int, since: str = "") -> str:
    """Why a network that diverged has no more numbers.

    Args:
      epoch: the first whose loss was not finite, from 1 on.
      step: of that epoch, from 1 on.
      since: what the epochs are counted from, such as "after the removal"; the run's start if empty.
    """
    return f"the loss was not finite in epoch {epoch}{' ' * bool(since)}{since}, step {step}"


def _moment(stop: Any, progress: Progress) -> int | None:
    """The epoch from which stop.after counts, -1 if it has not come; None under the rule "epochs"."""
    return {"separation": int(progress.separation_epoch), "convergence": int(progress.convergence_epoch),
            "epochs": None}[stop.rule]


def phase_over(config: Any, epoch: int, progress: Progress) -> bool:
    """Whether training on the present mask ends with `epoch`.

    Before a removal the stop rule decides. After one, compress.epochs epochs; in mode "continuous" as soon as the kept
    examples are separated again, after one epoch at least and compress.epochs at most.
    """
    if progress.removal_epoch >= 0:
        again = config.compress.mode == "continuous" and progress.cleared_epoch > progress.removal_epoch
        return again or epoch >= progress.removal_epoch + config.compress.epochs
    moment = _moment(config.stop, progress)
    return epoch >= config.epochs or (moment is not None and moment >= 0 and epoch >= moment + config.stop.after)


def most_epochs(config: Any, progress: Progress) -> int:
    """The epoch at which the run ends at the latest."""
    if progress.removal_epoch >= 0:
        left = len(counts(config.compress, progress.mask.size)) - int(progress.removals)
        return int(progress.removal_epoch) + config.compress.epochs * (1 + max(left, 0))
    return config.epochs + config.compress.epochs * len(counts(config.compress, progress.mask.size))


def removal_due(config: Any, epoch: int, progress: Progress) -> bool:
    """Whether examples are removed at the end of `epoch`.

    Under the stop rules "separation" and "convergence" nothing is removed from a network that did not get there in
    time. Examples that did not separate again after a removal do not hold up the next one.
    """
    reached = progress.removal_epoch >= 0 or moment_reached(config.stop, progress)
    left = progress.removals < len(counts(config.compress, progress.mask.size))
    return left and reached and phase_over(config, epoch, progress)


def record_due(config: Any, epoch: int, progress: Progress, seen_errors: int) -> bool:
    """Whether margins and test error are taken at the end of `epoch`.

    That is every `record.every` epochs, at the end of a phase, and, where separation is waited for, wherever the errors
    seen inside the epoch are so few that the data may have become separated.

    Args:
      config: the config.
      epoch: epochs finished.
      progress: what has happened before this epoch's record.
      seen_errors: errors counted inside the epoch, each before its own update.
    """
    again = config.compress.mode == "continuous" and progress.removal_epoch >= 0
    waited_for = progress.cleared_epoch <= progress.removal_epoch if again else progress.separation_epoch < 0
    dense = waited_for and seen_errors <= config.record.dense_below * progress.mask.sum()
    return epoch % config.record.every == 0 or dense or phase_over(config, epoch, progress)


def margins_due(config: Any, epoch: int, progress: Progress) -> bool:
    """Whether the margins of a record are kept on disk; `progress` is that after the record."""
    met = epoch in (progress.separation_epoch, progress.convergence_epoch)
    return epoch % config.record.margins_every == 0 or met or phase_over(config, epoch, progress)


def collapse_due(config: Any, epoch: int, progress: Progress) -> bool:
    """Whether a record takes neural collapse too; `progress` is that after the record."""
    every = config.record.collapse_every
    met = epoch == progress.separation_epoch or phase_over(config, epoch, progress)
    return every > 0 and (epoch % every == 0 or met)
