"""What runs where, by backend and shape, and what a process settles before JAX starts. Figures: docs/performance.md."""

import contextlib
import errno
import os
import pathlib
import traceback
from typing import NamedTuple

import jax
from absl import logging

from margin_jax import signals
from margin_jax.errors import InputError
from margin_jax.machine import free_host_memory, user_cache

CPU = "cpu"


def evaluation_piece(backend: str) -> int:
    """Rows at once in the pass over all data: on CPU what fits a core's cache, 500 rows take half as long again."""
    return 50 if backend == CPU else 1000


def training_piece(backend: str) -> int:
    """Most rows at once where a step may be cut into pieces: on CPU 250 rows in four pieces take 0.7 of their time."""
    return 64 if backend == CPU else 4096


def one_thread(batch_size: int) -> bool:
    """Whether one network trains faster on CPU without threads: a step of few rows is operations of microseconds."""
    return 0 < batch_size < 10


def training_devices(batch_size: int, backend: str, available: int) -> int:
    """Devices among which the rows of a step are shared out.

    On CPU a device is one thread, with at least ten rows: adding up gradients costs a tenth of a millisecond a step,
    the work of one example or two, and with five rows a step took twice as long as on one device in some processes.
    On accelerators one, unless the config says otherwise.

    Args:
      batch_size: rows per step, 0 for all.
      backend: `jax.default_backend()`.
      available: devices of this process.
    """
    if backend != CPU:
        return 1
    return max(1, min(available, batch_size // 10)) if batch_size else available


def ensemble_mapping(backend: str) -> str:
    """How networks of one device are mapped: one after another on CPU, where several do not fit a core's cache."""
    return "loop" if backend == CPU else "vmap"


def networks_at_once(free: int, state: int, work: int, mapping: str) -> int:
    """How many networks fit one device, at least one.

    Args:
      free: bytes of the device's memory that may be used.
      state: bytes that one network keeps.
      work: bytes that one network needs while it is trained or measured, an upper bound.
      mapping: of `ensemble.MAPPINGS`: "vmap" works on all networks at a time, "loop" on one.
    """
    fits = free // (state + work) if mapping == "vmap" else (free - work) // state
    return max(1, int(fits))


def trials_at_once(mapping: str) -> int:
    """Most trials of an experiment at once on one device: more are no faster, and an interruption loses them all."""
    return 16 if mapping == "loop" else 256


MOST_CPU_DEVICES = 8
AUTO = "auto"
PLATFORMS_VARIABLE = "JAX_PLATFORMS"
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
    """Where compiled programs are kept: JAX_COMPILATION_CACHE_DIR, else `margin_jax/xla` in the user's cache folder.

    Raises InputError where the user has no such folder.
    """
    named = os.environ.get(CACHE_VARIABLE)
    return pathlib.Path(named) if named else user_cache() / "xla"


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
    if devices > max(16, cores()):  # more than any host has accelerators
        logging.warning("devices=%d on a machine of %d cores: steps get slower, not faster", devices, cores())
    _use_cpu_devices(count)
    if CACHE_VARIABLE not in os.environ:
        _keep_programs()


def _keep_programs() -> None:
    """Keeps compiled programs; a folder that cannot be written costs a line, and each start its compilation."""
    try:
        folder = cache_dir()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    except (OSError, InputError) as error:  # InputError: a user with neither HOME nor an entry in the list of users
        logging.warning("compiled programs are not kept (%s); %s=DIR names a folder for them", error, CACHE_VARIABLE)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Small ones too: a run has about a hundred, together a quarter of what a second start costs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


_trap = contextlib.ExitStack()


def trap_nans() -> None:
    """Lets JAX stop this thread at the operation that first gives NaN, at the cost of a look at every result.

    What gives NaN where a number is not defined is called inside `jax.debug_nans(False)`.
    """
    # As the thread's own setting: under the global one JAX 0.10 no longer looks at compiled functions once anything,
    # such as jnp.var, has suspended it for a while.
    _trap.enter_context(jax.debug_nans(True))


def platform_problem(error: Exception) -> str:
    """What a line says where JAX has not found what JAX_PLATFORMS asks for; "" for any other error."""
    wanted = os.environ.get(PLATFORMS_VARIABLE, "")
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    unnamed = isinstance(error, AssertionError) and "xla_bridge" in raised_in
    if not wanted or not (unnamed or "Unable to initialize backend" in str(error)):
        return ""
    return (f"{PLATFORMS_VARIABLE}={wanted}: JAX has no such device here. Unset the variable for what there is; a GPU "
            "needs a driver and pip install 'jax[cuda12]'")


class Share(NamedTuple):
    """Which part of a job's work a process does: every `count`-th piece, from `index` on.

    `waits` says whether it must stay until the others are done: JAX's distributed runtime lives in process 0, and ends
    every process that is still at work when it goes.
    """

    index: int = 0
    count: int = 1
    waits: bool = False


def share_of_processes(coordinator: str, count: int, index: int) -> Share:
    """Joins the processes of a job; call it after `prepare` and before the first array is made.

    Args:
      coordinator: HOST:PORT of process 0 for JAX's distributed runtime; AUTO where SLURM, Open MPI or a TPU pod tells;
        "" for processes that need not know one another.
      count: of processes; 0 for one, or where AUTO tells.
      index: of this process, -1 where AUTO tells.

    Raises:
      InputError: numbers that do not go together, or no other process answers.
    """
    if coordinator == AUTO:
        count, index = count or None, None if index < 0 else index
    elif not coordinator and not count:
        return Share()
    elif not 0 <= index < count:
        raise InputError(f"expected --process_count=P and --process_id in 0..P-1, got {count} and {index}")
    if not coordinator:
        return Share(index, count)
    _, _, port = coordinator.rpartition(":")
    if coordinator != AUTO and not (coordinator.count(":") and port.isdecimal() and 0 < int(port) < 65536):
        raise InputError(f"expected --coordinator=HOST:PORT with a port in 1..65535, such as node01:12345, got "
                         f"{coordinator!r}")
    # A process that dies must not end the others, and may be started again: each trains its own networks.
    jax.config.update("jax_enable_recoverability", True)
    try:
        jax.distributed.initialize(None if coordinator == AUTO else coordinator, count, index)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"--coordinator={coordinator}: {error}") from error
    signals.reinstall()  # JAX's preemption service has taken SIGTERM
    return Share(jax.process_index(), jax.process_count(), waits=jax.process_index() == 0)


def free_memory() -> int:
    """Bytes free on each device of this process: what its allocator still has, on CPUs an equal share of the host's."""
    devices = jax.local_devices()
    stats = [device.memory_stats() for device in devices]
    if all(stats):
        return min(memory["bytes_limit"] - memory["bytes_in_use"] for memory in stats)
    return free_host_memory() // len(devices)
