"""The trap for NaN that --debug sets: deliberate NaN passes, a real one stops at its operation, numbers stay equal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.interruptions import SEPARATED, results
from helpers.runs import run_config

from margin_jax import backend
from margin_jax.experiments.compress import compress
from margin_jax.experiments.sweep import sweep
from margin_jax.experiments.train import train


@pytest.fixture(name="trapped")
def _trapped():
    backend.trap_nans()
    yield
    backend._trap.close()


GRID = {"compress__mode": "grid", "compress__keep": 6, "compress__grid_learning_rates": (0.02,),
        "compress__grid_batch_sizes": (7,), "compress__grid_scope": "whole_run"}


@pytest.mark.parametrize("job,changes", [
    # One class is left, whose collapse is not defined.
    (train, {"compress__keep": 1, "compress__rule": "aum", "record__collapse_every": 8}),
    (compress, {"compress__mode": "continuous", "compress__schedule": ((20, 10), (4, 4)), "compress__controls": ()}),
    (compress, GRID | {"compress__controls": ("frozen", "full", "scratch")}),
    (sweep, {"sweep__networks": 2, "sweep__init_stds": ()}),  # one rests while the other goes on
], ids=["train", "continuous", "grid", "sweep"])
def test_a_removal_and_networks_at_rest_are_no_fault(data, tmp_path, job, changes):
    config = run_config(data, **(SEPARATED | {"compress__epochs": 2} | changes))
    job(config, tmp_path / "plain")
    backend.trap_nans()
    try:
        job(config, tmp_path / "trapped")
    finally:
        backend._trap.close()
    assert len(results(tmp_path / "plain")) > 1 and results(tmp_path / "trapped") == results(tmp_path / "plain")


@pytest.mark.usefixtures("trapped")
def test_a_real_nan_after_a_removal_stops_in_the_epoch(data, tmp_path):
    config = run_config(data, **(SEPARATED | {"compress__keep": 6, "compress__learning_rate": 1e30,
                                              "compress__controls": ()}))
    with pytest.raises(FloatingPointError, match="nan") as caught:
        compress(config, tmp_path / "run")
    assert any(entry.path.name == "epoch.py" for entry in caught.traceback)


@pytest.mark.usefixtures("trapped")
def test_what_suspends_the_trap_for_a_while_does_not_end_it():
    """jnp.var does, and so do the functions whose NaN says that a number is not defined."""
    logarithm = jax.jit(jnp.log)
    jnp.var(jnp.arange(3.0))
    with jax.debug_nans(False):
        assert np.isnan(logarithm(-1.0))
    logarithm(1.0)
    with pytest.raises(FloatingPointError, match="nan"):
        logarithm(-1.0)
