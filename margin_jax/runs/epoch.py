"""One epoch of a run, and what it showed of every example."""

from typing import Any

import jax
import jax.numpy as jnp

from margin_jax.batching import make_plan
from margin_jax.devices import size_of
from margin_jax.dynamics import present
from margin_jax.runs.job import Job
from margin_jax.runs.snapshot import Snapshot
from margin_jax.state import EpochStats

_present = jax.jit(present, donate_argnums=0)


def one_epoch(config: Any, job: Job, snapshot: Snapshot) -> tuple[Snapshot, EpochStats]:
    """Trains one epoch on the kept rows.

    Args:
      config: `batch_size` is used.
      job: compiled functions and data.
      snapshot: its state and dynamics are donated.

    Returns:
      The new snapshot, and on the host what the steps saw, without margins, which are in the snapshot's dynamics.
    """
    state, progress, dynamics = snapshot
    plan, batch = make_plan(config.batch_size, int(progress.mask.sum()), job.micro_batch, job.network.batched,
                            size_of(job.mesh), progress.mask.size)
    mask = jnp.asarray(progress.mask)
    state, stats = job.run_epoch(state, job.train, mask, jnp.int32(batch), plan)
    dynamics = _present(dynamics, stats.margins, mask)
    return Snapshot(state, progress, dynamics), jax.device_get(stats._replace(margins=None))
