"""The public face: every name is there and documented, and importing it loads no JAX."""

import inspect
import subprocess
import sys

import pytest

import margin_jax as mj


@pytest.mark.parametrize("name", mj.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(mj, name)
    assert inspect.getdoc(value)
    if inspect.isfunction(value):
        assert value.__module__.startswith("margin_jax.")


def test_other_names_are_refused_and_listed_ones_are_shown():
    with pytest.raises(AttributeError, match="no attribute 'nothing'.*__all__"):
        mj.nothing  # noqa: B018
    assert set(mj.__all__) <= set(dir(mj))


@pytest.mark.parametrize("code", ["import margin_jax", "import margin_jax as mj; mj.read_run",
                                  "import margin_jax as mj; mj.spearman, mj.relative_iqr",
                                  "import plots.runs.draw, plots.sweeps.draw",
                                  "import plots.compress.draw, plots.stability.draw"])
def test_reading_and_drawing_load_no_jax(code):
    check = f"{code}\nimport sys\nassert not {{'jax', 'flax', 'optax', 'orbax'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_submodules_are_not_hidden_by_names():
    """A public name that is also a room or a file at the top would be one or the other by the order of imports."""
    assert not {"theory", "statistics", "models", "data", "training", "run_folder", "experiments", "bench", "errors",
                "config", "backend", "parallel", "cli"} & set(mj.__all__)
