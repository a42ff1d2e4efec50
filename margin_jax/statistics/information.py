"""Conditional mutual information between the order that a measure gives two networks and the order of their errors.

Jiang et al. 2020, "Fantastic generalization measures and where to find them", on the conditional independence test.
For a pair of networks V_mu is the sign of the difference of the measure, V_g that of the error, and U_S the values of
the hyperparameters S of both, first and second. Pairs are ordered, so that no order of the networks matters.

Ties. A pair whose error ties has no order to predict and is left out, and with it every pair of a network with itself
that a bootstrap makes. A pair that the measure ties is kept with V_mu = 0, a third value: pairs and entropy are then
the same for all measures, and one that orders only the easy pairs gains nothing by its silence.

The estimate is the paper's, from counts. It is too large where a pair of values of U_S has few networks: in a
simulation of 20 stds with 5 seeds each, a measure without any information had 0.07 given the std. Resampling repeats
that bias, so percentiles of draws lie too high; `margin_jax.statistics.audit` reflects them.

The information has no direction: a measure that orders every pair wrongly has 1 too. Read it beside Kendall's tau.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from margin_jax.errors import InputError
from margin_jax.statistics import ranking

PIECE = 2**18  # elements of one array at a time: 2 MiB stay in the cache


class _Pairs(NamedTuple):
    """Pairs (P,) that do not tie in the error, each once, the smaller code of U_S first.

    cell (P,) counts through groups U, V_mu (3) and V_g (2); same (U,) says whether a group's two codes are equal.
    """

    first: np.ndarray
    second: np.ndarray
    cell: np.ndarray
    same: np.ndarray


def conditional_mutual_information(predicted: np.ndarray, target: np.ndarray, given: Sequence[np.ndarray] = (),
                                   counts: np.ndarray | None = None) -> np.ndarray:
    """I(V_mu; V_g | U_S) / H(V_g | U_S) for one set S of hyperparameters.

    I = sum_u p(u) sum_vw p(v, w | u) log(p(v, w | u) / (p(v | u) p(w | u))) and H = -sum_u p(u) sum_w p(w | u)
    log p(w | u), with every p a share of the pairs. A group u whose pairs all have one sign of V_g adds 0 to both.

    Args:
      predicted: (R,) float, the error the measure predicts, or the measure: the direction does not matter.
      target: (R,) float, the error.
      given: the hyperparameters of S, each (R,) of numbers or text; none for S = {}.
      counts: (..., R), how often each network is in each draw; each network once if absent. Whole numbers.

    Returns:
      (...,) float64 in [0, 1]: 1 where V_mu and U_S tell V_g, 0 where V_mu adds nothing to U_S, so for a constant
      measure; NaN where H is 0: U_S alone tells V_g (each network has its own), or all errors tie.

    Raises:
      InputError: shapes that do not fit, no real numbers, or a NaN.
    """
    predicted, target, counts = ranking.checked(predicted, target, counts)
    if (counts != np.rint(counts)).any():
        raise InputError("expected counts in whole numbers, how often each network is drawn, got fractions")
    pairs = _pairs(predicted, target, _codes(given, predicted.size))
    draws = np.ascontiguousarray(counts.reshape(-1, predicted.size).T)
    result = np.full(draws.shape[1], np.nan)
    # What U_S tells of all networks, it tells of every draw from them.
    if _uncertain(pairs):
        width = max(1, PIECE // max(pairs.cell.size, 6 * pairs.same.size))
        for start in range(0, result.size, width):
            result[start:start + width] = _normalised(_tables(pairs, draws[:, start:start + width]))
    return result.reshape(counts.shape[:-1])


def by_set(predicted: np.ndarray, target: np.ndarray, hyperparameters: Mapping[str, np.ndarray],
           counts: np.ndarray | None = None, largest: int = 2) -> dict[tuple[str, ...], np.ndarray]:
    """`conditional_mutual_information` for every set S of at most `largest` of the hyperparameters that vary.

    Args:
      predicted: (R,) float.
      target: (R,) float.
      hyperparameters: names to (R,) of numbers or text.
      counts: (..., R), each network once if absent.
      largest: how many hyperparameters to condition on at once; 2 as in the paper.

    Returns:
      The names in S, () first, to (...,) float64.

    Raises:
      InputError: shapes that do not fit, no real numbers, or a NaN in predicted or target.
    """
    varying = [name for name, values in hyperparameters.items() if np.unique(np.asarray(values)).size > 1]
    sets = itertools.chain.from_iterable(itertools.combinations(varying, size) for size in range(largest + 1))
    return {names: conditional_mutual_information(predicted, target, [hyperparameters[name] for name in names], counts)
            for names in sets}


def least(information: Mapping[tuple[str, ...], np.ndarray]) -> np.ndarray:
    """K(mu) of the paper, (...,): the least over the sets of `by_set` where it is defined, NaN if it is in none."""
    return np.fmin.reduce(list(information.values()))


def _codes(given: Sequence[np.ndarray], networks: int) -> np.ndarray:
    """One whole number (R,) per distinct combination of values."""
    code = np.zeros(networks, np.int64)
    for values in given:
        values = np.asarray(values)
        if values.shape != (networks,):
            raise InputError(f"expected hyperparameters ({networks},), got {values.shape}; give one per network")
        place = np.unique(values, return_inverse=True)[1]
        code = np.unique(code * networks + place, return_inverse=True)[1]
    return code


def _pairs(predicted: np.ndarray, target: np.ndarray, code: np.ndarray) -> _Pairs:
    first, second = np.triu_indices(code.size, 1)
    swap = code[first] > code[second]
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    v_mu, v_g = (ranking.signs(values)[first, second].astype(np.int64) for values in (predicted, target))
    decided = v_g != 0
    first, second, v_mu, v_g = first[decided], second[decided], v_mu[decided], v_g[decided]
    groups, place = np.unique(code[first] * code.size + code[second], return_inverse=True)
    return _Pairs(first, second, place * 6 + (v_mu + 1) * 2 + (v_g > 0), groups // code.size == groups % code.size)


def _uncertain(pairs: _Pairs) -> bool:
    """Whether any group has both signs of V_g; one of equal codes does as soon as it has a pair."""
    both = np.zeros((pairs.same.size, 2), bool)
    both[pairs.cell // 6, pairs.cell % 2] = True
    return bool((both.all(1) | pairs.same).any())


def _tables(pairs: _Pairs, draws: np.ndarray) -> np.ndarray:
    """How many ordered pairs of each draw are in each cell; draws (R, B) -> (U, 3, 2, B) float64."""
    shape = (pairs.same.size * 6, pairs.cell.size)
    member = sparse.csr_array((np.ones(pairs.cell.size), (pairs.cell, np.arange(pairs.cell.size))), shape=shape)
    table = (member @ (draws[pairs.first] * draws[pairs.second])).reshape(-1, 3, 2, draws.shape[1])
    # The pair the other way round has both signs turned. It is in the same group if the codes are equal, else in that
    # of the codes swapped, which adds the same to every sum.
    return table + np.where(pairs.same[:, None, None, None], table[:, ::-1, ::-1], table)


def _normalised(table: np.ndarray) -> np.ndarray:
    """I / H from counts (U, 3, 2, B) -> (B,); NaN where H is 0."""
    joint, by_measure = _n_log_n(table).sum((1, 2)), _n_log_n(table.sum(2)).sum(1)
    by_target, total = _n_log_n(table.sum(1)).sum(1), _n_log_n(table.sum((1, 2)))
    entropy = (total - by_target).sum(0)
    information = (joint - by_measure + total - by_target).sum(0)
    ratio = np.divide(information, entropy, out=np.full(entropy.shape, np.nan), where=entropy > 0)
    return np.clip(ratio, 0, 1)  # rounding alone leaves that range


def _n_log_n(n: np.ndarray) -> np.ndarray:
    return n * np.log(np.maximum(n, 1))
