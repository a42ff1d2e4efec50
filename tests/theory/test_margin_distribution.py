"""AUC readings, ramp loss, small-margin count and flatness against NumPy in float64 and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from margin_jax.errors import InputError
from margin_jax.theory import distribution


def draw(count, seed=0):
    return np.random.default_rng(seed).normal(0.5, 1, count).astype(np.float32)


def ramp(m, gamma):
    return np.where(m <= 0, 1.0, np.where(m >= gamma, 0.0, 1 - m / gamma if gamma else 0.0))


@pytest.mark.parametrize("gamma", [0.01, 0.5, 2.0, 100.0])
@pytest.mark.parametrize("count", [1, 10, 1001])
def test_all_readings_match_numpy(count, gamma):
    values = draw(count)
    m, x = values.astype(np.float64), jnp.asarray(values)
    tail = m <= np.float32(values.min() + np.float32(gamma))
    np.testing.assert_allclose(distribution.ramp_loss(x, gamma), ramp(m, gamma), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(distribution.auc_mean(x), m.mean(), rtol=1e-5)
    np.testing.assert_allclose(distribution.auc_ramp(x, gamma), np.clip(m / gamma, 0, 1).mean(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(distribution.auc_tail(x, gamma), np.where(tail, m, 0).mean(), rtol=1e-4, atol=1e-6)
    assert distribution.small_margin_count(x, gamma) == tail.sum()


def test_ramp_at_zero_is_the_zero_one_loss_with_ties_wrong():
    np.testing.assert_array_equal(distribution.ramp_loss(jnp.array([-1.0, 0.0, 1e-9]), 0.0), [1, 1, 0])
    assert np.isnan(distribution.ramp_loss(jnp.array([jnp.nan]), 0.0)[0])


def test_ramp_corners():
    np.testing.assert_array_equal(distribution.ramp_loss(jnp.array([-5.0, 0.0, 1.0, 2.0, 3.0]), 2.0), [1, 1, 0.5, 0, 0])


def test_uniform_margins_have_a_closed_form():
    m = jnp.linspace(0, 1, 100_001)
    np.testing.assert_allclose(distribution.auc_mean(m), 1 / 2, rtol=1e-4)
    np.testing.assert_allclose(distribution.auc_ramp(m, 0.5), 3 / 4, rtol=1e-4)
    np.testing.assert_allclose(distribution.auc_tail(m, 0.5), 1 / 8, rtol=1e-3)


@pytest.mark.parametrize("kept", [1, 5, 20])
def test_where_equals_the_subset_and_removed_rows_may_hold_nan(kept):
    values = draw(20, 1)
    where = np.zeros(20, bool)
    where[np.random.default_rng(2).permutation(20)[:kept]] = True
    subset, padded = jnp.asarray(values[where]), jnp.asarray(np.where(where, values, np.nan))
    where = jnp.asarray(where)
    assert distribution.smallest(padded, where) == distribution.smallest(subset)
    np.testing.assert_allclose(distribution.auc_mean(padded, where), distribution.auc_mean(subset), rtol=1e-6)
    for reading in (distribution.auc_ramp, distribution.auc_tail):
        np.testing.assert_allclose(reading(padded, 0.3, where), reading(subset, 0.3), rtol=1e-5, atol=1e-7)
    assert distribution.small_margin_count(padded, 0.3, where) == distribution.small_margin_count(subset, 0.3)


def test_order_of_rows_changes_nothing_and_readings_scale():
    values = draw(50, 3)
    x, shuffled = jnp.asarray(values), jnp.asarray(np.random.default_rng(4).permutation(values))
    for reading in (distribution.auc_ramp, distribution.auc_tail):
        np.testing.assert_allclose(reading(x, 0.4), reading(shuffled, 0.4), rtol=1e-5)
    np.testing.assert_allclose(distribution.auc_ramp(2 * x, 0.8), distribution.auc_ramp(x, 0.4), rtol=1e-6)
    np.testing.assert_allclose(distribution.auc_tail(2 * x, 0.8), 2 * distribution.auc_tail(x, 0.4), rtol=1e-6)


FLATNESS = {distribution.coefficient_of_variation: lambda m: m.std() / m.mean(),
            distribution.relative_iqr: lambda m: (np.quantile(m, 0.75) - np.quantile(m, 0.25)) / np.median(m)}


@pytest.mark.parametrize("measure", FLATNESS)
@pytest.mark.parametrize("count", [1, 2, 9, 1001])
def test_flatness_matches_numpy_and_has_no_scale(measure, count):
    values = np.random.default_rng(count).gamma(2.0, 1.0, count).astype(np.float32)
    truth = FLATNESS[measure](values.astype(np.float64))
    for scale in (1.0, 1e-6, 1e4):
        np.testing.assert_allclose(measure(jnp.asarray(values * np.float32(scale))), truth, rtol=1e-4, atol=1e-6)
    where = np.arange(3 * count) % 3 == 1
    padded = np.full(3 * count, np.nan, np.float32)
    padded[where] = values
    np.testing.assert_allclose(measure(jnp.asarray(padded), jnp.asarray(where)), truth, rtol=1e-4, atol=1e-6)


def test_flatness_in_closed_form_and_where_it_means_nothing():
    line = jnp.linspace(0, 1, 100_001)  # a straight curve: std 1/sqrt(12), mean and median 1/2
    np.testing.assert_allclose(distribution.coefficient_of_variation(line), 2 / np.sqrt(12), rtol=1e-4)
    np.testing.assert_allclose(distribution.relative_iqr(line), 1.0, rtol=1e-4)
    flat = jnp.full(7, 0.25)
    assert distribution.coefficient_of_variation(flat) == distribution.relative_iqr(flat) == 0
    for measure in FLATNESS:
        assert np.isnan(measure(jnp.array([-1.0, -2.0, 1.0]))) and np.isnan(measure(jnp.array([-1.0, 0.0, 1.0])))


EVERY = {
    "curve": lambda m, where: distribution.margin_curve(m)[1],
    "ranks": lambda m, where: distribution.margin_curve(m)[0],
    "separated": lambda m, where: distribution.separated(m, where),
    "support": lambda m, where: distribution.support_set(m, m.__array_namespace__().arange(m.shape[0]), 7),
    "smallest": distribution.smallest, "mean": distribution.auc_mean,
    "ramp": lambda m, where: distribution.auc_ramp(m, 0.3, where),
    "loss": lambda m, where: distribution.ramp_loss(m, 0.3),
    "tail": lambda m, where: distribution.auc_tail(m, 0.3, where),
    "count": lambda m, where: distribution.small_margin_count(m, 0.3, where),
    "cv": distribution.coefficient_of_variation, "iqr": distribution.relative_iqr,
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("masked", [False, True])
def test_numpy_and_jax_get_the_same_eagerly_jitted_and_mapped(name, masked):
    rows = np.stack([draw(33, seed) + 1 for seed in range(3)])
    rows[:, 5] = rows[:, 20]  # a tie
    where = np.arange(33) % 4 > 0 if masked else None
    function = EVERY[name]
    ours = np.stack([np.asarray(function(row, where)) for row in rows])
    assert not isinstance(function(rows[0], where), jax.Array)
    on_device = [function(jnp.asarray(row), None if where is None else jnp.asarray(where)) for row in rows]
    assert all(isinstance(value, jax.Array) for value in on_device)
    jitted = [jax.jit(function)(jnp.asarray(row), where) for row in rows]
    mapped = jax.vmap(lambda row: function(row, where))(jnp.asarray(rows))
    for others in (on_device, jitted, mapped):
        np.testing.assert_allclose(np.stack(others), ours, rtol=3e-6)


def test_order_has_ties_by_id_and_nan_last():
    values, ids = np.array([2.0, np.nan, 1.0, 1.0, -np.inf, np.inf]), np.array([0, 1, 9, 2, 7, 5])
    for xp in (np, jnp):
        np.testing.assert_array_equal(distribution.ascending(xp.asarray(values), xp.asarray(ids)), [4, 3, 2, 0, 5, 1])


@pytest.mark.parametrize("xp", [np, jnp])
def test_a_counted_nan_is_never_swallowed_and_an_uncounted_one_never_counts(xp):
    values, where = xp.asarray([1.0, 2.0, np.nan, 4.0]), np.array([True, True, False, True])
    assert np.isfinite(distribution.relative_iqr(values, xp.asarray(where)))
    for reading in (distribution.relative_iqr, distribution.coefficient_of_variation, distribution.auc_mean,
                    lambda m, w: distribution.auc_ramp(m, 1.0, w), lambda m, w: distribution.auc_tail(m, 1.0, w)):
        assert np.isnan(reading(values, xp.asarray([True, False, True, True])))


@pytest.mark.parametrize("gamma", [np.nan, -0.1, np.float32("nan"), np.ones(2)])
def test_a_gamma_that_means_nothing_is_refused_or_gives_nan_where_it_is_traced(gamma):
    values = jnp.array([1.0, 2.0])
    for reading in (distribution.auc_ramp, distribution.auc_tail, distribution.small_margin_count,
                    distribution.ramp_loss):
        with pytest.raises(InputError, match="gamma"):
            reading(values, gamma)
    if np.ndim(gamma) == 0:
        assert np.isnan(jax.jit(distribution.auc_ramp)(values, gamma))


@pytest.mark.parametrize("values,where", [([1.0], None), (np.arange(3), None), (np.float32(1), None),
                                          (np.zeros(0), None), (np.ones(3), np.ones(3, int)),
                                          (np.ones(3), np.ones(2, bool)), (np.ones(3), np.zeros(3, bool))])
def test_margins_are_an_array_of_floats_and_the_rows_to_count_a_boolean_mask(values, where):
    # Whole numbers would round gamma down to 0, and the complement of a mask of 0 and 1 is no mask.
    with pytest.raises(InputError, match="expected"):
        distribution.auc_ramp(values, 0.5, where)


def test_readings_of_half_precision_are_taken_in_float32():
    values = np.full(4000, 30.0, np.float16)  # their sum is beyond float16
    for array in (values, jnp.asarray(values), jnp.asarray(values, jnp.bfloat16)):
        assert distribution.auc_mean(array).dtype == np.float32
        np.testing.assert_allclose(distribution.auc_mean(array), 30, rtol=1e-6)


@pytest.mark.parametrize("rho", [0.0, np.inf, np.nan, np.float32(0), 1e60])
@pytest.mark.parametrize("xp", [np, jnp])
def test_a_rho_beyond_its_type_never_passes_as_margins_of_zero(xp, rho):
    assert np.isnan(distribution.normalised_margins(xp.asarray([1.0, -1.0, 0.0], np.float32), rho)).all()


def test_margins_are_divided_by_one_of_rho_and_its_logarithm():
    values = np.array([8.0, -4.0, 0.0])
    np.testing.assert_allclose(distribution.normalised_margins(values, log_rho=np.log(4)), [2, -1, 0], rtol=1e-15)
    for wrong in ({}, {"rho": 1.0, "log_rho": 0.0}):
        with pytest.raises(InputError, match="either rho or log_rho"):
            distribution.normalised_margins(values, **wrong)
