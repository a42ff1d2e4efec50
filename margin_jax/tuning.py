"""What runs where: the one place that chooses a formulation, by backend and shape. Figures: docs/performance.md."""

CPU = "cpu"
CONVOLUTIONS = ("auto", "patches", "tiled", "lax")


def choose_convolution(name: str, backend: str, mapped: bool) -> str:
    """The formulation of a convolution.

    "auto" is `tiled` on CPU, where XLA's own convolution is 17 times slower in a loop; `patches` elsewhere for mapped
    networks, whose `lax` would be a grouped convolution; `lax` for one network on an accelerator (not measured yet).

    Args:
      name: one of CONVOLUTIONS.
      backend: `jax.default_backend()`.
      mapped: whether the network runs under vmap over parameters.

    Returns:
      A name of `models.convolution.FORMULATIONS`.

    Raises:
      ValueError: unknown name.
    """
    if name not in CONVOLUTIONS:
        raise ValueError(f"expected a convolution of {CONVOLUTIONS}, got {name!r}")
    if name != "auto":
        return name
    if backend == CPU:
        return "tiled"
    return "patches" if mapped else "lax"


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
