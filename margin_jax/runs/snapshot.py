"""All that changes in a run, as one pytree."""

from typing import Any, NamedTuple

import jax

from margin_jax.devices import replicate
from margin_jax.dynamics import Dynamics, fresh_dynamics
from margin_jax.runs import schedule
from margin_jax.runs.job import Job
from margin_jax.runs.schedule import Progress
from margin_jax.state import TrainState


class Snapshot(NamedTuple):
    """All that changes in a run; what a checkpoint holds."""

    state: TrainState
    progress: Progress
    dynamics: Dynamics


def fresh_snapshot(config: Any, job: Job, count: int) -> Snapshot:
    """The untrained network of `job`, with all `count` examples kept."""
    return Snapshot(job.state, schedule.fresh(count, config.stop.smallest),
                    replicate(fresh_dynamics(count), job.mesh))


def placed(snapshot: Snapshot, job: Job) -> Snapshot:
    """A snapshot in host memory with copies of its state and dynamics on the devices of `job`."""
    return snapshot._replace(state=replicate(jax.tree.map(jax.numpy.array, snapshot.state), job.mesh),
                             dynamics=replicate(jax.tree.map(jax.numpy.array, snapshot.dynamics), job.mesh))


def on_host(snapshot: Snapshot) -> Snapshot:
    """A snapshot in host memory, safe from the donation of its buffers."""
    return jax.tree.map(lambda leaf: jax.device_get(leaf).copy() if isinstance(leaf, jax.Array) else leaf, snapshot)
