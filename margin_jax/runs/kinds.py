"""The architectures of a sweep: compiled functions, and the data on the devices, for one of them at a time."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

from margin_jax.data.split import Dataset, Split
from margin_jax.network import Params
from margin_jax.runs.base import Jobs
from margin_jax.runs.design import Member, member_config
from margin_jax.runs.group import Group
from margin_jax.runs.job import Job
from margin_jax.runs.measuring import make_measure
from margin_jax.runs.memory import chunk_size
from margin_jax.runs.together import Measured


class Kind(NamedTuple):
    """What the networks of one architecture share.

    Attributes:
      job: functions and data of one network alone.
      group: the same for many.
      measure: as of `margin_jax.runs.members.MemberRecords`.
    """

    job: Job
    group: Group
    measure: Callable[[Measured, Params, Split], dict[str, Any]]


def split_by_kind(members: list[Member]) -> list[list[Member]]:
    """The networks of a sweep, in their order, cut where the architecture changes."""
    return [list(part) for _, part in itertools.groupby(members, key=lambda member: member.batch_norm)]


class Kinds:
    """Gives the compiled functions of a network's architecture; those of the one before are dropped for them.

    Each holds a copy of the data on every device, which need not have room for two.
    """

    def __init__(self, config: Any, dataset: Dataset) -> None:
        """Takes the config of a sweep and its data; nothing is compiled yet."""
        self._config, self._dataset = config, dataset
        self._held: tuple[bool, Kind] | None = None

    def of(self, member: Member) -> Kind:
        """The functions for one network of the sweep."""
        if self._held is None or self._held[0] != member.batch_norm:
            self._held = None  # before the data are placed again
            own, jobs = member_config(self._config, member), Jobs(self._dataset)
            job, group = jobs.get(own), jobs.group(own, "tracked")
            shape = self._dataset.train.images.shape[1:]
            self._held = member.batch_norm, Kind(job, group, make_measure(self._config, job, shape))
        return self._held[1]

    def chunk_size(self, members: list[Member], processes: int) -> int:
        """Networks to train at once: as many of every architecture as fit and as one process has to train.

        The first network's architecture is measured last, since it is trained first.

        Args:
          members: all networks of the sweep.
          processes: how many share them.
        """
        train, sizes = self._dataset.train, []
        for part in reversed(split_by_kind(members)):
            job, group, _ = self.of(part[0])
            fits = chunk_size(self._config, group.network, job.state, train.images.shape[1:], train.labels.size,
                              job.micro_batch, job.piece)
            sizes.append(min(fits, -(-len(part) // processes)))
        return min(sizes)
