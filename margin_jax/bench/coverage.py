"""How often each interval of the library holds the truth, by simulation, in settings as those of its experiments.

An interval of 95% should do so in 95 of 100 cases. Every case draws data whose truth is known, a thousand times or
more. docs/verdicts.md says which intervals decide.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy

from margin_jax.statistics import bootstrap, estimates, hypotheses, proportions, ranking
from margin_jax.statistics.estimates import Estimate

COLUMNS = ("interval", "setting", "trials", "coverage", "low", "high", "mean_width")
RESAMPLES = 1000  # of a bootstrap; more change its percentiles by less than its coverage is off
POINTS = 50  # of a seed
CELLS = 17


class CoverageCase(NamedTuple):
    """One interval in one setting: `draw` simulates data and gives the interval, `truth` is what it should hold."""

    interval: str
    setting: str
    truth: float
    trials: int
    draw: Callable[[np.random.Generator], Estimate]


def simulate(case: CoverageCase, seed: int = 0) -> dict[str, Any]:
    """A row with the keys COLUMNS: the share of trials whose interval holds the truth, in percent, Wilson's 95%."""
    generator = np.random.default_rng(seed)
    drawn = [case.draw(generator) for _ in range(case.trials)]
    hits = sum(bool(row.low <= case.truth <= row.high) for row in drawn)
    share = proportions.wilson_interval(hits, case.trials)
    width = float(np.nanmean([row.high - row.low for row in drawn]))
    ends = (round(100 * end, 1) for end in share[:3])
    return dict(zip(COLUMNS, (case.interval, case.setting, case.trials, *ends, float(f"{width:.3g}")), strict=True))


def cases(trials: int = 1000) -> Iterator[CoverageCase]:
    """All of them; closed forms take ten times as many trials as bootstraps."""
    yield from _means(10 * trials)
    yield from _shares(10 * trials)
    yield from _correlations(trials)
    yield from _two_levels(trials)
    yield CoverageCase("reflected bootstrap", "plug-in entropy of 60 draws from 6 values", _entropy(_CHANCES), trials,
               _reflected)


def _means(trials: int) -> Iterator[CoverageCase]:
    for n in (3, 5, 10):
        yield CoverageCase("Student's t", f"{n} seeds, normal", 0.0, trials,
                           lambda rng, n=n: hypotheses.t_evidence(rng.normal(size=n)).estimate)
    yield CoverageCase("Student's t", "3 seeds, exponential", 1.0, trials,
               lambda rng: hypotheses.t_evidence(rng.exponential(size=3)).estimate)
    yield CoverageCase("Student's t of logarithms", "3 ratios, log-normal", 1.0, trials,
               lambda rng: hypotheses.ratio_evidence(np.exp(rng.normal(0, 0.3, 3))).estimate)
    many = np.random.default_rng(1)
    for signal in (0.0, 1.5):
        truth = np.tanh(np.mean([np.arctanh(_seed_correlation(many, signal)) for _ in range(4000)]))
        yield CoverageCase("Student's t of Fisher's z", f"3 seeds, {CELLS} cells, correlation {truth:.2f}", truth,
                           trials // 5, lambda rng, signal=signal: hypotheses.correlation_evidence(
                       [_seed_correlation(rng, signal) for _ in range(3)]).estimate)
    yield CoverageCase("jackknife", "overlap of all pairs of 5 networks", 0.0, trials, _pairs)


def _seed_correlation(rng: np.random.Generator, signal: float) -> float:
    """Of one seed, over the cells of a grid."""
    order = np.linspace(-1, 1, CELLS)
    return float(ranking.spearman(order, signal * order + rng.normal(size=CELLS)))


def _pairs(rng: np.random.Generator) -> Estimate:
    network = rng.normal(size=5)
    overlap = network[:, None] + network + rng.normal(size=(5, 5)) / 2
    first, second = np.triu_indices(5, 1)
    values = overlap[first, second]
    without = [values[(first != place) & (second != place)].mean() for place in range(5)]
    return hypotheses.jackknife_evidence(values.mean(), without).estimate


def _shares(trials: int) -> Iterator[CoverageCase]:
    for share in (0.002, 0.05, 0.2, 0.55):
        yield CoverageCase("Wilson", f"60 independent examples, share {share:g}", share, trials,
                           lambda rng, p=share: proportions.wilson_interval(rng.binomial(60, p), 60))
    for share in (0.02, 0.2, 0.55):
        for alike in (0.0, 0.05, 0.2):
            kinds = {"Wilson, pooled": _pooled, "Student's t of shares": _seeds, "hull of both": _hull}
            for name, interval in kinds.items():
                setting = f"3 seeds of 20 examples, share {share:g}, correlation within a seed {alike:g}"
                yield CoverageCase(name, setting, share, trials // 5,
                                   lambda rng, p=share, a=alike, f=interval: f(_hits(rng, p, a)))


def _hits(rng: np.random.Generator, share: float, alike: float) -> np.ndarray:
    """Of 20 examples in each of three seeds, beta-binomial with that correlation of two examples of a seed."""
    size = 1 / alike - 1 if alike else np.inf
    chances = rng.beta(share * size, (1 - share) * size, 3) if alike else np.full(3, share)
    return rng.binomial(20, chances)


def _pooled(hits: np.ndarray) -> Estimate:
    return proportions.wilson_interval(hits.sum(), 60)


def _seeds(hits: np.ndarray) -> Estimate:
    return hypotheses.t_evidence(hits / 20).estimate


def _hull(hits: np.ndarray) -> Estimate:
    return proportions.share_evidence(hits, np.full(3, 20)).estimate


def _correlations(trials: int) -> Iterator[CoverageCase]:
    for networks in (15, 20, 40, 100):
        for pearson in (0.0, 0.5):
            truth = 6 / np.pi * np.arcsin(pearson / 2)
            yield CoverageCase("bootstrap, Spearman", f"{networks} networks, correlation {truth:.2f}", truth, trials,
                       lambda rng, n=networks, r=pearson: _spearman_interval(*_normal(rng, n, r), np.zeros(n)))
    many = np.random.default_rng(2)
    for levels in (4, 20):
        design = np.repeat(np.arange(levels), 5)
        truth = float(np.mean([ranking.spearman(*_designed(many, design)) for _ in range(4000)]))
        setting = f"{levels} standard deviations of 5 networks, correlation {truth:.2f}"
        for name, strata in (("all networks", np.zeros(design.size)), ("within strata", design)):
            yield CoverageCase(f"bootstrap, Spearman, {name}", setting, truth, trials,
                       lambda rng, d=design, s=strata: _spearman_interval(*_designed(rng, d), s))


def _normal(rng: np.random.Generator, networks: int, pearson: float) -> np.ndarray:
    return rng.multivariate_normal((0, 0), [[1, pearson], [pearson, 1]], networks).T


def _designed(rng: np.random.Generator, design: np.ndarray) -> np.ndarray:
    """Measure and error that both follow the initial standard deviation, and nothing else in common."""
    return (design - design.mean()) / design.std() + rng.normal(size=(2, design.size))


def _spearman_interval(measure: np.ndarray, error: np.ndarray, strata: np.ndarray) -> Estimate:
    counts = estimates.counts(estimates.resample(strata, RESAMPLES, 0))
    return estimates.percentile_interval(ranking.spearman(measure, error, counts))


def _two_levels(trials: int) -> Iterator[CoverageCase]:
    for seeds in (3, 5, 10, 20):
        setting = f"mean of {seeds} seeds of {POINTS} points, half of the variance between seeds"
        yield CoverageCase("bootstrap, hierarchical", setting, 0.0, trials // 2,
                           lambda rng, s=seeds: _hierarchical(rng, s))
        yield CoverageCase("bootstrap of points alone", setting, 0.0, trials // 2, lambda rng, s=seeds: _points(rng, s))
        yield CoverageCase("Student's t of the seeds' means", setting, 0.0, 10 * trials,
                           lambda rng, s=seeds: hypotheses.t_evidence(_nested(rng, s).mean(1)).estimate)
    for seeds in (3, 10):
        setting = f"difference of two errors, {seeds} seeds, 400 test examples shared"
        yield CoverageCase("bootstrap, paired over test examples", setting, 0.0, trials,
                           lambda rng, s=seeds: _paired(rng, s))
        yield CoverageCase("Student's t of seeds on one test set", setting, 0.0, 10 * trials,
                           lambda rng, s=seeds: hypotheses.t_evidence(_outcomes(rng, s).mean(1)).estimate)


def _nested(rng: np.random.Generator, seeds: int) -> np.ndarray:
    return rng.normal(size=(seeds, 1)) + rng.normal(size=(seeds, POINTS))


def _hierarchical(rng: np.random.Generator, seeds: int) -> Estimate:
    draws = bootstrap.hierarchical_bootstrap(_nested(rng, seeds), resamples=RESAMPLES // 4)
    return estimates.bootstrap_estimate(draws, seeds)


def _points(rng: np.random.Generator, seeds: int) -> Estimate:
    points = _nested(rng, seeds).ravel()
    weights = estimates.draw_counts(points.size, RESAMPLES, 0)
    return estimates.bootstrap_estimate(weights @ points / points.size, points.size)


def _outcomes(rng: np.random.Generator, seeds: int) -> np.ndarray:
    """Differences in {-1, 0, 1}, expected 0; what an example does in one seed it mostly does in the others."""
    lean = rng.normal(0, 1, 400)
    z = lean + rng.normal(0, 0.1, (seeds, 1)) + rng.normal(0, 1, (seeds, 400))
    return np.sign(z) * (abs(z) > 2)


def _paired(rng: np.random.Generator, seeds: int) -> Estimate:
    difference = _outcomes(rng, seeds)
    draws = bootstrap.paired_bootstrap(difference, np.zeros_like(difference), RESAMPLES)
    return estimates.bootstrap_estimate(draws, seeds)


_CHANCES = np.array([0.4, 0.2, 0.15, 0.1, 0.1, 0.05])


def _entropy(chances: np.ndarray) -> Any:
    return scipy.special.entr(chances).sum(-1)


def _reflected(rng: np.random.Generator) -> Estimate:
    """Too small by about 5 / 120 nats, and its draws by as much again."""
    seen = rng.multinomial(60, _CHANCES) / 60
    return estimates.reflected_interval(_entropy(seen), _entropy(rng.multinomial(60, seen, RESAMPLES) / 60))
