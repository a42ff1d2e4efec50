"""What a run leaves of itself: a row of metrics.csv for each record, summary.json at its end, lines on a terminal.

Numbers are taken in float64 on the host, by the functions of `margin_jax.theory.distribution`: rho is the product of
many norms and overflows float32 for deep networks.
"""

import pathlib
import sys
import time
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from margin_jax.experiments.schedule import Progress, moment_missed
from margin_jax.models.network import BatchStats, Params
from margin_jax.run_folder import read
from margin_jax.run_folder.tables import rule_name
from margin_jax.theory import distribution, norms
from margin_jax.theory.distribution import auc_mean, normalised_margins
from margin_jax.training.evaluate import Evaluation


def host_rho(params: Params, section: Any, batch_stats: BatchStats = None) -> float:
    """`norms.rho` in float64 from the config's section `rho`: that of a deep network is infinite in float32.

    Running statistics tell what is BatchNorm where the names of layers do not.
    """
    factors = norms.rho_factors(params, section.mode, section.norm, section.p, batch_stats)
    return float(np.prod(np.asarray(factors, np.float64)))


def _error(margins: np.ndarray) -> float:
    return 100 * int((~(margins > 0)).sum()) / margins.size


def metrics_row(epoch: int, train: Evaluation, test: Evaluation, mask: np.ndarray, rho: float,
                seconds: float) -> dict[str, float]:
    """One row of metrics.csv.

    Args:
      epoch: epochs finished.
      train: (N,) arrays over all training examples.
      test: arrays over the test set.
      mask: (N,) boolean; train_loss, train_error, margin_min and margin_auc are over these rows.
      rho: product of layer norms.
      seconds: wall time of the run so far.

    Returns:
      Errors in percent (margin not > 0), losses in nats, margins normalised; keys as `run_folder.read.METRICS`.
    """
    margins = np.asarray(train.margins, np.float64)[mask]
    with np.errstate(divide="ignore", invalid="ignore"):  # rho may be 0; then neither is a number
        smallest, mean = (float(normalised_margins(value, rho)) for value in (
            distribution.smallest(margins), auc_mean(margins)))
    return {
        "epoch": epoch,
        "train_loss": float(np.asarray(train.losses, np.float64)[mask].mean()),
        "train_error": _error(margins),
        "test_loss": float(np.asarray(test.losses, np.float64).mean()),
        "test_error": _error(np.asarray(test.margins)),
        "rho": rho,
        "margin_min": smallest,
        "margin_auc": mean,
        "kept": int(mask.sum()),
        "seconds": round(seconds, 3),
    }


def removal_row(config: Any, row: dict[str, float], progress: Progress, moved: float) -> dict[str, Any]:
    """A row of removals.csv: where training on one count of kept examples ended.

    Args:
      config: of the run.
      row: of metrics.csv at that epoch.
      progress: before the next removal.
      moved: relative parameter distance from the network before the first removal.

    Returns:
      Keys as `tables.REMOVALS`; `epochs` counts from the last removal, and is 0 before the first.
    """
    since = row["epoch"] - int(progress.removal_epoch) if progress.removals else 0
    return {"step": int(progress.removals), "kept": row["kept"], "epochs": since,
            "separated": int(row["train_error"] == 0), "test_error": row["test_error"],
            "rule": rule_name(config.compress.rule, config.compress.balanced),
            "seed": config.seed, "optimizer": config.optimizer.name, "init_std": init_std(config),
            "epoch": row["epoch"], "loss": row["train_loss"], "moved": moved}


def init_std(config: Any) -> float | str:
    """Standard deviation of the initial weights, empty where they are not normal."""
    return config.model.init_std if config.model.init == "normal" else ""


def _gamma_row(raw: jax.Array, rho: float, unit: str, value: float, gamma: float, low: float,
               high: float) -> dict[str, Any]:
    # Raw margins against gamma * rho: the same numbers, without dividing float32 margins by a huge rho. That of a deep
    # network exceeds float32; no margin does.
    reach = min(gamma * rho, float(np.finfo(np.float32).max))
    warning = None
    if gamma > high:
        warning = (f"gamma {gamma:.3g} exceeds the largest normalised margin {high:.3g}: auc_ramp is linear over the "
                   "whole curve and all examples are in the tail")
    elif gamma < low:
        warning = f"gamma {gamma:.3g} is below the smallest normalised margin {low:.3g}: auc_ramp is 1"
    return {"unit": unit, "value": value, "gamma": gamma, "auc_ramp": float(distribution.auc_ramp(raw, reach)),
            "auc_tail": float(distribution.auc_tail(raw, reach)) / rho,
            "small_margin_count": int(distribution.small_margin_count(raw, reach)), "warning": warning}


def describe_distribution(margins: np.ndarray, rho: float, section: Any) -> dict[str, Any]:
    """The margin distribution in numbers: quantiles, the three AUC readings, small-margin counts, warnings on gamma.

    Args:
      margins: (n,) raw margins of the examples to describe, finite.
      rho: product of layer norms.
      section: the config's section `gamma`: absolute gammas, and multiples of the median normalised margin.

    Returns:
      A dictionary ready for JSON. With a median <= 0 relative gammas mean nothing and are left out.
    """
    normalised = normalised_margins(np.asarray(margins, np.float64), rho)
    median, low, high = (float(f(normalised)) for f in (np.median, np.min, np.max))
    raw = jax.numpy.asarray(margins)
    rows = [_gamma_row(raw, rho, "absolute", float(g), float(g), low, high) for g in section.absolute]
    if median > 0:
        rows += [_gamma_row(raw, rho, "median", float(g), float(g) * median, low, high) for g in section.relative]
    return {"examples": int(margins.size), "smallest": low, "median": median, "largest": high,
            "auc_mean": float(auc_mean(normalised)), "gammas": rows}


def _row(metrics: dict[str, np.ndarray], epoch: int) -> dict[str, float] | None:
    places = np.flatnonzero(metrics["epoch"] == epoch)
    return {name: column[places[0]].item() for name, column in metrics.items()} if places.size else None


def summarise_run(config: Any, workdir: pathlib.Path, progress: Progress, status: str,
                  diverged: dict[str, Any] | None = None) -> dict[str, Any]:
    """What summary.json holds, from the records of a run folder.

    Args:
      config: the run's config.
      workdir: the run folder.
      progress: where the run ended.
      status: "finished" or "diverged".
      diverged: epoch, step and last good checkpoint of a run that diverged.

    Returns:
      A dictionary for JSON; the final numbers are those of the last epoch, never of a best one. `distribution` is that
      of the last kept margins, None where none were kept or rho is 0.
    """
    metrics = read.read_metrics(workdir)
    separation, removal = int(progress.separation_epoch), int(progress.removal_epoch)
    summary: dict[str, Any] = {
        "status": status,
        "diverged": diverged,
        "epochs": int(metrics["epoch"][-1]) if metrics["epoch"].size else 0,
        "separation_epoch": separation if separation >= 0 else None,
        "removal": {"epoch": removal, "rule": config.compress.rule, "kept": int(progress.mask.sum())}
        if removal >= 0 else None,
        "final": _row(metrics, int(metrics["epoch"][-1])) if metrics["epoch"].size else None,
        "at_separation": _row(metrics, separation),
        "at_removal": _row(metrics, removal),
        "distribution": None,
        "warnings": [],
    }
    # A run that diverged early may have records and no margins of any.
    stored = read.assembled(workdir) if metrics["epoch"].size else None
    if stored is not None and not stored.rho[-1] > 0:
        summary["warnings"].append(f"the margins have no distribution: rho is {stored.rho[-1]:g}")
    elif stored is not None:
        final = np.asarray(stored.margins[-1])
        summary["distribution"] = describe_distribution(final, float(stored.rho[-1]), config.gamma)
        summary["warnings"] += [row["warning"] for row in summary["distribution"]["gammas"] if row["warning"]]
    if config.compress.keep and removal < 0:
        summary["warnings"].append(f"nothing was removed: {moment_missed(config, progress) or 'the run ended before'}")
    return summary


class Reporter:
    """Shows epochs; use as a context manager."""

    def __init__(self, total: int, done: int, every_seconds: float, unit: str = "epoch") -> None:
        """Args: total epochs expected at most, epochs done before, seconds between plain lines, what is counted."""
        self._every, self._shown, self._unit = every_seconds, -float("inf"), unit
        self._first: tuple[int, float] | None = None  # epoch and time after compilation, from which pace is measured
        self._total, self._terminal = total, sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=done, unit=unit, dynamic_ncols=True, disable=not self._terminal)

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def epoch(self, epoch: int, kept: int, seen_loss: float, row: dict[str, float] | None) -> None:
        """Shows one finished epoch; `row` is its record, if one was taken."""
        fields = {"loss": f"{seen_loss:.4g}", "kept": kept}
        if row:
            fields |= {"train": f"{row['train_error']:.2f}%", "test": f"{row['test_error']:.2f}%",
                       "margin": f"{row['margin_min']:.3g}"}
        self.show(epoch, fields)

    def show(self, epoch: int, fields: dict[str, object]) -> None:
        """Shows how far a run is after an epoch."""
        self._bar.set_postfix(fields, refresh=False)
        self._bar.update(epoch - self._bar.n)
        now = time.monotonic()
        self._first = self._first or (epoch, now)
        if not self._terminal and now - self._shown >= self._every:
            self._shown = now
            self.say(f"{self._unit} {epoch}/{self._total}  " + "  ".join(f"{k} {v}" for k, v in fields.items())
                     + self._left(epoch, now))

    def _left(self, epoch: int, now: float) -> str:
        assert self._first is not None
        done = epoch - self._first[0]
        return f"  left {(now - self._first[1]) / done * (self._total - epoch):.0f} s at most" if done else ""

    def say(self, line: str) -> None:
        """Prints a line without breaking the bar."""
        if self._terminal:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)
