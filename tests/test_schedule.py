"""When a run records, removes and stops."""

import numpy as np
import pytest

from margin_jax.config import default_config
from margin_jax.runs.schedule import fresh, phase_over, record_due, removal_due


def config_of(rule="separation", after=2, keep=0, every=1):
    config = default_config()
    config.epochs, config.stop.rule, config.stop.after = 10, rule, after
    config.compress.keep, config.compress.epochs, config.record.every = keep, 3, every
    return config


def progress_of(separation=-1, removal=-1, count=100):
    return fresh(count)._replace(separation_epoch=np.int32(separation), removal_epoch=np.int32(removal),
                                 removals=np.int32(removal >= 0))


def last_epoch(config, separation):
    """The epoch at which a run stops if the data separate at the end of `separation`."""
    removal = -1
    for epoch in range(1, 100):
        progress = progress_of(separation if epoch >= separation > 0 else -1, removal)
        if removal_due(config, epoch, progress):
            removal = epoch
        if phase_over(config, epoch, progress_of(progress.separation_epoch, removal)):
            return epoch, removal
    raise AssertionError("the run never stops")


@pytest.mark.parametrize("rule,keep,separation,expected", [
    ("epochs", 0, 4, (10, -1)),
    ("epochs", 5, 4, (13, 10)),
    ("epochs", 5, -1, (13, 10)),
    ("separation", 0, 4, (6, -1)),
    ("separation", 0, -1, (10, -1)),
    ("separation", 5, 4, (9, 6)),
    ("separation", 5, -1, (10, -1)),  # nothing is removed from a network that did not separate
    ("separation", 5, 9, (13, 10)),  # the cap comes before separation + 2
    ("separation", 5, 10, (13, 10)),
])
def test_a_run_stops_and_removes_where_the_rule_says(rule, keep, separation, expected):
    assert last_epoch(config_of(rule, keep=keep), separation) == expected


def test_removal_may_come_at_separation_itself():
    assert last_epoch(config_of(after=0, keep=5), 4) == (7, 4)


@pytest.mark.parametrize("epoch,errors,separation,due", [
    (3, 50, -1, True),  # every third epoch
    (4, 50, -1, False),
    (4, 1, -1, True),  # at most 1% errors seen: the data may be separated
    (4, 2, -1, False),
    (4, 0, 2, True),  # separation 2 + 2: the end
    (5, 0, 4, False),  # after separation the schedule alone
    (10, 50, -1, True),  # the end by count
])
def test_records_are_dense_around_separation_and_at_ends(epoch, errors, separation, due):
    assert record_due(config_of(every=3), epoch, progress_of(separation), errors) == due
