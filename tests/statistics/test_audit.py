"""The audit's rows: what is in them, what is left out of them, and that they tell causes from companions."""

import numpy as np
import pytest

from margin_jax.statistics import audit, estimates, information, ranking

STATISTICS = ["spearman", "kendall", "sign_error", "partial_std", "partial_train_loss", "partial_all", "cmi",
              "cmi_corrected"]


def sweep(stds=8, seeds=5, seed=0):
    """Columns of a sweep: std, seed, training loss, and a test error that follows the std and luck."""
    rng = np.random.default_rng(seed)
    std = np.repeat(np.linspace(0.01, 0.05, stds), seeds)
    luck = rng.normal(size=std.size)
    return {"std": std, "seed": np.tile(np.arange(seeds), stds), "train_loss": rng.normal(size=std.size),
            "luck": luck, "test_error": 100 * std + luck, "rng": rng}


def judged(columns, measures, directions=None, targets=None, resamples=100, **settings):
    rows = audit.audit(measures, directions or dict.fromkeys(measures, -1),
                       targets or {"test_error": columns["test_error"]},
                       audit.Design({name: columns[name] for name in ("std", "seed")},
                                    {name: columns[name] for name in ("std", "train_loss")}, columns["std"]),
                       resamples, **settings)
    return rows, {(row["measure"], row["target"], row["statistic"]): row for row in rows}


def test_one_row_per_measure_target_and_statistic_in_order():
    columns = sweep()
    rows, _ = judged(columns, {"area": -columns["luck"], "norm": columns["std"] * 2}, {"area": 1, "norm": -1},
                     {"test_error": columns["test_error"], "gap": columns["luck"]}, resamples=5)
    assert all(tuple(row) == audit.COLUMNS for row in rows)
    expected = [(m, t, s) for m in ("area", "norm") for t in ("test_error", "gap") for s in STATISTICS]
    assert [(row["measure"], row["target"], row["statistic"]) for row in rows] == expected
    assert {row["networks"] for row in rows} == {40}
    assert all(type(row[key]) is float for row in rows for key in ("value", "low", "high"))


def test_values_and_intervals_are_those_of_the_functions():
    columns = sweep()
    measure = columns["luck"] + columns["rng"].normal(size=40)
    _, found = judged(columns, {"m": measure}, seed=3)
    error, std = columns["test_error"], columns["std"]
    counts = estimates.counts(estimates.resample(std, 100, 3))
    _, low, high, _ = estimates.percentile_interval(ranking.partial_spearman(measure, error, [std], counts))
    row = found["m", "test_error", "partial_std"]
    assert (row["low"], row["high"]) == (low, high)
    assert row["value"] == ranking.partial_spearman(measure, error, [std])
    by_set = information.by_set(measure, error, {"std": std, "seed": columns["seed"]})
    assert found["m", "test_error", "cmi"]["value"] == pytest.approx(float(information.least(by_set)))


def test_direction_turns_a_measure_so_that_positive_is_support():
    columns = sweep()
    area = -columns["test_error"]
    _, found = judged(columns, {"area": area, "same": area}, {"area": 1, "same": -1})
    for statistic, right, wrong in (("spearman", 1, -1), ("kendall", 1, -1), ("sign_error", 0, 1), ("cmi", 1, 1)):
        assert found["area", "test_error", statistic]["value"] == pytest.approx(right)
        assert found["same", "test_error", statistic]["value"] == pytest.approx(wrong)


def test_a_companion_of_the_std_is_told_from_a_cause():
    columns = sweep(stds=20)
    rng = columns["rng"]
    companion = 100 * columns["std"] + rng.normal(size=100)
    cause = columns["test_error"] + 0.3 * rng.normal(size=100)
    _, found = judged(columns, {"companion": companion, "cause": cause, "std": np.exp(columns["std"])}, resamples=200)
    assert found["companion", "test_error", "spearman"]["low"] > 0.3
    assert found["companion", "test_error", "partial_std"]["low"] < 0 < found["companion", "test_error",
                                                                              "partial_std"]["high"]
    assert found["companion", "test_error", "cmi"]["low"] == 0 and found["cause", "test_error", "cmi"]["low"] > 0.2
    assert found["cause", "test_error", "partial_all"]["low"] > 0.7
    assert np.isnan(found["std", "test_error", "partial_std"]["value"])
    assert np.isnan(found["std", "test_error", "partial_std"]["low"])
    assert found["std", "test_error", "cmi"]["value"] == pytest.approx(0, abs=1e-12)
    for row in (value for key, value in found.items() if key[2] == "cmi_corrected"):
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1


def test_reflected_intervals_of_cmi_reach_zero_where_percentiles_never_do():
    """Five seeds at each std, and a measure that follows the std and its own luck: no information given the std."""
    reach, miss = [], []
    for seed in range(12):
        columns = sweep(stds=12, seed=seed)
        error, std = columns["test_error"], columns["std"]
        measure = 100 * std + columns["rng"].normal(size=60)
        _, found = judged(columns, {"m": measure}, resamples=100)
        reach.append(found["m", "test_error", "cmi"]["low"] == 0)
        counts = estimates.counts(estimates.resample(std, 100, 0))
        given_std = information.conditional_mutual_information(measure, error, [std], counts)
        miss.append(estimates.percentile_interval(given_std).low > 0.02)
    assert np.mean(reach) > 0.9 and np.mean(miss) > 0.9


def test_networks_without_a_measure_are_left_out_of_its_rows_alone():
    columns = sweep()
    holes = columns["luck"].copy()
    holes[[0, 1, 7]] = np.nan
    _, found = judged(columns, {"holes": holes, "whole": columns["luck"]})
    _, alone = judged({name: values[~np.isnan(holes)] for name, values in columns.items() if name != "rng"},
                      {"holes": holes[~np.isnan(holes)]})
    for statistic in STATISTICS:
        assert found["holes", "test_error", statistic] == alone["holes", "test_error", statistic]
    assert found["holes", "test_error", "kendall"]["networks"] == 37
    assert found["whole", "test_error", "kendall"]["networks"] == 40


def test_undefined_rows_are_nan_without_a_warning():
    columns = sweep()
    few = np.where(np.arange(40) < 2, columns["luck"], np.nan)
    two_valued = np.where(np.arange(40) < 1, 1.0, 0.0)
    _, found = judged(columns, {"constant": np.ones(40), "few": few, "none": np.full(40, np.nan), "two": two_valued})
    assert np.isnan(found["constant", "test_error", "spearman"]["value"])
    assert found["constant", "test_error", "sign_error"]["value"] == 0.5
    assert found["constant", "test_error", "cmi"]["value"] == 0
    for statistic in STATISTICS:
        assert np.isnan([found[name, "test_error", statistic]["value"] for name in ("few", "none")]).all()
    assert found["few", "test_error", "cmi"]["networks"] == 2 and found["none", "test_error", "cmi"]["networks"] == 0
    # The one network that differs is in two thirds of the draws.
    assert np.isfinite(found["two", "test_error", "spearman"]["low"])


def test_without_repeated_strata_or_draws_there_is_no_interval():
    columns = sweep(stds=40, seeds=1)
    for resamples, rows in ((100, judged(columns, {"m": columns["luck"]})[0]),
                            (0, judged(sweep(), {"m": sweep()["luck"]}, resamples=0)[0])):
        assert all(np.isnan([row["low"], row["high"]]).all() for row in rows), resamples
        assert {row["statistic"] for row in rows if np.isnan(row["value"])} == {"cmi_corrected"}


def test_columns_that_do_not_fit_are_refused():
    columns = sweep()
    luck = columns["luck"]
    with pytest.raises(ValueError, match=r"\(39,\) for m"):
        judged(columns, {"m": luck[:39]})
    with pytest.raises(ValueError, match="direction .* got None for m"):
        judged(columns, {"m": luck}, {"other": 1})
    with pytest.raises(ValueError, match="got 0 for m"):
        judged(columns, {"m": luck}, {"m": 0})
    with pytest.raises(ValueError, match="NaN, got one in train_loss"):
        judged({**columns, "train_loss": np.full(40, np.nan)}, {"m": luck})
    with pytest.raises(ValueError, match="not named 'all'"):
        audit.audit({"m": luck}, {"m": 1}, {"t": luck}, audit.Design({}, {"all": luck}, columns["std"]))
