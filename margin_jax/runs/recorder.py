"""Numbers of one recorded epoch and of the whole run, in float64 on the host.

rho is the product of many norms and overflows float32 for deep networks, so that margins are normalised here.
"""

from typing import Any

import jax
import numpy as np

from margin_jax import distribution, norms
from margin_jax.evaluate import Evaluation
from margin_jax.network import Params
from margin_jax.runs.branches import rule_name
from margin_jax.runs.schedule import Progress


def host_rho(params: Params, section: Any) -> float:
    """rho in float64 from the config's section `rho`."""
    factors = norms.rho_factors(params, section.mode, section.norm, section.p)
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
      Errors in percent (margin not > 0), losses in nats, margins normalised; keys as `records.METRICS`.
    """
    margins = np.asarray(train.margins, np.float64)[mask]
    return {
        "epoch": epoch,
        "train_loss": float(np.asarray(train.losses, np.float64)[mask].mean()),
        "train_error": _error(margins),
        "test_loss": float(np.asarray(test.losses, np.float64).mean()),
        "test_error": _error(np.asarray(test.margins)),
        "rho": rho,
        "margin_min": float(margins.min() / rho),
        "margin_auc": float(margins.mean() / rho),
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
    normalised = np.asarray(margins, np.float64) / rho
    median, low, high = (float(f(normalised)) for f in (np.median, np.min, np.max))
    raw = jax.numpy.asarray(margins)
    rows = [_gamma_row(raw, rho, "absolute", float(g), float(g), low, high) for g in section.absolute]
    if median > 0:
        rows += [_gamma_row(raw, rho, "median", float(g), float(g) * median, low, high) for g in section.relative]
    return {"examples": int(margins.size), "smallest": low, "median": median, "largest": high,
            "auc_mean": float(normalised.mean()), "gammas": rows}
