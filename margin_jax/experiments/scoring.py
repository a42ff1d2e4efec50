"""Scores of the training examples by networks other than those that are compressed: means over some of other seeds.

A score that a network has of its own training examples is taken in the sample that it is then judged by; one network
alone is noise beside. So EL2N and GraNd are means over ten networks, early in training (Paul, Ganguli and Dziugaite
2021). The networks here are trained together, as those before the removal but with seeds of their own, twice where
rules ask for it: for a number of epochs, and to the stop rule, with records as often as the compressed networks have
them, but that DUAL looks at every epoch. What is known of each is a file in the folder `scores`.
"""

import math
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from margin_jax.errors import DivergedError
from margin_jax.experiments import schedule
from margin_jax.experiments.branches import Start, base_config, kept_counts_of, rules
from margin_jax.experiments.job import Job
from margin_jax.experiments.many_networks import (
    Group,
    GroupState,
    Jobs,
    ManyRun,
    Measured,
    Observers,
    TrainingSets,
    chunk_size,
    course,
)
from margin_jax.experiments.recording import Reporter
from margin_jax.experiments.removal import SCORES, ScoredNetwork, k_center, score_name
from margin_jax.run_folder import checksums, read
from margin_jax.run_folder.checkpoint import Checkpoints
from margin_jax.run_folder.write import RunFolder
from margin_jax.theory.scores import Dynamics, dual, fresh_dynamics
from margin_jax.theory.selection import named_rule

REMOVAL = -1
Rule = tuple[str, bool]  # as of `branches.rules`: its name in the config, and whether it is class by class
Scores = dict[Rule, np.ndarray]  # what each ranks by, (N,)


class Wanted(NamedTuple):
    """What a rule ranks by.

    Attributes:
      score: of `removal.SCORES`, or "kcenter" or "dual".
      epoch: after which it is taken, 0 at initialisation; REMOVAL where the network meets the stop rule.
      balanced: of "kcenter", whether its traversal goes class by class.
    """

    score: str
    epoch: int
    balanced: bool

    @property
    def name(self) -> str:
        """Of an array in the file of a network."""
        return f"{self.score}{'+balanced' * self.balanced}@{'removal' if self.epoch == REMOVAL else self.epoch}"


def wanted_scores(config: Any) -> dict[Rule, Wanted]:
    """What each rule of a compression ranks by, but for those that look at no network."""
    section, asked = config.compress, {}
    for text, balanced in rules(section):
        rule = section.copy_and_resolve_references()
        rule.rule = text
        if text != "ids" and score_name(rule) != "random":
            epoch, score = named_rule(text).epoch, score_name(rule)
            asked[text, balanced] = Wanted(score, config.score.epoch if epoch is None else epoch,
                                           balanced and score == "kcenter")
    return asked


class NetworkScores:
    """What is known of the examples by one network, in a file that is written anew with each of its scores."""

    def __init__(self, folder: RunFolder, seed: int, wanted: set[Wanted], window: int, most: int) -> None:
        """Takes over what an interrupted job has written.

        Args:
          folder: of all scores.
          seed: of the network.
          wanted: what is asked of it, all in one course of training.
          window: J of the score "dual".
          most: how many examples are kept at most, for k-center.
        """
        kind = "removal" if any(score.epoch == REMOVAL for score in wanted) else "epochs"
        self._folder, self._file = folder, f"{kind}_{seed}.npz"
        self._wanted, self._window, self._most = wanted, window, most
        path = folder.path / self._file
        checksums.check_absent(path)
        self._arrays = read.read_arrays(path) if path.is_file() else {}

    @property
    def scores(self) -> dict[str, np.ndarray]:
        """By `Wanted.name` (N,); of a network that is not over, those that it has."""
        return {score.name: self._arrays[score.name] for score in self._wanted if score.name in self._arrays}

    @property
    def over(self) -> bool:
        """Whether nothing is left to be scored."""
        return len(self.scores) == len(self._wanted)

    def observe(self, epoch: int, last: bool, scored: ScoredNetwork, losses: np.ndarray) -> None:
        """Takes the scores that are due after an epoch, each of which comes once; one that came before is left out.

        Args:
          epoch: epochs finished.
          last: whether the network meets its stop rule.
          scored: the network.
          losses: (N,) cross-entropy of the examples, in nats.
        """
        new = self._with_window(epoch, losses)
        for score in self._wanted:
            if score.name not in self._arrays and (last if score.epoch == REMOVAL else score.epoch == epoch):
                new[score.name] = self._score(score, scored, new)
        if new:
            self._arrays |= new
            self._folder.write_arrays(self._file, **self._arrays)

    def _with_window(self, epoch: int, losses: np.ndarray) -> dict[str, np.ndarray]:
        """The last J probabilities of the labels, and the sum of DUAL over the windows so far."""
        known = int(self._arrays.get("window_epoch", 0))
        if epoch <= known or all(score.score != "dual" for score in self._wanted):
            return {}
        probabilities = np.exp(-np.asarray(losses, np.float32))[None]
        recent = np.concatenate([self._arrays["window"], probabilities] if known else [probabilities])[-self._window:]
        total, count = self._arrays.get("window_sum", np.zeros(losses.size)), self._arrays.get("windows", np.int32(0))
        if len(recent) == self._window:
            total, count = total + np.asarray(dual(recent, self._window), np.float64), count + 1
        return {"window_epoch": np.int32(epoch), "window": recent, "window_sum": total, "windows": np.int32(count)}

    def _score(self, score: Wanted, scored: ScoredNetwork, new: dict[str, np.ndarray]) -> np.ndarray:
        if score.score == "kcenter":
            return k_center(scored, self._most, np.ones(scored.margins.size, bool), score.balanced)
        if score.score != "dual":
            return np.asarray(SCORES[score.score](scored))
        known = self._arrays | new
        if not known["windows"]:
            raise DivergedError(f"a network that is scored met its stop rule after {known['window_epoch']} epochs, "
                                f"fewer than the {self._window} of score.window; give a shorter one, in another "
                                "--workdir")
        return known["window_sum"] / known["windows"]


def mean_scores(config: Any, jobs: Jobs, path: pathlib.Path) -> Scores:
    """What the rules of a compression rank by, means over the networks of `config.score`; empty without any.

    Args:
      config: of the compression.
      jobs: of the data.
      path: the work folder; an interrupted job goes on in its folder `scores`.

    Returns:
      By rule (N,) float64, or of k-center, of which there is no mean, the int32 places by the first network.

    Raises:
      DivergedError: a network whose loss was not finite, or that had too few epochs for its score.
    """
    asked = wanted_scores(config)
    if not config.score.networks or not asked:
        return {}
    seeds = range(config.score.seed, config.score.seed + config.score.networks)
    found: dict[str, list[np.ndarray]] = {}
    with RunFolder(path / "scores") as folder:
        for at_removal in (False, True):
            wanted = {score for score in asked.values() if (score.epoch == REMOVAL) == at_removal}
            for network in _scored(config, jobs, folder, seeds, wanted) if wanted else ():
                for name, values in network.scores.items():
                    found.setdefault(name, []).append(values)
    return {rule: found[score.name][0] if score.score == "kcenter" else
            np.mean(np.stack(found[score.name]), axis=0, dtype=np.float64) for rule, score in asked.items()}


def _scored(config: Any, jobs: Jobs, folder: RunFolder, seeds: range, wanted: set[Wanted]) -> list[NetworkScores]:
    """The networks, trained as far as their scores need it, in one course of training."""
    run, kind = base_config(config, Start(seeds[0], 0.0, "")), "removal"
    if all(score.epoch != REMOVAL for score in wanted):
        kind, run.stop.rule, run.stop.after = "epochs", "epochs", 0
        run.epochs = max(1, *(score.epoch for score in wanted))
        run.record.every = math.gcd(*(score.epoch for score in wanted)) or 1
    if any(score.score == "dual" for score in wanted):
        run.record.every = 1
    total = jobs.dataset.train.labels.size
    most = total if config.compress.mode == "continuous" else max(kept_counts_of(config.compress))
    first = {score for score in wanted if score.score == "kcenter"}
    networks = [NetworkScores(folder, seed, wanted if seed == seeds[0] else wanted - first, config.score.window, most)
                for seed in seeds]
    job, group = jobs.get(run), jobs.group(run, "tracked")
    size = chunk_size(run, job, group.network)
    for start in range(0, len(networks), size):
        chunk = list(zip(seeds, networks, strict=True))[start:start + size]
        if not all(network.over for _, network in chunk):
            with Checkpoints(folder.path / f"{kind}_{chunk[0][0]}" / "checkpoints") as checkpoints:
                _train_and_score(run, job, group, checkpoints, chunk)
    return networks


def _train_and_score(run: Any, job: Job, group: Group, checkpoints: Checkpoints,
                     chunk: list[tuple[int, NetworkScores]]) -> None:
    """Trains the networks (seed, scores) of a chunk together, each to its stop rule, and scores them on their way."""
    shape, total = job.train.images.shape[1:], job.train.labels.size
    begun = course([group.fresh(shape, seed, run.optimizer.learning_rate) for seed, _ in chunk])
    _score_untrained(job, group, begun, [network for _, network in chunk])

    def record(measured: Measured) -> None:
        seen = Dynamics(*(leaf[measured.place] for leaf in training.dynamics))
        scored = ScoredNetwork(job, measured.params, measured.batch_stats, np.asarray(measured.train.margins), seen)
        over = schedule.phase_over(run, measured.epoch, measured.progress)
        chunk[measured.place][1].observe(measured.epoch, over, scored, np.asarray(measured.train.losses))

    with Reporter(run.epochs, 0, run.log_every_seconds) as reporter:
        observers = Observers(record, lambda now, _: reporter.show(int(now.epochs.max()), {"scoring": len(chunk)}),
                              dynamics=True)
        training = ManyRun(run, group, checkpoints, begun, TrainingSets(np.ones((len(chunk), total), bool)), observers)
        ended = training.run()
    for k, (seed, _) in enumerate(chunk):
        if not ended.healthy[k]:
            reason = schedule.divergence(int(ended.bad_epoch[k]), int(ended.bad_step[k]) + 1)
            raise DivergedError(f"the network of seed {seed}, by whose scores examples were to be ranked: {reason}; "
                                "try a smaller optimizer.learning_rate, in another --workdir")
        missed = schedule.moment_missed(run, training.progress[k])
        if missed:
            logging.warning("the network of seed %d is scored at its last epoch: %s", seed, missed)


def _score_untrained(job: Job, group: Group, begun: GroupState, networks: list[NetworkScores]) -> None:
    measured = group.measure(begun.states, len(networks))
    for k, network in enumerate(networks):
        params, batch_stats = jax.tree.map(lambda leaf, k=k: leaf[k], (begun.states.params, begun.states.batch_stats))
        scored = ScoredNetwork(job, params, batch_stats, np.asarray(measured.margins[k]),
                        fresh_dynamics(measured.margins.shape[1]))
        network.observe(0, False, scored, np.asarray(measured.losses[k]))
