"""The simulation of coverage counts what it should, and the committed table is whole."""

import csv
import pathlib

import numpy as np
import pytest
from scipy import stats

from margin_jax.bench import coverage
from margin_jax.statistics.estimates import Estimate

TABLE = pathlib.Path(__file__).resolve().parent.parent / "results" / "coverage" / "coverage.csv"


def test_a_known_coverage_is_counted():
    """mean +- 1 standard error of known variance holds the truth in 68% of cases."""
    def draw(rng):
        mean = rng.normal(size=4).mean()
        return Estimate(mean, mean - 0.5, mean + 0.5, 4)

    row = coverage.simulate(coverage.CoverageCase("z", "4 seeds", 0.0, 4000, draw))
    assert row["low"] <= 100 * (2 * stats.norm.cdf(1) - 1) <= row["high"] and row["mean_width"] == 1
    assert tuple(row) == coverage.COLUMNS


def test_an_interval_without_ends_covers_nothing():
    def draw(rng):
        return Estimate(0.0, -1.0 if rng.random() < 0.5 else np.nan, 1.0, 1)

    row = coverage.simulate(coverage.CoverageCase("half", "", 0.0, 400, draw))
    assert 40 < row["coverage"] < 60 and row["mean_width"] == 2


def test_every_case_draws_an_interval():
    names = set()
    for case in coverage.cases(10):
        estimate = case.draw(np.random.default_rng(1))
        assert estimate.low <= estimate.high and np.isfinite(case.truth)
        names.add((case.interval, case.setting))
    with open(TABLE, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["interval"], row["setting"]) for row in rows} == names


@pytest.mark.parametrize("interval, least", [
    ("Student's t of the seeds' means", 94), ("Student's t of Fisher's z", 94), ("jackknife", 92),
    ("bootstrap, Spearman", 94), ("bootstrap, Spearman, all networks", 94),
    ("bootstrap, paired over test examples", 94), ("hull of both", 89)])
def test_intervals_that_decide_cover_in_the_committed_table(interval, least):
    with open(TABLE, encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["interval"] == interval]
    assert rows and all(float(row["coverage"]) >= least for row in rows)
