"""Replace-one stability (section C.2 of the paper): one training point leaves for a test point, and what that changes.

A trial is a training set S^i, which is S with the row `in_row` in the place of the row `out_row`. `design` draws the
trials, `index_map` gives the rows of S^i, `differences` compares the network trained on S^i with the one trained on S.

Rows count over train and test together: 0..N-1 are the training examples, N..M-1 the test set, each by ascending id.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from margin_jax.errors import InputError

CHOICES = ("smallest", "random", "largest")


class Trial(NamedTuple):
    """One replacement.

    Attributes:
      number: counts from 0 for each choice; trials of one number take in the same point.
      choice: of CHOICES, how the point that leaves was chosen.
      out_row: of a training example.
      in_row: of the example that takes its place, and leaves the test set if it is of it.
    """

    number: int
    choice: str
    out_row: int
    in_row: int


class Outcome(NamedTuple):
    """One network after training on, over all M rows.

    Attributes:
      margins: (M,) float, raw margins on logits.
      losses: (M,) float, cross-entropy in nats.
      logits: (M, C) float.
      rho: product of its layer norms.
    """

    margins: np.ndarray
    losses: np.ndarray
    logits: np.ndarray
    rho: float


def design(choices: Sequence[str], trials: int, pool: int, margins: np.ndarray, test: int, seed: int) -> list[Trial]:
    """Draws the trials: those of number 0 for each choice, then of number 1, and so on.

    Points are drawn without replacement until all have come, and then again. More trials or other choices leave the
    draws of the others as they are, and trials of one number take in the same test point, so that differences between
    choices are not due to it.

    Args:
      choices: of CHOICES.
      trials: for each choice.
      pool: how many smallest or largest margins the choices of these names draw from; ties go to the smaller id.
      margins: (N,) float, raw or normalised, at the network that all start from.
      test: examples of the test set, >= 1.
      seed: of the draws, which use generators of their own.

    Returns:
      trials x the number of choices, ordered by number, then by choice as given.

    Raises:
      InputError: an unknown choice, a pool that is not in 1..N, or no trial or test example.
    """
    count = len(margins)
    if test < 1 or trials < 0:
        raise InputError(f"expected test >= 1 examples and trials >= 0, got {test} and {trials}")
    if not set(choices) <= set(CHOICES) or not 1 <= pool <= count:
        raise InputError(f"expected choices of {CHOICES} and a pool in 1..{count}, got {tuple(choices)} and {pool}")
    ranked = {"smallest": np.argsort(margins, kind="stable")[:pool], "random": np.arange(count),
              "largest": np.argsort(-np.asarray(margins), kind="stable")[:pool]}
    incoming = count + _draws(seed, 0, test, trials)
    leaving = {choice: ranked[choice][_draws(seed, 1 + CHOICES.index(choice), ranked[choice].size, trials)]
               for choice in choices}
    return [Trial(number, choice, int(leaving[choice][number]), int(incoming[number]))
            for number in range(trials) for choice in choices]


def _draws(seed: int, stream: int, count: int, size: int) -> np.ndarray:
    """(size,) int: permutations of 0..count-1 one after the other."""
    generator = np.random.default_rng([seed, stream])
    permutations = [generator.permutation(count) for _ in range(-(-size // count))]
    return np.concatenate([np.empty(0, int), *permutations])[:size]


def index_map(trial: Trial, count: int) -> np.ndarray:
    """The rows that make up S^i: the incoming point stands where the outgoing one stood.

    Args:
      trial: which point is replaced by which.
      count: N.

    Returns:
      (N,) int32.
    """
    index = np.arange(count, dtype=np.int32)
    index[trial.out_row] = trial.in_row
    return index


def quantities(outcome: Outcome, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """What the experiment compares, of one network.

    Args:
      outcome: of the network, over all M rows.
      train: (N,) int rows that it was trained on.
      test: (T,) int rows that it is tested on, T >= 1.

    Returns:
      test_loss in nats, test_error in percent (margin not > 0), rho, margin_min, the smallest training margin over rho,
      and train_error in percent.
    """
    margins = np.asarray(outcome.margins, np.float64)
    return {"test_loss": float(np.asarray(outcome.losses, np.float64)[test].mean()),
            "test_error": 100 * float(np.mean(~(margins[test] > 0))), "rho": outcome.rho,
            "margin_min": float(margins[train].min() / outcome.rho),
            "train_error": 100 * float(np.mean(~(margins[train] > 0)))}


def differences(with_point: Outcome, replaced: Outcome, trial: Trial, count: int) -> dict[str, float]:
    """How the network trained on S^i differs from the one trained on S, both tested without the incoming point.

    Args:
      with_point: trained on S.
      replaced: trained on S^i.
      trial: which point was replaced.
      count: N.

    Returns:
      Signed differences, S^i less S: d_test_loss, d_test_error, d_rho, and d_margin_min, each smallest margin over the
      network's own training set; d_output, the mean over test points of ||f_Si(x) / rho_Si - f_S(x) / rho_S||_2, which
      has no sign; and train_error, of S^i on its own training set.
    """
    test = np.setdiff1d(np.arange(count, len(with_point.margins)), [trial.in_row])
    before = quantities(with_point, np.arange(count), test)
    after = quantities(replaced, index_map(trial, count), test)
    changes = {f"d_{name}": after[name] - before[name] for name in ("test_loss", "test_error", "rho", "margin_min")}
    outputs = [np.asarray(outcome.logits, np.float64)[test] / outcome.rho for outcome in (replaced, with_point)]
    apart = np.linalg.norm(outputs[0] - outputs[1], axis=1)
    return changes | {"d_output": float(apart.mean()), "train_error": after["train_error"]}
