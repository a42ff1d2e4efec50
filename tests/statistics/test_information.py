"""Conditional mutual information against tables by hand and dictionaries of plain Python."""

import collections
import math

import numpy as np
import pytest

from margin_jax.statistics import estimates, information

QUARTER = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))  # h(1/4), bits

def looped(predicted, target, given, index=None):
    """I / H from dictionaries of counts over ordered pairs of places, those of one network left out."""
    index = range(len(target)) if index is None else index
    cells = collections.Counter()
    for i in index:
        for j in index:
            if target[i] != target[j]:
                group = tuple((values[i], values[j]) for values in given)
                v_mu = int(predicted[i] > predicted[j]) - int(predicted[i] < predicted[j])
                cells[group, v_mu, target[i] > target[j]] += 1
    total = sum(cells.values())
    information_sum = entropy = 0.0
    for (group, v_mu, v_g), n in cells.items():
        n_u = sum(m for (u, _, _), m in cells.items() if u == group)
        n_v = sum(m for (u, v, _), m in cells.items() if (u, v) == (group, v_mu))
        n_w = sum(m for (u, _, w), m in cells.items() if (u, w) == (group, v_g))
        information_sum += n / total * math.log(n * n_u / (n_v * n_w))
        entropy -= n / total * math.log(n_w / n_u)
    return information_sum / entropy


def test_four_networks_by_hand():
    """Two seeds at each of two stds, a and b; numbers worked out by hand.

    Ordered so that the smaller network comes first, the signs (V_mu, V_g) of the pairs are
      (a, a): 01 (-, -)      (b, b): 23 (+, -)      (a, b): 02 (-, -)  03 (-, -)  12 (-, +)  13 (-, -).
    With both orders of every pair there are 12. (a, a) has (-, -) and (+, +), one each: H = I = log 2, and (b, b) with
    (+, -) and (-, +) too. (a, b) has V_mu = - throughout, so I = 0, and one + among four V_g: H = h(1/4); (b, a) alike.
    I = (2 + 2) / 12 log 2 and H = (4 log 2 + 8 h(1/4)) / 12; in bits h(1/4) = 0.8112781, so I / H = 0.3813074.
    Without a condition 4 of 6 pairs agree, both V are + half of the time, and I / H = 1 - h(1/3) = 0.0817042 bits.
    """
    measure, error, std = np.array([1.0, 2, 4, 3]), np.array([1.0, 3, 2, 4]), np.array(["a", "a", "b", "b"])
    given_std = information.conditional_mutual_information(measure, error, [std])
    assert given_std == pytest.approx(4 / (4 + 8 * QUARTER)) and given_std == pytest.approx(0.3813074, abs=1e-7)
    free = information.conditional_mutual_information(measure, error)
    assert free == pytest.approx(0.0817042, abs=1e-7)
    found = information.by_set(measure, error, {"std": std, "constant": np.ones(4)})
    assert list(found) == [(), ("std",)] and information.least(found) == free


@pytest.mark.parametrize("measure, wrong, expected", [
    ([1.0, 0, 1, 2], [], 1 - 2 / 10),
    ([4.0, 5, 4, 6], [(1, 2)], 1 - (2 + 8 * QUARTER) / 10),
    ([4.0, 4.5, 4, 4.2], [(1, 2), (1, 3)], 0)])
def test_ties_by_hand(measure, wrong, expected):
    """Errors 0, 0, 1, 2: the pair 01 is out and 10 ordered pairs are left, half of them with V_g = +, so H is 1 bit.

    The measures tie 02: V_mu = 0 has one V_g = + and one -, 1 bit of 2 pairs. The other 8 have V_mu = + or -, 4 each,
    of which none, one or two are wrong: h(0), h(1/4) or h(1/2) bits. I is 1 less the mean of these.
    """
    error = [0.0, 0, 1, 2]
    assert [(i, j) for i, j in ((0, 3), (1, 2), (1, 3), (2, 3)) if measure[i] > measure[j]] == wrong
    found = information.conditional_mutual_information(np.array(measure), np.array(error))
    assert found == pytest.approx(expected, abs=1e-12)


def test_draws_are_counted_as_loops_count_them(monkeypatch):
    rng = np.random.default_rng(0)
    std, rate, seed = np.repeat([0.01, 0.02, 0.05], 8), np.tile(np.repeat(["lo", "hi"], 4), 3), np.tile(np.arange(4), 6)
    error = np.round(std * 20 + rng.normal(size=24), 1)
    measure = np.round(error + rng.normal(size=24), 1)
    indices = estimates.resample(std, 5, 1)
    for given in ([], [std], [seed, rate], [std, rate]):
        expected = [looped(measure, error, given, index) for index in indices]
        found = information.conditional_mutual_information(measure, error, given, estimates.counts(indices))
        np.testing.assert_allclose(found, expected, atol=1e-12)
        monkeypatch.setattr(information, "PIECE", 600)  # one or two draws at a time
        in_pieces = information.conditional_mutual_information(measure, error, given, estimates.counts(indices))
        np.testing.assert_allclose(in_pieces, expected, atol=1e-12)
        monkeypatch.undo()


def sweep(stds=20, seeds=5, seed=0):
    rng = np.random.default_rng(seed)
    std = np.repeat(np.arange(stds), seeds)
    return std, np.tile(np.arange(seeds), stds), std / 2 + rng.normal(size=std.size), rng


def test_a_perfect_measure_has_all_the_information_whatever_its_direction():
    std, seed, error, _ = sweep()
    for measure in (error**3, -error):
        found = information.by_set(measure, error, {"std": std, "seed": seed})
        # Each network has its own std and seed: nothing is left to tell.
        assert list(found) == [(), ("std",), ("seed",), ("std", "seed")] and np.isnan(found["std", "seed"])
        assert information.least(found) == pytest.approx(1)


def test_a_measure_that_follows_only_the_std_has_none_given_the_std():
    std, seed, error, _ = sweep()
    found = information.by_set(std.astype(float), error, {"std": std, "seed": seed})
    assert found[()] > 0.3 and found["std",] == pytest.approx(0, abs=1e-12) and information.least(found) < 1e-12


def test_an_independent_measure_has_little_and_a_constant_none():
    std, seed, error, rng = sweep()
    found = information.by_set(rng.normal(size=error.size), error, {"std": std, "seed": seed})
    assert information.least(found) < 0.02
    assert found["std",] < 0.12  # the bias of 25 pairs from 10 networks in a group
    assert information.conditional_mutual_information(np.ones(error.size), error, [std]) == 0


def test_order_of_the_networks_does_not_matter():
    std, seed, error, rng = sweep(stds=5)
    measure, mixed = error + rng.normal(size=error.size), rng.permutation(error.size)
    for given in ([], [std], [seed]):
        found = [information.conditional_mutual_information(measure[p], error[p], [values[p] for values in given])
                 for p in (np.arange(error.size), mixed)]
        assert found[0] == pytest.approx(float(found[1]), abs=1e-12)


def test_what_is_undefined_is_nan_without_a_warning():
    error = np.arange(6.0)
    assert np.isnan(information.conditional_mutual_information(error, np.ones(6)))
    assert np.isnan(information.conditional_mutual_information(error, error, [np.arange(6)], np.ones((3, 6)))).all()
    assert np.isnan(information.conditional_mutual_information(error[:1], error[:1]))
    # A draw of one network five times has no pair.
    counts = np.array([[1.0] * 6, [6.0] + [0] * 5])
    np.testing.assert_array_equal(information.conditional_mutual_information(error, error, (), counts), [1, np.nan])


def test_hyperparameters_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"expected hyperparameters \(6,\)"):
        information.conditional_mutual_information(np.arange(6.0), np.arange(6.0), [np.arange(5)])
