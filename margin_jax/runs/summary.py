"""summary.json of a run: what happened, the final numbers, the margin distribution."""

import pathlib
from typing import Any

import numpy as np

from margin_jax import records
from margin_jax.runs.recorder import describe_distribution
from margin_jax.runs.schedule import Progress, moment_missed


def _row(metrics: dict[str, np.ndarray], epoch: int) -> dict[str, float] | None:
    found = np.flatnonzero(metrics["epoch"] == epoch)
    return {name: column[found[0]].item() for name, column in metrics.items()} if found.size else None


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
      A dictionary for JSON; the final numbers are those of the last epoch, never of a best one.
    """
    metrics = records.read_metrics(workdir)
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
    if metrics["epoch"].size:
        stored = records.read_margins(workdir)
        final = np.asarray(stored.margins[-1])
        summary["distribution"] = describe_distribution(final, float(stored.rho[-1]), config.gamma)
        summary["warnings"] += [row["warning"] for row in summary["distribution"]["gammas"] if row["warning"]]
    if config.compress.keep and removal < 0:
        summary["warnings"].append(f"nothing was removed: {moment_missed(config, progress) or 'the run ended before'}")
    return summary
