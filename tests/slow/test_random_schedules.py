"""Random schedules of faults on a cluster in memory, by ten seeds: a thousand of them, or as many as are asked for.

``SCHEDULES=1000`` in the environment makes it that many for each seed, so ten thousand, in some ten minutes.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, seed, settings

from tests.chaos.schedule import Step, violations
from tests.cluster.test_random_schedules import schedules

OF_EACH_SEED = int(os.environ.get("SCHEDULES", "100"))


@pytest.mark.slow
@pytest.mark.timeout(600)  # a thousand clusters
@pytest.mark.parametrize("number", range(10))
def test_no_schedule_of_this_seed_breaks_a_promise(number: int) -> None:
    """As in the quick room, with other schedules each time."""

    @seed(number)
    @settings(
        max_examples=OF_EACH_SEED,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(schedules)
    def kept(steps: list[Step]) -> None:
        found = violations(steps)
        assert not found, "\n".join(map(str, found))

    kept()
