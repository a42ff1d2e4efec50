"""The choices by backend and shape, and what a process settles before JAX starts."""

import os
import subprocess
import sys

import pytest

from margin_jax import backend
from margin_jax.models import convolution
from margin_jax.models.convolution import FORMULATIONS


@pytest.mark.parametrize("backend,mapped,expected", [("cpu", False, "tiled"), ("cpu", True, "tiled"),
                                                     ("gpu", False, "lax"), ("gpu", True, "patches")])
def test_auto_chooses_by_backend_and_mapping(backend, mapped, expected):
    assert convolution.choose_convolution("auto", backend, mapped) == expected
    for name in FORMULATIONS:
        assert convolution.choose_convolution(name, backend, mapped) == name
    with pytest.raises(ValueError, match="'auto', 'patches'"):
        convolution.choose_convolution("winograd", backend, mapped)


@pytest.mark.parametrize("batch_size,available,expected", [(1, 2, 1), (19, 2, 1), (20, 2, 2), (50, 2, 2), (50, 16, 5),
                                                           (0, 4, 4), (50, 1, 1)])
def test_rows_are_shared_out_where_each_device_has_ten(batch_size, available, expected):
    assert backend.training_devices(batch_size, "cpu", available) == expected
    assert backend.training_devices(batch_size, "gpu", available) == 1


SCRIPT = """
import os, sys
from margin_jax import backend
backend.cores = lambda: 4
backend.prepare(batch_size=int(sys.argv[1]), devices=int(sys.argv[2]))
import jax
print(len(jax.devices()), os.environ.get("NPROC"), jax.config.jax_compilation_cache_dir)
backend.prepare(batch_size=50)  # too late: nothing breaks
assert len(jax.devices()) == int(sys.argv[3])
"""


@pytest.mark.parametrize("batch_size,asked,devices,threads", [
    (1, 0, 1, "1"), (10, 0, 1, "None"), (1, 2, 2, "None"), (50, 0, 4, "None"), (50, 6, 6, "None")])
def test_prepare_sets_devices_and_the_cache_of_a_new_process(batch_size, asked, devices, threads, tmp_path):
    hidden = ("JAX_COMPILATION_CACHE_DIR", "NPROC", "JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
    env = {k: v for k, v in os.environ.items() if k not in hidden} | {"XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(batch_size), str(asked), str(devices)], env=env,
                          capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(devices), threads, str(tmp_path / "margin_jax" / "xla")]
