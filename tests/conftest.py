"""Strict everywhere: four virtual CPU devices, warnings are errors, rank promotion raises."""

import os

# Most of the tests' time is compilation: the same programs, with less work on their machine code.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
