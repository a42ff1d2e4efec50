"""The benchmark: what it compares, how the cases are run, and the table that they leave.

A `Case` knows how to set up both sides, ours and theirs, and what ratio of their times is wanted. `measure_all` runs
each in a process of its own, since what JAX is told before it starts holds for a whole process. A row of the result is
a dictionary; `save` writes all rows as benchmark.json and the same as a Markdown table.
"""

import functools
import importlib.metadata
import importlib.util
import json
import pathlib
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from margin_jax import backend
from margin_jax.bench import ours
from margin_jax.bench.timing import Pairing, Work, compare, fastest
from margin_jax.errors import InputError
from margin_jax.models.convnet import CANDIDATE

# By batch size, 0 for full gradient descent: examples in an epoch, and the ratio wanted, alone and of many networks.
ROWS = {1: 200, 10: 1000, 20: 2000, 50: 5000, 250: 5000, 0: 5000}
WANTED = {1: 0.2, 10: 0.7, 50: 0.7, 250: 0.7, 0: 0.7}
WANTED_NETWORKS = {1: 0.1, 50: 0.5}
ALL = 50_000  # examples of CIFAR-10


class Effort(NamedTuple):
    """How long to measure: pairs of every comparison, and whether PyTorch is compiled as well."""

    pairs: int
    compiled: bool


class Result(NamedTuple):
    """A pairing, and in words what `theirs` was: the fastest variant of PyTorch, or another way of ours."""

    pairing: Pairing
    against: str


class Case(NamedTuple):
    """One row of the table.

    Attributes:
      name: unique; "group: what".
      wanted: the ratio aimed at, None where none is.
      batch_size: for `backend.prepare` of the process that measures it.
      measure: Effort -> Result.
      quick: whether --quick includes it.
    """

    name: str
    wanted: float | None
    batch_size: int
    measure: Callable[[Effort], Result]
    quick: bool = False


def _title(batch: int, batch_norm: bool = False) -> str:
    return (f"batch {batch}" if batch else "full gradient descent") + (", BatchNorm" if batch_norm else "")


def _each(pairing: Pairing, networks: int) -> Pairing:
    """For one of many networks that ours trains together; theirs is one network already."""
    return pairing._replace(ours=pairing.ours / networks, ratio=pairing.ratio / networks, low=pairing.low / networks,
                            high=pairing.high / networks)


def _against_torch(work: Work, variants: dict[str, Work], effort: Effort) -> Result:
    name, theirs = fastest(variants, 3)
    return Result(compare(work, theirs, effort.pairs), f"PyTorch {name}")


def _train(batch: int, batch_norm: bool, effort: Effort) -> Result:
    from margin_jax.bench import pytorch
    variants = pytorch.epochs(*ours.pictures(ROWS[batch]), batch, batch_norm, effort.compiled)
    return _against_torch(ours.epoch(ROWS[batch], batch, batch_norm), variants, effort)


def _candidate(batch: int, batch_norm: bool, effort: Effort) -> Result:
    from margin_jax.bench import pytorch
    count = ROWS[batch] // 5  # 40 times the arithmetic of the described network
    variants = pytorch.epochs(*ours.pictures(count), batch, batch_norm, effort.compiled, CANDIDATE)
    return _against_torch(ours.epoch(count, batch, batch_norm, section=CANDIDATE), variants, effort)


def _networks(networks: int, batch: int, effort: Effort) -> Result:
    from margin_jax.bench import pytorch
    count = ROWS[batch] // 5
    variants = pytorch.epochs(*ours.pictures(count), batch, False, effort.compiled)
    result = _against_torch(ours.networks_together(networks, count, batch), variants, effort)
    return result._replace(pairing=_each(result.pairing, networks))


def _networks_in_turn(networks: int, batch: int, effort: Effort) -> Result:
    count = ROWS[batch] // 5
    pairing = compare(ours.networks_together(networks, count, batch), ours.epoch(count, batch, False), effort.pairs)
    return Result(_each(pairing, networks), "ours, one network")


def _forward(batch_norm: bool, effort: Effort) -> Result:
    from margin_jax.bench import pytorch
    variants = pytorch.forwards(*ours.pictures(10_000), batch_norm, effort.compiled)
    return _against_torch(ours.forward_pass(10_000, batch_norm), variants, effort)


def _margin_pass(batch_norm: bool, effort: Effort) -> Result:
    return Result(compare(ours.margin_pass(10_000, batch_norm), ours.forward_pass(10_000, batch_norm), effort.pairs),
                  "ours, forward only")


def _kept(kept: int, effort: Effort) -> Result:
    return Result(compare(ours.epoch(ALL, 50, False, kept), ours.epoch(ALL, 50, False), max(3, effort.pairs // 4)),
                  f"ours, {ALL} kept")


def _devices(batch: int, batch_norm: bool, effort: Effort) -> Result:
    on_two, on_one = (ours.epoch(ROWS[batch], batch, batch_norm, devices=devices) for devices in (2, 1))
    return Result(compare(on_two, on_one, effort.pairs), "ours, one device")


def all_cases() -> list[Case]:
    """Every comparison that one process can make; starts of whole processes are `timing.compare_starts`."""
    bind = functools.partial
    cases = [Case(f"train: {_title(batch, norm)}", WANTED[batch], batch, bind(_train, batch, norm),
                  not norm and batch in (1, 50)) for norm in (False, True) for batch in WANTED]
    cases += [Case(f"candidate: {_title(batch, norm)}", 0.8, batch, bind(_candidate, batch, norm))
              for norm in (False, True) for batch in (10, 50, 250)]
    for norm in (False, True):
        tail = ", BatchNorm" if norm else ""
        cases.append(Case(f"pass: forward{tail}", 0.8, 50, bind(_forward, norm), not norm))
        cases.append(Case(f"pass: margins{tail}", 1.05, 50, bind(_margin_pass, norm), not norm))
    cases += [Case(f"kept: {kept} of {ALL}", 0.01 if kept == 200 else None, 50, bind(_kept, kept))
              for kept in (10_000, 1_000, 200, 20)]
    for batch, wanted in WANTED_NETWORKS.items():
        for networks in (1, 8, 32, 100):
            cases.append(Case(f"networks: {networks}, {_title(batch)}, each", wanted if networks > 1 else None, 50,
                              bind(_networks, networks, batch), networks == 8 and batch == 50))
            cases.append(Case(f"networks: {networks}, {_title(batch)}, each, in turn", None, 50,
                              bind(_networks_in_turn, networks, batch)))
    cases += [Case(f"devices: two, {_title(batch, norm)}", None, 50, bind(_devices, batch, norm))
              for norm in (False, True) for batch in (20, 50, 250)]
    return cases


def make_row(name: str, pairing: Pairing, wanted: float | None, against: str) -> dict[str, Any]:
    """A row as it is saved.

    Args:
      name: of the case.
      pairing: its times and ratios.
      wanted: the ratio aimed at, None where none is.
      against: what `theirs` was, in words.

    Returns:
      name, ours_seconds and theirs_seconds of one call (of one network's part, for many), ratio with its quartiles low
      and high, wanted, and theirs, the words.
    """
    return {"name": name, "ours_seconds": pairing.ours, "theirs_seconds": pairing.theirs, "ratio": pairing.ratio,
            "low": pairing.low, "high": pairing.high, "wanted": wanted, "theirs": against}


def markdown(rows: list[dict[str, Any]], machine: dict[str, str]) -> str:
    """The table in Markdown, with a mark in the rows whose ratio is above the one wanted.

    Args:
      rows: of `make_row`.
      machine: of `describe_machine`, the line below the table.

    Returns:
      Lines, the last one ended; times are in milliseconds.
    """
    lines = ["| work | ours, ms | theirs, ms | ratio (quartiles) | wanted | theirs is |", "|---|---|---|---|---|---|"]
    for row in rows:
        wanted = "" if row["wanted"] is None else f"≤ {row['wanted']:g}"
        if row["wanted"] is not None and row["ratio"] > row["wanted"]:
            wanted += " **missed**"
        lines.append(f"| {row['name']} | {1e3 * row['ours_seconds']:.4g} | {1e3 * row['theirs_seconds']:.4g} | "
                     f"{row['ratio']:.3g} ({row['low']:.3g}–{row['high']:.3g}) | {wanted} | {row['theirs']} |")
    return "\n".join([*lines, "", "; ".join(f"{key} {value}" for key, value in machine.items()), ""])


def save(folder: pathlib.Path, rows: list[dict[str, Any]], machine: dict[str, str]) -> None:
    """Writes benchmark.json and benchmark.md; call after every row, so that nothing measured is lost.

    Args:
      folder: made if need be; both files are replaced.
      rows: of `make_row`, all so far.
      machine: of `describe_machine`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "rows": rows}
    (folder / "benchmark.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / "benchmark.md").write_text(markdown(rows, machine), encoding="utf-8")


def need_torch() -> None:
    """Raises InputError where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise InputError("PyTorch is not installed; pip install -e '.[bench]', on a CPU after PyTorch's CPU build")


def chosen(patterns: list[str], quick: bool) -> list[Case]:
    """The cases to measure.

    Args:
      patterns: parts of names, of which a case must contain one; empty for all.
      quick: only the cases of --quick.

    Returns:
      The cases in the order of `all_cases`; empty if the patterns name starts of whole processes alone.

    Raises:
      InputError: there is nothing to measure; the message lists all names.
    """
    cases = [case for case in all_cases() if (case.quick or not quick)
             and (not patterns or any(pattern in case.name for pattern in patterns))]
    if not cases and not wants_start(patterns, quick):
        names = "\n  ".join(case.name for case in all_cases())
        raise InputError(f"--only: no case contains any of {patterns}; there are (without --quick)\n  start\n  {names}")
    return cases


def wants_start(patterns: list[str], quick: bool) -> bool:
    """Whether starts of whole processes are to be measured; arguments as of `chosen`."""
    names = "start: cold, warm, to the first epoch"
    return not quick and (not patterns or any(pattern in names for pattern in patterns))


def measure_here(case: Case, effort: Effort) -> dict[str, Any]:
    """Measures one case in this process, which must not have used JAX yet; returns its row, of `make_row`."""
    backend.prepare(case.batch_size)
    result = case.measure(effort)
    return make_row(case.name, result.pairing, case.wanted, result.against)


def measure_all(root: pathlib.Path, cases: list[Case], effort: Effort) -> Iterator[dict[str, Any]]:
    """Measures one case after another, each in a fresh process.

    Args:
      root: the project's folder, which holds launch/benchmark.py.
      cases: what to measure.
      effort: how long.

    Yields:
      The row of each case, of `make_row`, as soon as it is measured.

    Raises:
      subprocess.CalledProcessError: a case failed; its process has printed why.
    """
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            path = pathlib.Path(folder) / "row.json"
            subprocess.run([sys.executable, str(root / "launch" / "benchmark.py"), f"--inner={case.name}",
                            f"--inner_file={path}", f"--pairs={effort.pairs}",
                            f"--compiled={str(effort.compiled).lower()}"], check=True)
            yield json.loads(path.read_text(encoding="utf-8"))


def describe_machine() -> dict[str, str]:
    """What the times were measured on: device, processor, cores, and versions of Python, JAX and PyTorch."""
    import jax

    from margin_jax.bench import pytorch
    return {"device": jax.devices()[0].device_kind, "processor": _processor(), "cores": str(backend.cores()),
            "python": platform.python_version(), "jax": importlib.metadata.version("jax"), **pytorch.versions()}


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
