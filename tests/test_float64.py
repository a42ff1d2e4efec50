"""Under JAX_ENABLE_X64=1 the pure functions keep float64, and jobs still run, in float32."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

FUNCTIONS = """
import jax, jax.numpy as jnp, numpy as np
import margin_jax as mj

rng = np.random.default_rng(0)
logits, labels = 5 * rng.normal(size=(40, 7)), rng.integers(0, 7, 40)
others = np.where(np.eye(7, dtype=bool)[labels], -np.inf, logits).max(1)
eta = logits[np.arange(40), labels] - others
p = np.exp(logits - logits.max(1, keepdims=True))
p /= p.sum(1, keepdims=True)
params = {"conv": {"kernel": rng.normal(size=(3, 3, 2, 4))}, "dense": {"kernel": rng.normal(size=(4, 5))}}
norms = [np.sqrt((leaf["kernel"] ** 2).sum()) for leaf in params.values()]
flat = params["dense"]["kernel"]
on_device = jax.tree.map(jnp.asarray, params)
where = rng.random(40) < 0.7
normalised = eta / np.prod(norms)

def same(values, expected):
    assert values.dtype == np.float64, values.dtype
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-12)

same(mj.margins(jnp.asarray(logits), labels), eta)
same(mj.network_margins(lambda p, x: x @ p, jnp.eye(7), jnp.asarray(logits), labels, 9), eta)
same(mj.el2n(jnp.asarray(logits), labels), np.sqrt(((p - np.eye(7)[labels]) ** 2).sum(1)))
same(mj.network_grand(lambda p, x: x + p[None], jnp.zeros(7), jnp.asarray(logits), labels, 9),
     np.sqrt(((p - np.eye(7)[labels]) ** 2).sum(1)))
same(mj.rho(on_device), np.prod(norms))
same(mj.log_rho(on_device), np.log(norms).sum())
same(mj.layer_norm(jnp.asarray(flat), "spectral"), np.linalg.svd(flat)[1][0])
same(mj.layer_norm(jnp.asarray(flat), "p", 3.0), (np.abs(flat) ** 3).sum() ** (1 / 3))
m = mj.normalised_margins(jnp.asarray(eta), mj.rho(on_device))
same(m, normalised)
same(mj.normalised_margins(jnp.asarray(eta), log_rho=mj.log_rho(on_device)), normalised)
same(mj.auc_ramp(m, 0.1), np.clip(normalised / 0.1, 0, 1).mean())
low, median, high = np.quantile(normalised[where] + 1, [0.25, 0.5, 0.75])
same(mj.relative_iqr(m + 1, jnp.asarray(where)), (high - low) / median)
assert mj.margins(jnp.asarray(logits, jnp.float32), labels).dtype == np.float32  # nothing is widened
"""

JOBS = """
import sys
sys.path.insert(0, "tests")
import numpy as np
import margin_jax as mj

def digits(**changes):
    config = mj.default_config()
    config.update({"data": {"name": "digits"}, "model": {"widths": (4,)}, "batch_size": 500, "epochs": 2, "devices": 1})
    config.stop.rule = "epochs"
    for key, value in changes.items():
        section, _, last = key.partition("__")
        config[section][last] = value
    return config

summary = mj.train(digits(model__batch_norm=True), sys.argv[1] + "/train")
assert summary["epochs"] == 2 and np.isfinite(summary["final"]["test_loss"])
assert mj.read_run(sys.argv[1] + "/train").margins.margins.dtype == np.float32
mj.sweep(digits(sweep__networks=4, sweep__init_stds=(0.1, 0.2), sweep__seeds_per_std=2, sweep__batch_norms=(True,),
             sweep__resamples=5),
         sys.argv[1] + "/sweep")
"""


def run(code, *arguments, flags=os.environ.get("XLA_FLAGS", "")):
    environment = os.environ | {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    environment["XLA_FLAGS"] = flags
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, env=environment, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_pure_functions_keep_float64_and_match_numpy_to_its_last_digits():
    run(FUNCTIONS, flags="")  # with XLA as users have it


@pytest.mark.slow
def test_a_run_with_batch_norm_and_a_sweep_run_in_float32_all_the_same(tmp_path):
    run(JOBS, str(tmp_path))
