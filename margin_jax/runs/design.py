"""Which networks a sweep trains."""

import itertools
from typing import Any, NamedTuple

import numpy as np

from margin_jax.config import default_config
from margin_jax.errors import InputError


class Member(NamedTuple):
    """What one network of a sweep does not share with all others.

    Attributes:
      number: 0, 1, ... within the sweep.
      init_std: standard deviation of its normal initial weights; None where they are those of `model.init`.
      seed, learning_rate, weight_decay, random_fraction, batch_norm: its own values of these keys of the config.
    """

    number: int
    init_std: float | None
    seed: int
    learning_rate: float
    weight_decay: float
    random_fraction: float
    batch_norm: bool


VARIED = ("init_std", "learning_rate", "weight_decay", "random_fraction", "batch_norm")  # all but the seed
# What makes networks of another kind, whose rho or whose labels are not those of the others.
KINDS = ("random_fraction", "batch_norm")


def members(config: Any) -> list[Member]:
    """The networks of a sweep, in order of BatchNorm, std, seed, learning rate, weight decay and label noise.

    Networks that differ in nothing but learning rate, weight decay or label noise share their initial weights; those
    that differ in BatchNorm share their seeds. Networks of one architecture follow one another, so that they can be
    trained together.

    Raises:
      InputError: `sweep.networks` cannot be made up of the other values.
    """
    section = config.sweep
    others = list(itertools.product(tuple(section.learning_rates) or (config.optimizer.learning_rate,),
                                    tuple(section.weight_decays) or (config.optimizer.weight_decay,),
                                    tuple(section.random_fractions) or (config.data.random_fraction,)))
    kinds = tuple(section.batch_norms) or (config.model.batch_norm,)
    settings = len(kinds) * len(others)
    stds: list[float | None] = [None]
    seeds, rest = divmod(section.networks, settings)
    if len(section.init_stds):
        seeds = section.seeds_per_std
        count, rest = divmod(section.networks, seeds * settings)
        stds = np.round(np.linspace(section.init_stds[0], section.init_stds[-1], count), 12).tolist()
    if rest or section.networks < settings:
        raise InputError(f"config: sweep.networks should be a multiple of the {settings} combinations of learning "
                         f"rates, weight decays, random fractions and BatchNorm, times sweep.seeds_per_std where "
                         f"standard deviations differ, got {section.networks}")
    if len(section.init_stds) and (len(stds) > 1) != (len(section.init_stds) > 1):
        raise InputError(f"config: sweep.networks = {section.networks} gives {len(stds)} standard deviations of "
                         f"{seeds} seeds and {settings} settings each, and sweep.init_stds has "
                         f"{len(section.init_stds)} value(s); change one of them")
    if config.seed + len(stds) * seeds > 2**32:
        raise InputError(f"config: seed should leave room for {len(stds) * seeds} seeds below 2^32, got {config.seed}")
    starts = [(std, config.seed + place * seeds + k) for place, std in enumerate(stds) for k in range(seeds)]
    return [Member(number, *start, *other, kind)
            for number, (kind, start, other) in enumerate(itertools.product(kinds, starts, others))]


def member_config(config: Any, member: Member) -> Any:
    """The config with which launch/train.py would train a network of the sweep alone."""
    own = config.copy_and_resolve_references()
    own.sweep = default_config().sweep
    own.seed, own.optimizer.learning_rate, own.optimizer.weight_decay = (member.seed, member.learning_rate,
                                                                         member.weight_decay)
    own.data.random_fraction, own.model.batch_norm = member.random_fraction, member.batch_norm
    if member.init_std is not None:
        own.model.init, own.model.init_std = "normal", member.init_std
    return own
