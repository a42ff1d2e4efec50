"""Scope "whole_run" of a grid: every cell's settings hold from the first epoch on, so every cell has its own network.

The learning rates and seeds of one optimiser and batch size are trained together.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from margin_jax.checkpoint import Checkpoints
from margin_jax.results import RunFolder
from margin_jax.runs import cells, schedule
from margin_jax.runs.base import Base, Jobs
from margin_jax.runs.branches import FROZEN, FULL, WHOLE_RUN, Start
from margin_jax.runs.grid_rows import Network, Rows, failed_rows, group_rows, setting
from margin_jax.runs.group import Group, course
from margin_jax.runs.snapshot import Snapshot
from margin_jax.runs.together import Training


def trained_groups(config: Any, jobs: Jobs, folder: RunFolder,
                   rows: Rows) -> Iterator[tuple[str, int, list[Network]]]:
    """Trains the groups one by one; yields optimiser, batch size and the networks that got to the removal."""
    section, split = config.compress, jobs.dataset.train
    pairs = [(seed, rate) for seed in tuple(section.seeds) or (config.seed,) for rate in section.grid_learning_rates]
    for optimizer in section.grid_optimizers:
        for batch_size in section.grid_batch_sizes:
            own = setting(config, optimizer, batch_size, config.optimizer.learning_rate)
            group = jobs.group(own, "tracked")
            fresh = course([group.fresh(split.images.shape[1:], seed, rate) for seed, rate in pairs])
            with Checkpoints(folder.path / "groups" / f"{optimizer}_{batch_size}") as checkpoints:
                training = Training(own, group, checkpoints, fresh, split.labels.size, follow=True)
                training.run()
            networks = _networks(config, own, group, training, pairs)
            _control_rows(config, group, networks, rows)
            good = [network for network in networks if not network.base.failed]
            if good:
                yield optimizer, batch_size, good


def _networks(config: Any, own: Any, group: Group, training: Training,
              pairs: list[tuple[int, float]]) -> list[Network]:
    """The networks of a group at their removal, failed ones too."""
    ended, count = training.course, len(pairs)
    train, test = group.measure(ended.states, count), group.measure(ended.states, count, test=True)
    found = []
    for k, (seed, rate) in enumerate(pairs):
        alone = setting(config, own.optimizer.name, own.batch_size, rate)
        alone.seed = seed
        state = jax.tree.map(lambda leaf, k=k: leaf[k], ended.states)._replace(epoch=ended.epochs[k])
        snapshot = Snapshot(state, training.progress[k], jax.tree.map(lambda leaf, k=k: np.asarray(leaf[k]),
                                                                      training.dynamics))
        row = {"epoch": int(ended.epochs[k]), "kept": train.margins.shape[1],
               "train_loss": float(train.losses[k].mean()),
               "train_error": 100 * float(np.mean(~(train.margins[k] > 0))),
               "test_error": 100 * float(np.mean(~(test.margins[k] > 0)))}
        failed = schedule.moment_missed(alone, training.progress[k])
        status = schedule.missed_status(alone) if failed else "finished"
        if not ended.healthy[k]:
            failed, status = (f"before the removal, the loss was not finite in epoch {int(ended.bad_epoch[k])}, "
                              f"step {int(ended.bad_step[k]) + 1}"), "diverged"
        base = Base(Start(seed, 0.0, ""), alone, None, snapshot, row, failed, status)
        found.append(Network(base, rate, train.margins[k]))
    return found


def _control_rows(config: Any, group: Group, networks: list[Network], rows: Rows) -> None:
    """Failed cells, the network at the removal, and full data for as many epochs as the compressed runs go on."""
    section = config.compress

    def known(network: Network, **more: str) -> bool:
        return rows.has(scope=WHOLE_RUN, seed=network.base.start.seed, **cells.settings(network.base.config), **more)

    missing = [n for n in networks if not (known(n) if n.base.failed else known(n, rule=FROZEN))]
    rows.add([row for n in missing if n.base.failed for row in failed_rows(config, n.base.config, n.base, WHOLE_RUN)])
    if FROZEN in section.controls:
        rows.add([cells.frozen_row(n.base, WHOLE_RUN) for n in missing if not n.base.failed])
    good = [n for n in networks if not n.base.failed]
    if FULL not in section.controls or not good or all(known(network, rule=FULL) for network in good):
        return
    begun = course([n.base.snapshot.state for n in good])
    masks = np.ones((len(good), good[0].margins.size), bool)
    ended = group.epochs(begun, masks, good[0].base.config.batch_size, np.full(len(good), section.epochs))
    kept = np.tile(np.arange(good[0].margins.size), (len(good), 1))
    first = np.array([n.base.row["train_loss"] for n in good])
    rows.add(group_rows(good[0].base.config, group, FULL, WHOLE_RUN, good, kept, first, begun, ended))
