"""What a process settles before JAX starts: devices on a CPU, and where compiled programs are kept."""

import os
import pathlib

import jax
from absl import logging

from margin_jax.tuning import one_thread, training_devices

MOST_CPU_DEVICES = 8
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def cores() -> int:
    """Processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # the cores that this process may use, where the system tells
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _use_cpu_devices(count: int) -> None:
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # JAX has started already, as in a notebook: what it has is used
        logging.info("JAX has started before margin_jax: it keeps its number of CPU devices")


def cache_dir() -> pathlib.Path:
    """Where compiled programs are kept: JAX_COMPILATION_CACHE_DIR, else `margin_jax/xla` in the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(named) if named else pathlib.Path(base) / "margin_jax" / "xla"


def prepare(batch_size: int, devices: int = 0) -> None:
    """Call once, before the first array is made; without it everything works, slower on a CPU.

    A CPU becomes as many devices as there are cores, at most MOST_CPU_DEVICES, among which the rows of a step or many
    networks are shared out; XLA's threads within an operation help less (docs/performance.md). Steps of few rows take
    one device and, below ten rows, one thread (XLA's variable NPROC).

    Args:
      batch_size: rows per step, 0 for all.
      devices: of the config; 0 decides as above.
    """
    count = devices or min(cores(), MOST_CPU_DEVICES)
    if not devices and training_devices(batch_size, "cpu", count) == 1:
        count = 1
        if one_thread(batch_size):
            os.environ.setdefault("NPROC", "1")
    _use_cpu_devices(count)
    if CACHE_VARIABLE not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_dir()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
