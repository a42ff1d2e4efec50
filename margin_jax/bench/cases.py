"""What the benchmark compares: each case knows how to set up both sides and what ratio is wanted."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from margin_jax.bench import ours
from margin_jax.bench.timing import Pairing, Work, compare, fastest

# Examples in an epoch, by batch size; 0 is full gradient descent.
ROWS = {1: 200, 10: 1000, 20: 2000, 50: 5000, 250: 5000, 0: 5000}
WANTED = {1: 0.2, 10: 0.7, 50: 0.7, 250: 0.7, 0: 0.7}
WANTED_NETWORKS = {1: 0.1, 50: 0.5}
ALL = 50_000


class Effort(NamedTuple):
    """How long to measure: pairs of every comparison, and whether PyTorch is compiled as well."""

    pairs: int
    compiled: bool


class Result(NamedTuple):
    """A pairing and what `theirs` was."""

    pairing: Pairing
    against: str


class Case(NamedTuple):
    """One row of the table.

    Attributes:
      name: unique; "group: what".
      wanted: the ratio aimed at, None where none is.
      batch_size: for `runtime.prepare` of the process that measures it.
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
    from margin_jax.bench import pytorch  # noqa: PLC0415  the only import of torch; not every case needs it
    variants = pytorch.epochs(*ours.pictures(ROWS[batch]), batch, batch_norm, effort.compiled)
    return _against_torch(ours.epoch(ROWS[batch], batch, batch_norm), variants, effort)


def _networks(networks: int, batch: int, effort: Effort) -> Result:
    from margin_jax.bench import pytorch  # noqa: PLC0415
    count = ROWS[batch] // 5
    variants = pytorch.epochs(*ours.pictures(count), batch, False, effort.compiled)
    result = _against_torch(ours.networks_together(networks, count, batch), variants, effort)
    return result._replace(pairing=_each(result.pairing, networks))


def _networks_in_turn(networks: int, batch: int, effort: Effort) -> Result:
    count = ROWS[batch] // 5
    pairing = compare(ours.networks_together(networks, count, batch), ours.epoch(count, batch, False), effort.pairs)
    return Result(_each(pairing, networks), "ours, one network")


def _forward(batch_norm: bool, effort: Effort) -> Result:
    from margin_jax.bench import pytorch  # noqa: PLC0415
    variants = pytorch.forwards(*ours.pictures(10_000), batch_norm, effort.compiled)
    return _against_torch(ours.forward_pass(10_000, batch_norm), variants, effort)


def _margin_pass(batch_norm: bool, effort: Effort) -> Result:
    return Result(compare(ours.margin_pass(10_000, batch_norm), ours.forward_pass(10_000, batch_norm), effort.pairs),
                  "ours, forward only")


def _kept(kept: int, effort: Effort) -> Result:
    return Result(compare(ours.epoch(ALL, 50, False, kept), ours.epoch(ALL, 50, False), max(3, effort.pairs // 4)),
                  f"ours, {ALL} kept")


def _devices(batch: int, batch_norm: bool, effort: Effort) -> Result:
    two, one = (ours.epoch(ROWS[batch], batch, batch_norm, devices=devices) for devices in (2, 1))
    return Result(compare(two, one, effort.pairs), "ours, one device")


def all_cases() -> list[Case]:
    """Every comparison that one process can make; those of whole processes are in `startup`."""
    bind = functools.partial
    cases = [Case(f"train: {_title(batch, norm)}", WANTED[batch], batch, bind(_train, batch, norm),
                  not norm and batch in (1, 50)) for norm in (False, True) for batch in WANTED]
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
