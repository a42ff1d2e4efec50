"""Applying a rule to the rows that are kept: which scores it needs, and the mask that it gives."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax.data.dataset import Split
from margin_jax.experiments import schedule
from margin_jax.experiments.job import Job, Snapshot
from margin_jax.models.network import BatchStats, Network, Params
from margin_jax.parallel import map_pieces
from margin_jax.run_folder.tables import FULL
from margin_jax.theory import scores, selection
from margin_jax.theory.scores import Dynamics, el2n, network_grand
from margin_jax.theory.selection import RANKINGS, select
from margin_jax.training.state import Examples, TrainState, seed_keys, standardised

GRADIENTS = 50  # per-example gradients alive at a time: that many times the parameters


# Compiled once for a network: a schedule scores all examples at each of its removals.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _el2n(network: Network, piece: int, params: Params, batch_stats: BatchStats, train: Examples) -> jax.Array:
    def rows(images: jax.Array, labels: jax.Array) -> jax.Array:
        return el2n(network.logits(params, batch_stats, standardised(images, train)), labels)

    return map_pieces(rows, (train.images, train.labels), piece)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _grand(network: Network, piece: int, params: Params, batch_stats: BatchStats, train: Examples) -> jax.Array:
    def logits(params: Params, images: jax.Array) -> jax.Array:
        return network.logits(params, batch_stats, standardised(images, train))

    return network_grand(logits, params, train.images, train.labels, min(piece, GRADIENTS))


def rule_scores(rule: str, seed: int, job: Job, state: TrainState, margins: np.ndarray,
                seen: Dynamics) -> jax.Array | np.ndarray:
    """The scores (N,) that a rule ranks by, of all training examples.

    Args:
      rule: a key of RANKINGS.
      seed: of the run, for the rule "random": the same order of all examples at each of its removals.
      job: network and data.
      state: the network now.
      margins: (N,) raw margins now; normalised ones would order alike.
      seen: what training has shown of every example.
    """
    of_network = (job.network, job.piece, state.params, state.batch_stats, job.train)
    score = {"margins": lambda: margins, "random": lambda: selection.random_scores(seed_keys(seed)[2], margins.size),
             "el2n": lambda: _el2n(*of_network), "grand": lambda: _grand(*of_network),
             "forgetting": lambda: scores.forgetting(seen), "aum": lambda: scores.aum(seen)}
    return np.asarray(score[RANKINGS[rule].score]())


def kept_after(section: Any, count: int, scores: np.ndarray | None, labels: np.ndarray, ids: np.ndarray,
               mask: np.ndarray) -> np.ndarray:
    """The mask after a removal.

    Args:
      section: the config's section `compress`: `rule`, `balanced` and `ids`.
      count: how many to keep.
      scores: (N,) as from `rule_scores`; None for the rules "ids" and "full", which take none.
      labels: (N,) int32, what is trained on.
      ids: (N,) int64.
      mask: (N,) boolean, the rows kept so far.

    Returns:
      (N,) boolean.
    """
    if section.rule == FULL:
        return mask.copy()
    if section.rule == "ids":
        return selection.of_ids(ids, np.asarray(section.ids)) & mask
    chosen = select(section.rule, jnp.asarray(scores), count, jnp.asarray(labels), jnp.asarray(mask), section.balanced)
    return np.array(jax.device_get(chosen))


def removed(config: Any, job: Job, split: Split, snapshot: Snapshot, margins: np.ndarray) -> Snapshot:
    """The snapshot after the next removal of the run: its mask and what belongs to it change, nothing else.

    Args:
      config: of the run.
      job: network and data.
      split: the training set.
      snapshot: before the removal.
      margins: (N,) raw margins of the network now.
    """
    state, progress, seen = snapshot
    rule, epoch = config.compress.rule, np.int32(state.epoch)
    scores = None if rule in (FULL, "ids") else rule_scores(rule, config.seed, job, state, margins, seen)
    count = schedule.counts(config.compress, progress.mask.size)[progress.removals]
    mask = kept_after(config.compress, count, scores, split.labels, split.ids, progress.mask)
    return snapshot._replace(progress=progress._replace(
        mask=mask, removed_epoch=np.where(progress.mask & ~mask, epoch, progress.removed_epoch), removal_epoch=epoch,
        removals=np.int32(progress.removals + 1)))
