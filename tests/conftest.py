"""Strict everywhere: four virtual CPU devices, warnings are errors, rank promotion raises.

Most of the tests' time is compilation, so programs are compiled with less work on their machine code, and kept for the
length of the session in a folder that all worker processes share. Without XLA's fusion emitters for CPU a program of an
epoch compiles in a quarter of the time; tests/training/test_epoch_reference.py also trains with XLA as users have it.
"""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
                      "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="margin_jax_tests_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax

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
