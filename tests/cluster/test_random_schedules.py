"""Random schedules of faults on a cluster in memory: whatever happens, its record shows no violation.

A failure prints the least schedule that shows it; `tests.chaos.schedule.violations` plays it again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.chaos import planted
from tests.chaos.schedule import STEPS, Step, violations

schedules = st.lists(st.sampled_from(STEPS), min_size=10, max_size=25)


@pytest.mark.timeout(240)  # two hundred clusters
@settings(
    max_examples=200,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(schedules)
def test_no_schedule_breaks_a_promise(steps: list[Step]) -> None:
    """One life at a time, one fate, no double run, true replies, order, counts; and all is served again."""
    found = violations(steps)
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize(
    "fault, seeds, rule",
    [
        (planted.no_fence, (23, 43, 48, 49, 53), "expiry"),
        (planted.no_dedup, (3, 14, 31, 32, 35), "double run"),
        (planted.no_roster_wait, (10, 20, 23, 24, 27), "one"),
        (planted.no_failed_target, (7, 8, 13, 15, 24), "true reply"),
        (planted.no_cancellation, (268, 933, 1110), "order"),
    ],
    ids=lambda found: getattr(found, "__name__", None),
)
def test_a_planted_fault_is_found(
    fault: Callable[[], AbstractContextManager[None]], seeds: tuple[int, ...], rule: str
) -> None:
    """Without the fence, the dedup, the wait for the roster, the truth about a broadcast's targets or the end of what
    was cancelled, these schedules break the promise it stands for.
    """
    broken = set()
    for seed in seeds:
        die = random.Random(seed)
        with fault():
            broken |= {violation.rule for violation in violations([die.choice(STEPS) for _ in range(25)])}
    assert rule in broken
