"""Strict everywhere: four virtual CPU devices, warnings are errors, rank promotion raises.

Most of the tests' time is compilation, so programs are compiled with less work on their machine code, and kept for the
length of the session in a folder that all worker processes share. Without XLA's fusion emitters for CPU a program of an
epoch compiles in a quarter of the time; tests/training/test_epoch_reference.py also trains with XLA as users have it.
XLA ends a process that names a flag which its version does not know, so that a process of its own is asked first.
"""

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile

FLAGS = ("--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true",
         "--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1")


def known(flags):
    """Those that the installed XLA knows."""
    code = "import jax; jax.config.update('jax_platforms', 'cpu'); jax.devices()"
    asked = subprocess.run([sys.executable, "-c", code], env=os.environ | {"XLA_FLAGS": " ".join(flags)}, text=True,
                           capture_output=True, check=False)
    unknown = re.search(r"Unknown flags? in XLA_FLAGS: (.*)", asked.stderr)
    return [flag for flag in flags if unknown is None or flag not in unknown[1].split()]


if "XLA_FLAGS" not in os.environ:  # worker processes inherit them
    os.environ["XLA_FLAGS"] = " ".join(known(FLAGS))
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="margin_jax_tests_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax  # noqa: E402

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

import pytest  # noqa: E402
from helpers.runs import write_npz  # noqa: E402


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory):
    """A small data set of a file of tests, as an .npz."""
    path = tmp_path_factory.mktemp("data") / "own.npz"
    write_npz(path)
    return path
