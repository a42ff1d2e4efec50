"""The numbers of a record and of a summary against NumPy in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from margin_jax.config import default_config
from margin_jax.experiments.recording import describe_distribution, host_rho, metrics_row
from margin_jax.theory import norms
from margin_jax.training.evaluate import Evaluation


def section(**changes):
    config = default_config().gamma
    config.update(changes)
    return config


@pytest.mark.parametrize("rho", [1.0, 250.0, 1e60])
def test_distribution_matches_numpy_however_large_rho_is(rho):
    raw = np.random.default_rng(0).normal(2, 1, 500).astype(np.float32)
    m = raw.astype(np.float64) / rho
    found = describe_distribution(raw, rho, section(absolute=(float(m.max()) / 2,), relative=(0.3, 1.0)))
    assert found["examples"] == 500
    np.testing.assert_allclose([found[k] for k in ("smallest", "median", "largest", "auc_mean")],
                               [m.min(), np.median(m), m.max(), m.mean()], rtol=1e-6)
    assert [row["unit"] for row in found["gammas"]] == ["absolute", "median", "median"]
    for row in found["gammas"]:
        gamma = row["gamma"]
        tail = m <= m.min() + gamma
        np.testing.assert_allclose(row["auc_ramp"], np.clip(m / gamma, 0, 1).mean(), rtol=1e-5)
        np.testing.assert_allclose(row["auc_tail"], m[tail].sum() / 500, rtol=1e-4)
        assert row["small_margin_count"] == tail.sum() and row["warning"] is None
    np.testing.assert_allclose([row["gamma"] for row in found["gammas"][1:]], np.array([0.3, 1]) * np.median(m))


def test_gamma_outside_the_curve_is_warned_of():
    raw = np.array([1.0, 2.0, 3.0], np.float32)
    rows = describe_distribution(raw, 100.0, section(absolute=(0.005, 0.02, 0.1), relative=()))["gammas"]
    assert "below the smallest" in rows[0]["warning"] and rows[0]["auc_ramp"] == 1
    assert rows[1]["warning"] is None
    assert "exceeds the largest" in rows[2]["warning"] and rows[2]["small_margin_count"] == 3


def test_relative_gammas_are_left_out_where_the_median_is_not_positive():
    rows = describe_distribution(np.array([-2.0, -1.0, 3.0], np.float32), 1.0, section(absolute=(1.0,)))["gammas"]
    assert [row["unit"] for row in rows] == ["absolute"]


def test_a_row_counts_kept_rows_and_a_tie_as_an_error():
    train = Evaluation(np.array([0.0, 4.0, -1.0, np.nan], np.float32), np.array([1.0, 2.0, 30.0, np.nan], np.float32))
    test = Evaluation(np.array([0.0, 1.0, np.nan, 2.0], np.float32), np.array([1.0, 1.0, 1.0, 5.0], np.float32))
    row = metrics_row(7, train, test, np.array([True, True, False, False]), 2.0, 1.23456)
    assert row == {"epoch": 7, "train_loss": 1.5, "train_error": 50.0, "test_loss": 2.0, "test_error": 50.0,
                   "rho": 2.0, "margin_min": 0.0, "margin_auc": 1.0, "kept": 2, "seconds": 1.235}


def test_rho_of_a_deep_network_does_not_overflow():
    params = {f"layer_{i}": jnp.full((2, 2), 5.0) for i in range(60)}
    np.testing.assert_allclose(host_rho(params, default_config().rho), 10.0**60, rtol=1e-6)
    assert np.isinf(norms.rho(params))


@pytest.mark.parametrize("mode,kind,p", [("all", "frobenius", 2.0), ("conv", "spectral", 2.0), ("all", "p", 3.0)])
def test_rho_as_it_is_recorded_is_the_public_one(mode, kind, p):
    rng = np.random.default_rng(0)
    params = {"conv": jnp.asarray(rng.normal(size=(3, 3, 2, 4)), jnp.float32),
              "dense": jnp.asarray(rng.normal(size=(4, 2)), jnp.float32)}
    section = default_config().rho
    section.mode, section.norm, section.p = mode, kind, p
    np.testing.assert_allclose(host_rho(params, section), norms.rho(params, mode, kind, p), rtol=1e-6)
