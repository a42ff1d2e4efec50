"""What a compression compares: one branch per rule and count, each a run of its own that starts at the removal.

Pure functions of the config.
"""

from typing import Any, NamedTuple

from margin_jax.config import default_config

FROZEN, FULL, BASE = "frozen", "full", "base"
AFTER, SCRATCH, WHOLE_RUN = "after", "scratch", "whole_run"
RULE_CONTROLS = ("random", "largest", "balanced")  # controls that are rules


def rule_name(rule: str, balanced: bool) -> str:
    """A rule as tables write it: "smallest", or "smallest+balanced" class by class."""
    return rule + "+balanced" * balanced


class Branch(NamedTuple):
    """One compression, or its control.

    Attributes:
      rule: of `masks.RULES`, or "full".
      balanced: class by class.
      kept: examples kept in the end; 0 for a continuous schedule.
      scope: "after", from the network at the removal on; "scratch", a fresh network on the same examples.
    """

    rule: str
    balanced: bool
    kept: int
    scope: str

    @property
    def rule_name(self) -> str:
        """The rule as tables write it."""
        return rule_name(self.rule, self.balanced)

    @property
    def name(self) -> str:
        """Of its folder."""
        count = f"_{self.kept}" if self.kept and self.rule != FULL else ""
        return f"{self.rule_name}{count}" + "_scratch" * (self.scope == SCRATCH)


class Start(NamedTuple):
    """A network trained before the removal: what distinguishes it from the others of a compression."""

    seed: int
    init_std: float  # 0: the config's own initial weights
    optimizer: str  # "": the config's own

    @property
    def name(self) -> str:
        """Of its folder."""
        std = f"std_{self.init_std:g}_" if self.init_std else ""
        optimizer = f"{self.optimizer}_" if self.optimizer else ""
        return f"{optimizer}{std}seed_{self.seed}"


def rules(config: Any) -> list[tuple[str, bool]]:
    """The rule and the controls that are rules, each with whether it is balanced, without repeats."""
    section = config.compress
    found = [(section.rule, section.balanced)]
    found += [(rule, False) for rule in RULE_CONTROLS if rule in section.controls]
    return list(dict.fromkeys(found))


def kept_counts_of(config: Any) -> tuple[int, ...]:
    """compress.keeps, or else compress.keep alone; () without either."""
    section = config.compress
    return tuple(section.keeps) or ((section.keep,) if section.keep else ())


def starts(config: Any) -> list[Start]:
    """The networks trained before the removal: seeds, and in mode "continuous" initial stds and optimisers."""
    section = config.compress
    continuous = section.mode == "continuous"
    stds = tuple(section.init_stds) if continuous and section.init_stds else (0.0,)
    optimizers = tuple(section.optimizers) if continuous and section.optimizers else ("",)
    return [Start(seed, std, optimizer) for optimizer in optimizers for std in stds
            for seed in tuple(section.seeds) or (config.seed,)]


def base_config(config: Any, start: Start) -> Any:
    """The config of the run before the removal; equal for all experiments that may share it."""
    base = config.copy_and_resolve_references()
    base.compress, base.stability = default_config().compress, default_config().stability
    base.seed = start.seed
    if start.init_std:
        base.model.init, base.model.init_std = "normal", start.init_std
    if start.optimizer:
        base.optimizer.name = start.optimizer
    return base


def after_branches(config: Any) -> list[Branch]:
    """One branch per rule and count that goes on from the network at the removal; without "full"."""
    if config.compress.mode == "continuous":
        return [Branch(*rule, 0, AFTER) for rule in rules(config)]
    return [Branch(*rule, kept, AFTER) for kept in kept_counts_of(config) for rule in rules(config)]


def scratch_branches(config: Any) -> list[Branch]:
    """A fresh network for each rule's examples, at every count of `kept_counts_of`."""
    if SCRATCH not in config.compress.controls:
        return []
    return [Branch(*rule, kept, SCRATCH) for kept in kept_counts_of(config) for rule in rules(config)]


def branch_config(config: Any, start: Start, branch: Branch, epochs: int) -> Any:
    """The config of a branch's own run.

    Args:
      config: of the compression.
      start: the network that it goes on from.
      branch: "full" keeps the settings from before the removal.
      epochs: compress.epochs of the branch.
    """
    own, section = base_config(config, start), config.compress
    own.compress.update({"rule": branch.rule, "balanced": branch.balanced, "keep": branch.kept, "epochs": epochs,
                         "ids": tuple(section.ids) if branch.rule == "ids" else ()})
    if branch.rule == FULL:
        # Schedules of different lengths are compared with full data at their own last epochs.
        own.record.every = 1 if section.mode == "continuous" else own.record.every
    else:
        own.record.every = section.record_every or own.record.every
        own.batch_size = own.batch_size if section.batch_size < 0 else section.batch_size
        own.optimizer.name = section.optimizer or own.optimizer.name
        own.optimizer.learning_rate = section.learning_rate or own.optimizer.learning_rate
        if branch.scope == AFTER:  # a fresh network has no running statistics worth keeping
            own.compress.batch_norm = section.batch_norm
            if section.mode == "continuous":
                own.compress.update({"mode": "continuous", "schedule": section.schedule})
    return own
