"""Runs cases in processes of their own, since what JAX is told before it starts holds for a whole process."""

import importlib.metadata
import importlib.util
import json
import pathlib
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from margin_jax import runtime
from margin_jax.bench.cases import Case, Effort, all_cases
from margin_jax.bench.report import make_row
from margin_jax.errors import InputError


def need_torch() -> None:
    """Raises InputError where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise InputError("PyTorch is not installed; pip install -e '.[bench]', on a CPU after PyTorch's CPU build")


def chosen(patterns: list[str], quick: bool) -> list[Case]:
    """The cases whose names contain one of the patterns, all for none; InputError if there is nothing to measure."""
    cases = [case for case in all_cases() if (case.quick or not quick)
             and (not patterns or any(pattern in case.name for pattern in patterns))]
    if not cases and not wants_start(patterns, quick):
        names = "\n  ".join(case.name for case in all_cases())
        raise InputError(f"--only: no case contains any of {patterns}; there are (without --quick)\n  start\n  {names}")
    return cases


def wants_start(patterns: list[str], quick: bool) -> bool:
    """Whether starts of whole processes are to be measured."""
    names = "start: cold, warm, to the first epoch"
    return not quick and (not patterns or any(pattern in names for pattern in patterns))


def measure_here(case: Case, effort: Effort) -> dict[str, Any]:
    """One case in this process, which has not used JAX yet; returns its row."""
    runtime.prepare(case.batch_size)
    result = case.measure(effort)
    return make_row(case.name, result.pairing, case.wanted, result.against)


def measure_all(root: pathlib.Path, cases: list[Case], effort: Effort) -> Iterator[dict[str, Any]]:
    """One case after another, each in a fresh process; a case that fails stops the benchmark with its error."""
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            path = pathlib.Path(folder) / "row.json"
            subprocess.run([sys.executable, str(root / "launch" / "benchmark.py"), f"--inner={case.name}",
                            f"--inner_file={path}", f"--pairs={effort.pairs}",
                            f"--compiled={str(effort.compiled).lower()}"], check=True)
            yield json.loads(path.read_text(encoding="utf-8"))


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    import jax  # noqa: PLC0415  the parent process touches JAX only here, to name the device

    from margin_jax.bench import pytorch  # noqa: PLC0415
    return {"device": jax.devices()[0].device_kind, "processor": _processor(), "cores": str(runtime.cores()),
            "python": platform.python_version(), "jax": importlib.metadata.version("jax"), **pytorch.versions()}


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
