"""When a run takes its neural collapse, and the row of collapse.csv."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from margin_jax.collapse import Collapse, neural_collapse
from margin_jax.devices import compile_on
from margin_jax.network import BatchStats, Params, classifier
from margin_jax.runs import schedule
from margin_jax.runs.job import Job
from margin_jax.runs.schedule import Progress
from margin_jax.runs.snapshot import Snapshot
from margin_jax.state import Examples, standardised


def due(config: Any, epoch: int, progress: Progress) -> bool:
    """Whether a record takes neural collapse too; `progress` is that after the record."""
    every = config.record.collapse_every
    met = epoch == progress.separation_epoch or schedule.phase_over(config, epoch, progress)
    return every > 0 and (epoch % every == 0 or met)


def make_collapse_row(job: Job) -> Callable[[Snapshot], dict[str, float]]:
    """Makes the function that gives the row of collapse.csv of a snapshot, compiled where it is first called.

    Args:
      job: network and data, whose rows the devices share out.

    Returns:
      snapshot -> keys as `tables.COLLAPSE`. Training examples that were removed do not count.
    """

    def measured(params: Params, batch_stats: BatchStats, train: Examples, test: Examples,
                 mask: jax.Array) -> tuple[Collapse, Collapse]:
        weights, biases = classifier(params)

        def of(examples: Examples, **chosen: Any) -> Collapse:
            return neural_collapse(
                lambda params, images: job.network.features(params, batch_stats, standardised(images, examples)),
                params, examples.images, examples.labels, weights, biases, piece=job.piece, mesh=job.mesh, **chosen)

        trained = of(train, where=mask)
        return trained, of(test, centres=trained.centres)

    compiled = compile_on(measured, job.mesh)

    def row(snapshot: Snapshot) -> dict[str, float]:
        state, progress, _ = snapshot
        train, test = jax.device_get([found._replace(centres=None) for found in compiled(
            state.params, state.batch_stats, job.train, job.test, jnp.asarray(progress.mask))])
        numbers = {name: float(value) for name, value in train._asdict().items() if value is not None}
        return {"epoch": int(state.epoch), **numbers, "nc1_test": float(test.nc1), "nc4_test": float(test.nc4)}

    return row
