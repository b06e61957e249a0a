"""A type's code is replaced, and whoever was to tell the runners is killed before, or does not reach one of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from cluster_app import Entity, entity, message
from cluster_app.testing import MemoryCluster
from entities.declaration import EntityDefinition

LEASE_S = 15.0


def versions(name: str, version: int) -> type[Entity]:
    """One version of a type's code."""

    @entity(name=name, max_idle_time=None)
    class Versioned(Entity):
        @message
        def ask(self) -> int:
            return version

    return Versioned


def nobody_tells(cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on runners can fetch what is registered, and are told nothing at its registration."""
    memory: Any = cluster._memory

    def registered(definition: EntityDefinition) -> None:
        memory._definitions[definition.name] = definition

    monkeypatch.setattr(memory._directory, "_registered", registered)


def asked(cluster: MemoryCluster, kind: Any) -> set[int]:
    """What new entities answer, of which each runner has some."""
    numbers = [next(new_ids) for _ in range(40)]
    answers = [cluster.entity(kind, str(number)).ask.remote() for number in numbers]
    return {answer.result(30) for answer in answers}


new_ids = itertools.count()


def each_runner_hosts(cluster: MemoryCluster, kind: Any) -> None:
    """Have entities of a type on all of them."""
    asked(cluster, kind)
    assert all(runner.entities for runner in cluster.status().runners)


def paused(cluster: MemoryCluster) -> Callable[[], None]:
    """One runner stands still until its lease is out; what is given ends that."""
    runner_id = cluster.status().runners[0].id
    cluster.pause(runner_id)
    cluster.clock.advance(LEASE_S)
    assert sorted(runner.healthy for runner in cluster.status().runners) == [False, True]
    return lambda: cluster.resume(runner_id)


def test_runners_that_nobody_has_told_find_out_by_their_leases(
    memory_cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New activations run the new code on all of them."""
    old, new = versions("replaced.Told", 1), versions("replaced.Told", 2)
    each_runner_hosts(memory_cluster, old)
    nobody_tells(memory_cluster, monkeypatch)
    memory_cluster.register(new, replace=True)
    memory_cluster.clock.settle()
    assert asked(memory_cluster, new) == {2}


def test_a_runner_whose_lease_is_out_at_the_time_finds_out_when_it_comes_back(
    memory_cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not among those that are told."""
    old, new = versions("replaced.Away", 1), versions("replaced.Away", 2)
    each_runner_hosts(memory_cluster, old)
    nobody_tells(memory_cluster, monkeypatch)
    resume = paused(memory_cluster)
    memory_cluster.register(new, replace=True)
    resume()
    memory_cluster.clock.advance(LEASE_S)
    each_runner_hosts(memory_cluster, new)
    assert asked(memory_cluster, new) == {2}


def test_runners_find_out_under_the_next_term(
    memory_cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator has stored the code, and is killed before any runner has heard of it."""
    old, new = versions("replaced.Term", 1), versions("replaced.Term", 2)
    each_runner_hosts(memory_cluster, old)
    nobody_tells(memory_cluster, monkeypatch)
    for runner in memory_cluster.status().runners:
        memory_cluster.pause(runner.id)
    memory_cluster.register(new, replace=True)
    memory_cluster.kill_coordinator()
    for runner in memory_cluster.status().runners:
        memory_cluster.resume(runner.id)
    memory_cluster.clock.advance(LEASE_S)
    assert asked(memory_cluster, new) == {2}
