"""When a run records, removes and stops."""

import numpy as np
import pytest

from margin_jax.config import default_config
from margin_jax.experiments.schedule import counts, fresh, measured, most_epochs, phase_over, record_due, removal_due


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


def test_margins_have_converged_when_the_smallest_stay_the_same():
    config = config_of("convergence", after=1)
    config.stop.smallest, config.stop.overlap, config.stop.times = 3, 0.6, 2
    order = np.linspace(1, 2, 10)
    progress, found = fresh(10, 3), []
    margins = [order - 5, order, order[::-1], order[::-1], np.roll(order[::-1], -1), np.roll(order[::-1], -1)]
    for epoch, values in enumerate(margins, 1):
        progress = measured(config.stop, epoch, progress, values)
        found.append((int(progress.separation_epoch), int(progress.stable), int(progress.convergence_epoch)))
    # Epoch 2 separates with the support of epoch 1; epoch 3 turns the order round; then it stays.
    assert found == [(-1, 0, -1), (2, 1, -1), (2, 0, -1), (2, 1, -1), (2, 2, 5), (2, 3, 5)]
    assert not phase_over(config, 5, progress) and phase_over(config, 6, progress)


def test_the_support_is_that_of_the_kept_rows_even_if_few_are_left():
    config = config_of("convergence")
    progress = fresh(10, 4)._replace(mask=np.arange(10) >= 8, removal_epoch=np.int32(3))
    progress = measured(config.stop, 4, progress, np.where(np.arange(10) >= 8, np.arange(10.0), -1))
    assert progress.support.tolist() == [8, 9, -1, -1] and progress.cleared_epoch == 4


def test_a_schedule_goes_on_where_the_kept_are_separated_again_or_the_limit_is_reached():
    config = config_of("separation", after=0)
    config.compress.mode, config.compress.schedule = "continuous", ((98, 1),)
    assert counts(config.compress, 100) == [99, 98]
    before = progress_of(5)
    assert removal_due(config, 5, before)
    after = before._replace(removal_epoch=np.int32(5), removals=np.int32(1), cleared_epoch=np.int32(5))
    assert not phase_over(config, 5, after) and not removal_due(config, 5, after)
    again = after._replace(cleared_epoch=np.int32(6))
    assert phase_over(config, 6, again) and removal_due(config, 6, again)
    assert not phase_over(config, 7, after) and phase_over(config, 8, after) and removal_due(config, 8, after)
    assert not removal_due(config, 6, again._replace(removals=np.int32(2)))  # the last one was made
    assert record_due(config, 6, after, 0) and not record_due(config_of(every=4), 6, before, 0)
    assert most_epochs(config, after) == 5 + 3 * 2 and most_epochs(config, progress_of()) == 10 + 3 * 2
