"""Applying a rule to the rows that are kept: which scores it needs, and the mask that it gives."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

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
from margin_jax.theory.deletion import kkt_weights, term_norms
from margin_jax.theory.scores import Dynamics, el2n, network_grand
from margin_jax.theory.selection import RANKINGS, Cut, named_rule, select
from margin_jax.training.state import Examples, seed_keys, standardised

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


@functools.partial(jax.jit, static_argnums=(0, 1))
def _terms(network: Network, piece: int, params: Params, batch_stats: BatchStats,
           train: Examples) -> dict[str, jax.Array]:
    def logits(params: Params, images: jax.Array) -> jax.Array:
        return network.logits(params, batch_stats, standardised(images, train))

    return term_norms(logits, params, train.images, train.labels, min(piece, GRADIENTS))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _features(network: Network, piece: int, params: Params, batch_stats: BatchStats, train: Examples) -> jax.Array:
    def rows(images: jax.Array) -> jax.Array:
        return network.features(params, batch_stats, standardised(images, train))

    return map_pieces(rows, (train.images,), piece)


class ScoredNetwork(NamedTuple):
    """A network at which all N training examples are scored.

    Attributes:
      job: its functions and the data.
      params, batch_stats: of the network.
      margins: (N,) raw margins; normalised ones would order alike.
      seen: what training has shown of every example.
    """

    job: Job
    params: Params
    batch_stats: BatchStats
    margins: np.ndarray
    seen: Dynamics

    @property
    def passes(self) -> tuple[Any, ...]:
        """What the compiled passes over all examples take."""
        return self.job.network, self.job.piece, self.params, self.batch_stats, self.job.train


# Scores (N,) by name, but for "random" of no network, "kcenter" of a choice, and "dual" of a course of training.
SCORES: dict[str, Callable[[ScoredNetwork], Any]] = {
    "margins": lambda scored: scored.margins,
    "el2n": lambda scored: _el2n(*scored.passes),
    "grand": lambda scored: _grand(*scored.passes),
    "forgetting": lambda scored: scores.forgetting(scored.seen),
    "aum": lambda scored: scores.aum(scored.seen),
    "kkt": lambda scored: kkt_weights(scored.margins, jax.device_get(_terms(*scored.passes))),
}


def score_name(section: Any) -> str:
    """Which score the rule of the config's section `compress` ranks by."""
    return RANKINGS[named_rule(section.rule).name].score or section.difficulty


def rule_scores(section: Any, seed: int, count: int, mask: np.ndarray, scored: ScoredNetwork) -> np.ndarray:
    """The scores (N,) that a rule ranks by, of all training examples.

    Args:
      section: the config's section `compress`: `rule`, `balanced` and `difficulty`.
      seed: of the run, for the rule "random": the same order of all examples at each of its removals.
      count: how many are to be kept.
      mask: (N,) boolean, the rows to choose from.
      scored: the network.
    """
    name = score_name(section)
    if name == "random":
        return np.asarray(selection.random_scores(seed_keys(seed)[2], mask.size))
    if name == "kcenter":
        return k_center(scored, count, mask, section.balanced)
    return np.asarray(SCORES[name](scored))


def k_center(scored: ScoredNetwork, count: int, mask: np.ndarray, balanced: bool) -> np.ndarray:
    """Greedy k-center of the input of a network's last layer: (N,) int32, as of `scores.farthest_first`."""
    labels = np.asarray(scored.job.train.labels) if balanced else None
    return np.asarray(scores.farthest_first(np.asarray(_features(*scored.passes)), min(count, int(mask.sum())), labels,
                                            mask))


def kept_after(section: Any, seed: int, count: int, scores: np.ndarray | None, split: Split,
               mask: np.ndarray) -> np.ndarray:
    """The mask after a removal.

    Args:
      section: the config's section `compress`: `rule`, `balanced`, `ids`, `difficulty` and `hardest`.
      seed: of the run, for the rule "stratified".
      count: how many to keep.
      scores: (N,) as from `rule_scores`; None for the rules "ids" and "full", which take none.
      split: the training set.
      mask: (N,) boolean, the rows kept so far.

    Returns:
      (N,) boolean.
    """
    if section.rule == FULL:
        return mask.copy()
    if section.rule == "ids":
        return selection.of_ids(split.ids, np.asarray(section.ids)) & mask
    cut = Cut(section.difficulty, section.hardest, order=selection.random_scores(seed_keys(seed)[2], mask.size))
    chosen = select(named_rule(section.rule).name, scores, count, jnp.asarray(split.labels), jnp.asarray(mask),
                    section.balanced, cut)
    return np.array(jax.device_get(chosen))


def removed(config: Any, job: Job, split: Split, snapshot: Snapshot, margins: np.ndarray,
            given: np.ndarray | None = None) -> Snapshot:
    """The snapshot after the next removal of the run: its mask and what belongs to it change, nothing else.

    Args:
      config: of the run.
      job: network and data.
      split: the training set.
      snapshot: before the removal.
      margins: (N,) raw margins of the network now.
      given: (N,) scores of other networks, absent where they are those of this one.
    """
    state, progress, seen = snapshot
    section, epoch = config.compress, np.int32(state.epoch)
    count = schedule.counts(section, progress.mask.size)[progress.removals]
    scores = given
    if given is None and section.rule not in (FULL, "ids"):
        scores = rule_scores(section, config.seed, count, progress.mask,
                             ScoredNetwork(job, state.params, state.batch_stats, margins, seen))
    mask = kept_after(section, config.seed, count, scores, split, progress.mask)
    return snapshot._replace(progress=progress._replace(
        mask=mask, removed_epoch=np.where(progress.mask & ~mask, epoch, progress.removed_epoch), removal_epoch=epoch,
        removals=np.int32(progress.removals + 1)))
