"""The removal schedule of figure 4, and how few programs it compiles."""

import math

import pytest

from margin_jax.config import PAPER_SCHEDULE
from margin_jax.theory.selection import kept_counts
from margin_jax.training.epoch import make_plan


def test_the_papers_schedule_is_exactly_as_it_says():
    expected = [*range(45_000, 9_999, -5_000), *range(9_000, 999, -1_000), *range(900, 99, -100), *range(90, 9, -10),
                *range(9, 0, -1)]
    assert kept_counts(50_000, PAPER_SCHEDULE) == expected
    assert len(expected) == 8 + 4 * 9


@pytest.mark.parametrize("total,schedule,expected", [
    (10, ((1, 1),), [9, 8, 7, 6, 5, 4, 3, 2, 1]),
    (10, ((4, 5), (2, 1)), [5, 4, 3, 2]),  # a step that does not divide stops at `until`
    (3, ((10, 5), (2, 1)), [2]),  # pairs that are passed already add nothing
    (2, ((5, 1),), []),
    (50_000, ((200, 49_800),), [200]),
])
def test_counts_fall_as_the_pairs_say(total, schedule, expected):
    assert kept_counts(total, schedule) == expected


@pytest.mark.parametrize("schedule", [(), ((1, 0),), ((0, 1),), ((1, 1), (1, 1)), ((1, 1), (5, 1)), ((1.5, 1),), (3,)])
def test_what_is_no_schedule_is_refused(schedule):
    with pytest.raises(ValueError, match="until"):
        kept_counts(10, schedule)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("batch_size", [0, 254])
def test_the_papers_schedule_meets_few_plans(whole, batch_size):
    counts = [50_000, *kept_counts(50_000, PAPER_SCHEDULE)]
    plans = {make_plan(batch_size, kept, 64, whole, total=50_000)[0] for kept in counts}
    assert len(plans) <= math.ceil(math.log2(50_000)) + 1
