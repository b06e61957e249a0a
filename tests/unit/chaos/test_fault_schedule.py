"""The schedule of faults is the seed's alone, shows every kind, and never loses the last node to go to."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.fault_schedule import DRIVERS, HEAD, KINDS, QUIET_END_S, WORKERS, schedule

SEEDS = range(300)
SECONDS = 60.0
LEASE_S = 1.0


def test_a_seed_gives_the_same_schedule_again() -> None:
    """Twice the same from one seed, and another from another."""
    assert schedule(7, SECONDS, LEASE_S) == schedule(7, SECONDS, LEASE_S)
    assert schedule(7, SECONDS, LEASE_S) != schedule(8, SECONDS, LEASE_S)


@pytest.mark.parametrize("seconds", [60.0, 600.0])
def test_each_kind_comes_whatever_the_seed(seconds: float) -> None:
    """Of any seed: all kinds, in order of time, none before the load has begun or at the very end."""
    for seed in SEEDS:
        faults = schedule(seed, seconds, LEASE_S)
        assert {fault.kind for fault in faults} == set(KINDS), f"seed {seed}"
        times = [fault.at for fault in faults]
        assert times == sorted(times)
        assert times[0] > 0 and times[-1] <= seconds - QUIET_END_S


def test_after_each_kind_has_come_they_come_by_chance() -> None:
    """In ten minutes no kind is rare; those that need a whole cluster come less often than the others."""
    kinds = Counter(fault.kind for fault in schedule(3, 600.0, LEASE_S))
    assert min(kinds.values()) >= 8


def test_one_node_at_a_time_is_away_or_drained_and_each_comes_back() -> None:
    """What was lost joins again before anything else is lost or drained; nothing is asked of a node that is away."""
    for seed in SEEDS:
        away: str | None = None
        for fault in schedule(seed, 120.0, LEASE_S):
            lost = fault.kind == "stop raylet" and fault.lasts_s > 2
            if fault.kind in ("kill raylet", "leave", "drain") or lost:
                assert away is None, f"seed {seed}: {fault}"
                away = fault.target
            elif fault.kind in ("join", "undrain"):
                assert away == fault.target, f"seed {seed}: {fault}"
                away = None
            elif away is not None:
                assert fault.target != away, f"seed {seed}: {fault}"


def test_targets_are_roles_and_only_what_stands_still_lasts() -> None:
    """The head loses processes and never its raylet; a stop lasts from half a lease to some."""
    for seed in SEEDS:
        for fault in schedule(seed, SECONDS, LEASE_S):
            whom = fault.kind.rpartition(" ")[2]
            targets = {
                "driver": DRIVERS,
                "coordinator": ("",),
                "runner": (HEAD, *WORKERS),
                "agent": (HEAD, *WORKERS),
            }
            assert fault.target in targets.get(whom, WORKERS)
            assert (fault.lasts_s > 0) == fault.kind.startswith("stop ")
            assert fault.lasts_s <= 4.5 * LEASE_S


def test_a_time_too_short_for_all_kinds_is_refused() -> None:
    """It says how long it must be."""
    with pytest.raises(ValueError, match="at least 47"):
        schedule(1, 20.0, LEASE_S)
