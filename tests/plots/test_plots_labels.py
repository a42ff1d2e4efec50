"""Figures 1 and 12: natural and random labels, rank by rank, in bins and through training."""

import json

import numpy as np
import pytest
from helpers.compress_folders import by_gid, expected
from helpers.condition_folders import EPOCHS, EXAMPLES, write_kinds
from scipy import stats

from plots.style import Lacking
from plots.sweeps import fig01, fig12, read
from plots.sweeps.read import OtherSweep, read_sweep

LABELS = ({"random_fraction": 0.0}, {"random_fraction": 1.0})
LAST = EPOCHS[-1]


def noise(seed, kind, size=EXAMPLES):
    return np.random.default_rng([seed, int(10 * kind["random_fraction"])]).normal(0, 1, size)


def halves(kind, seed, epoch):
    """Random labels have margins half as large, with a little noise; all grow with the epoch and start below zero."""
    base = (np.arange(EXAMPLES) + 5.0) * (0.5 if kind["random_fraction"] else 1.0) - (20 if epoch < 4 else 0)
    return 1e-4 * (base + 0.01 * noise(seed, kind)) * epoch


def gathered(path, margins=halves, **options):
    curves = write_kinds(path, LABELS, margins, **options)
    return fig01.compute_numbers(read_sweep(path)), curves


def shares_by_loop(curves, pairs):
    """Shares of ranks at which the t interval of the paired difference lies above and below 0, one rank at a time."""
    found = [0, 0]
    for rank in range(EXAMPLES):
        differences = [sorted(curves[a][LAST])[rank] - sorted(curves[b][LAST])[rank] for a, b in pairs]
        low, high = stats.t.interval(0.95, len(pairs) - 1, np.mean(differences), stats.sem(differences))
        found = [found[0] + (low > 0), found[1] + (high < 0)]
    return found[0] / EXAMPLES, found[1] / EXAMPLES


def mixed(kind, seed, epoch):
    """The lower half of ranks as in `halves`, the upper half noise alone."""
    values = np.where(np.arange(EXAMPLES) < EXAMPLES / 2, halves(kind, seed, epoch), 1.0)
    return values + np.where(values == 1.0, 0.1 * noise(seed, kind), 0)


def reverse(kind, seed, epoch):
    return halves({"random_fraction": 1.0 - kind["random_fraction"]}, seed, epoch)


@pytest.mark.parametrize("margins, verdict", [(halves, "reproduced"), (reverse, "not reproduced"), (mixed, "open")])
def test_ranks_are_judged_by_intervals_over_seeds(tmp_path, margins, verdict):
    numbers, curves = gathered(tmp_path / "s", margins)
    assert (numbers.above, numbers.below) == shares_by_loop(curves, [(0, 3), (1, 4), (2, 5)])
    each = [np.mean(np.sort(curves[k][LAST]) > np.sort(curves[k + 3][LAST])) for k in range(3)]
    np.testing.assert_allclose(numbers.shares, each)
    differences = [np.sort(curves[k][LAST]) - np.sort(curves[k + 3][LAST]) for k in range(3)]
    tests = [stats.ttest_1samp(values, 0) for values in np.transpose(differences)]
    place = int(np.argmin([test.statistic for test in tests]))
    low, high = tests[place].confidence_interval(0.95)
    assert numbers.weakest_rank == place + 1
    np.testing.assert_allclose(numbers.weakest, [np.mean(differences, axis=0)[place], low, high, 3], rtol=1e-4)
    assert fig01.larger(numbers) == verdict
    # Networks of one seed are scaled alike by another rho here, so that it changes no comparison.
    assert numbers.by_rho["all"] == numbers.by_rho["conv"] == pytest.approx(np.mean(each))


def test_figure_1_shows_curves_and_bins(tmp_path):
    numbers, curves = gathered(tmp_path / "s")
    fig = fig01.draw_figure(numbers, "digits")
    top, near, own, common = fig.axes
    smallest = {name: [sorted(curves[number][LAST])[:100] for number in numbers_of] for name, numbers_of in
                (("natural", (0, 1, 2)), ("random", (3, 4, 5)))}
    low, high = min(np.min(v) for v in smallest.values()), max(np.max(v) for v in smallest.values())
    for place, (name, rows) in enumerate(smallest.items()):
        np.testing.assert_allclose(by_gid(top, name).get_ydata(), np.mean(rows, axis=0), rtol=1e-5)
        np.testing.assert_allclose(np.sort(by_gid(near, f"{name}-seeds").get_ydata()),
                                   np.sort([row[:5] for row in rows], axis=None), rtol=1e-5)
        for axes, ends in ((own, [(row[0], row[-1]) for row in rows]), (common, 3 * [(low, high)])):
            counts = [np.histogram(row, 10, end)[0] for row, end in zip(rows, ends)]
            assert [bar.get_height() for bar in axes.containers[2 * place]] == pytest.approx(np.mean(counts, axis=0))
    content = json.loads(fig01.write_numbers(numbers, tmp_path, "fig01").read_text())
    assert content["moment"] == "convergence" and content["natural"]["epochs"] == [LAST] * 3
    first = content["claims"][2]
    differences = [np.histogram(b, 10, (low, high))[0][0] - np.histogram(a, 10, (low, high))[0][0]
                   for a, b in zip(*smallest.values())]
    mean, half = np.mean(differences), np.std(differences, ddof=1) / 3**0.5 * stats.t.ppf(0.975, 2)
    assert first["range"] == "common" and first["paper"] == [1, 14]
    assert first["random_less_natural"] == {"mean": pytest.approx(mean), "low": pytest.approx(mean - half),
                                            "high": pytest.approx(mean + half), "n": 3}
    assert first["verdict"] == ("reproduced" if mean - half > 0 else "open")


@pytest.mark.parametrize("late, moment, left", [((), "convergence", ()), ((5,), "convergence", (5,)),
                                                ((3, 4), "end", ()), ((3, 4, 5), "end", ())])
def test_labels_are_compared_where_half_of_both_kinds_got(tmp_path, late, moment, left):
    def separation(kind, seed):
        return None if kind["random_fraction"] and seed + 3 in late else 4

    numbers, _ = gathered(tmp_path / "s", separation=separation)
    assert numbers.moment == moment and numbers.random.left_out == left and numbers.natural.left_out == ()
    assert numbers.shares.size == 3 - len(left)


def test_one_seed_and_diverged_networks_leave_the_claims_open(tmp_path):
    numbers, _ = gathered(tmp_path / "one", seeds=1)
    assert fig01.larger(numbers) == "open" and numbers.shares.tolist() == [1.0]
    assert numbers.weakest_rank == 0 and np.isnan(numbers.weakest.value) and numbers.weakest.n == 1
    found = fig12.compute_numbers(read_sweep(tmp_path / "one"))
    content = json.loads(fig12.write_numbers(found, tmp_path, "fig12").read_text())
    assert [claim["verdict"] for claim in content["claims"]] == ["open", "open"]
    for drawn in (fig01.draw_figure(numbers, "digits"), fig12.draw_figure(found, "digits")):
        drawn.draw_without_rendering()
    numbers, _ = gathered(tmp_path / "lost", status={4: "diverged"})
    assert numbers.random.left_out == (4,) and numbers.shares.size == 2
    write_kinds(tmp_path / "all", LABELS, halves, status=dict.fromkeys((3, 4, 5), "diverged"))
    with pytest.raises(Lacking, match="all of one kind"):
        fig01.compute_numbers(read_sweep(tmp_path / "all"))


def test_figure_12_follows_the_smallest_margin(tmp_path):
    when = {(0.0, 0): 4, (0.0, 1): 6, (0.0, 2): 4, (1.0, 0): 12, (1.0, 1): 10, (1.0, 2): None}
    curves = write_kinds(tmp_path / "s", LABELS, halves,
                         separation=lambda kind, seed: when[kind["random_fraction"], seed])
    numbers = fig12.compute_numbers(read_sweep(tmp_path / "s"))
    # The one that has not separated counts with its last epoch in metrics.csv, a lower bound.
    mean, half = expected([12 - 4, 10 - 6, 10 - 4])
    assert (numbers.later.value, numbers.later.half) == (pytest.approx(mean), pytest.approx(half))
    assert numbers.censored == (2,) and numbers.lost == ()
    smallest = [curves[k][LAST].min() - curves[k + 3][LAST].min() for k in range(2)]  # seed 2 did not converge
    mean, half = expected(smallest)
    assert (numbers.larger.value, numbers.larger.half) == (pytest.approx(mean), pytest.approx(half))
    fig = fig12.draw_figure(numbers, "digits")
    top, bottom = fig.axes
    line = by_gid(top, "random-4")
    assert line.get_ydata()[3] == pytest.approx(curves[4][4].min(), rel=1e-5) and line.get_xdata()[3] == 4
    marks = sorted(line.get_xdata()[0] for line in bottom.lines if line.get_gid() == "separation")
    assert marks == [4, 4, 6, 10, 12]
    assert "at least " in fig.get_suptitle()


def test_other_sweeps_are_told_apart(tmp_path):
    write_kinds(tmp_path / "same", ({"random_fraction": 0.5},), halves)
    with pytest.raises(OtherSweep, match="share of random labels alone, .* differ in nothing else"):
        read.by_labels(read_sweep(tmp_path / "same"), "figure 1")
    write_kinds(tmp_path / "noisy", ({"random_fraction": 0.5}, {"random_fraction": 1.0}), halves)
    with pytest.raises(OtherSweep, match="put 0 into sweep.random_fractions"):
        read.by_labels(read_sweep(tmp_path / "noisy"), "figure 1")
    write_kinds(tmp_path / "decay", (LABELS[0], LABELS[1] | {"weight_decay": 0.1}), halves)
    with pytest.raises(OtherSweep, match="differ in weight decay"):
        read.by_labels(read_sweep(tmp_path / "decay"), "figure 1")
