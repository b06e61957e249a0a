"""A singleton is started once, without a message, and lives for as long as the cluster does, wherever that is."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

import cluster_app
from cluster_app import Cluster, Entity, TypeConflict, entity, message
from cluster_app.testing import MemoryCluster
from tests.conftest import Counts


class Clock(Entity):
    """Ticks by itself."""

    def __init__(self) -> None:
        self.life = uuid.uuid4().hex
        self.pid = os.getpid()
        self.ticks = 0
        self.every(0.05, "tick")

    @message
    def tick(self) -> None:
        self.ticks += 1

    @message
    def which(self) -> str:
        return self.life

    @message
    def stop(self) -> str:
        self.deactivate()
        return self.life


@entity(max_idle_time=0.2)
class ShortClock(Clock):
    """Would be idle soon, were it no singleton."""

    def __init__(self) -> None:
        self.life = uuid.uuid4().hex


class StoppingClock(ShortClock):
    """Lets itself go."""


class PairedClock(ShortClock):
    """Is an ordinary entity as well."""


def state_of(cluster: Cluster, kind: type[Entity]) -> dict[str, Any] | None:
    """What the singleton looks like, without a message to it; None while it does not live."""
    return dict(cluster.states(kind)).get("singleton")


def until(let_pass: Callable[[float], None], condition: Callable[[], object]) -> None:
    """Let time pass until it is so; fails after 20 s."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        let_pass(0.05)


def test_it_starts_without_a_message(
    cluster: Cluster, counts: Counts, let_pass: Callable[[float], None]
) -> None:
    """It comes to life and its timer runs although nobody sends to it; asked for again it is the same one."""
    clock = cluster.singleton(Clock)
    assert (str(clock), hash(clock)) == ("Clock/singleton", hash(cluster.singleton(Clock)))
    assert clock == cluster.singleton(Clock) == cluster.entity(Clock, "singleton")
    until(let_pass, lambda: (state_of(cluster, Clock) or {"ticks": 0})["ticks"] >= 3)
    assert cluster.singleton(Clock).which.remote().result(10) == clock.which.remote().result(10)
    assert "Clock" in cluster.status().singletons
    assert cluster.status().entities["Clock"] == 1
    counts.refresh()
    assert counts.of("cluster_entity_activations_total", entity_type="Clock") == 1
    assert counts.of("cluster_singletons") == 1


def test_it_is_never_idle(cluster: Cluster, counts: Counts, let_pass: Callable[[float], None]) -> None:
    """Its type's max_idle_time lets other entities go, not the singleton."""
    clock = cluster.singleton(ShortClock)
    life = clock.which.remote().result(10)
    other = cluster.entity(ShortClock, "other").which.remote().result(10)
    until(let_pass, lambda: cluster.status().entities["ShortClock"] == 1)
    let_pass(0.5)
    assert clock.which.remote().result(10) == life
    assert cluster.entity(ShortClock, "other").which.remote().result(10) != other
    counts.refresh()
    assert counts.of("cluster_entity_activations_total", entity_type="ShortClock") == 3
    counts.check_invariants("ShortClock")


def test_it_comes_back_when_it_lets_itself_go(
    cluster: Cluster, counts: Counts, let_pass: Callable[[float], None]
) -> None:
    """With fresh state, and again without a message."""
    clock = cluster.singleton(StoppingClock)
    life = clock.stop.remote().result(10)
    until(let_pass, lambda: (state_of(cluster, StoppingClock) or {"life": life})["life"] != life)
    counts.refresh()
    labels = {"entity_type": "StoppingClock"}
    assert counts.of("cluster_entity_activations_total", **labels) == 2
    assert counts.of("cluster_entity_deactivations_total", **labels, reason="explicit") == 1


def test_it_lives_beside_entities_of_its_type(cluster: Cluster, counts: Counts) -> None:
    """Another id is another entity, and is not counted as a singleton."""
    clock = cluster.singleton(PairedClock)
    other = cluster.entity(PairedClock, "other")
    assert clock != other
    assert clock.which.remote().result(10) != other.which.remote().result(10)
    counts.refresh()
    assert counts.of("cluster_entity_activations_total", entity_type="PairedClock") == 2
    assert counts.of("cluster_singletons") == 1


def test_what_cannot_be_one_is_refused_at_once(cluster: Cluster) -> None:
    """A class that is no entity, and a name that is taken by other code."""
    with pytest.raises(TypeError, match="not an entity class"):
        cluster.singleton(int)  # type: ignore[type-var]  # the mistake
    with pytest.raises(TypeError, match="not an entity class"):
        cluster.singleton(Entity)

    @entity(name="Clock")
    class Other(Entity):
        @message
        def other(self) -> None: ...

    cluster.singleton(Clock)
    with pytest.raises(TypeConflict, match="Clock"):
        cluster.singleton(Other)


# -- on the stepped clock

lives: list[tuple[str, str]] = []
failing: list[BaseException] = []


@entity(max_idle_time=None)
class Journalled(Entity):
    """Notes when it comes and goes, and fails to come to life while `failing` holds errors."""

    def __init__(self) -> None:
        self.life = uuid.uuid4().hex

    async def on_activate(self) -> None:
        lives.append(("comes", self.life))

    async def on_deactivate(self, reason: str) -> None:
        lives.append((f"goes: {reason}", self.life))

    @message
    def which(self) -> str:
        return self.life


@entity(max_idle_time=None)
class FailsInInit(Entity):
    """Its `__init__` raises while `failing` holds errors."""

    def __init__(self) -> None:
        if failing:
            raise failing.pop()


@entity(max_idle_time=None)
class FailsInHook(Entity):
    """Its `on_activate` raises while `failing` holds errors."""

    async def on_activate(self) -> None:
        if failing:
            raise failing.pop()


class Keeper(Entity):
    """Asks for a singleton in a handler."""

    @message
    def keep(self) -> str:
        return str(cluster_app.connect().singleton(Journalled))


@pytest.fixture(autouse=True)
def fresh_journal() -> None:
    """Each test has a journal of its own."""
    lives.clear()
    failing.clear()


def home_of_singleton(cluster: MemoryCluster) -> str:
    """The runner that has the one entity there is."""
    (runner,) = [runner.id for runner in cluster.status().runners if runner.entities]
    return runner


def test_it_lives_again_elsewhere_when_its_runner_is_killed(memory_cluster: MemoryCluster) -> None:
    """On another runner, within a second, without a message."""
    clock = memory_cluster.singleton(Journalled)
    memory_cluster.clock.settle()
    victim = home_of_singleton(memory_cluster)
    memory_cluster.kill(victim)
    memory_cluster.clock.advance(1.0)
    assert home_of_singleton(memory_cluster) != victim
    assert [what for what, _ in lives][:2] == ["comes", "comes"]
    answered = clock.which.remote()
    memory_cluster.clock.advance(1.0)
    assert answered.result(10) == lives[-1][1]
    assert memory_cluster.metrics().value("cluster_singletons") == 1


def test_there_is_never_more_than_one(memory_cluster: MemoryCluster) -> None:
    """Through kills, handoffs and new coordinators it lives exactly once, and is handed over in order."""
    clock = memory_cluster.singleton(Journalled)
    for round_ in range(24):
        memory_cluster.clock.advance(5.0)
        status = memory_cluster.status()
        assert status.singletons == ["Journalled"]
        assert status.entities["Journalled"] == 1
        assert memory_cluster.metrics().value("cluster_singletons") == 1
        answered = clock.which.remote()
        memory_cluster.clock.advance(1.0)
        assert answered.result(10) == lives[-1][1]
        if round_ % 3 == 2:
            memory_cluster.kill_coordinator()
        else:
            memory_cluster.kill(sorted(runner.id for runner in status.runners)[round_ % 2])
    # What a killed runner had goes without a word. All that came has a life of its own, and who goes is the last.
    assert len({life for what, life in lives if what == "comes"}) == len(
        [w for w, _ in lives if w == "comes"]
    )
    handed_over = [index for index, (what, _) in enumerate(lives) if what == "goes: handoff"]
    assert handed_over
    for index in handed_over:
        assert lives[index - 1] == ("comes", lives[index][1])
        assert lives[index + 1][0] == "comes"


@pytest.mark.parametrize("kind", [FailsInInit, FailsInHook])
def test_it_is_tried_again_until_it_comes_to_life(
    memory_cluster: MemoryCluster, kind: type[Entity], caplog: pytest.LogCaptureFixture
) -> None:
    """After 1 s, then 2 s, then 4 s; each failure is logged with its cause, and counted."""
    failing.extend([RuntimeError("no disk yet")] * 3)
    memory_cluster.singleton(kind)
    alive_after = []
    for seconds in (0.0, 1.0, 2.0, 3.9, 0.1):
        memory_cluster.clock.advance(seconds)
        alive_after.append(memory_cluster.metrics().value("cluster_singletons"))
    assert alive_after == [0, 0, 0, 0, 1]
    assert memory_cluster.status().singletons == [kind.__name__]
    assert [record.message for record in caplog.records] == [
        f"singleton {kind.__name__} did not come to life; next try in {wait} s" for wait in (1, 2, 4)
    ]
    assert "no disk yet" in caplog.text
    metrics = memory_cluster.metrics()
    took = "cluster_entity_activation_seconds"
    assert metrics.value(took, entity_type=kind.__name__, outcome="error") == 3
    assert metrics.value(took, entity_type=kind.__name__, outcome="ok") == 1
    # What comes to life begins with the first wait again.
    caplog.clear()
    failing.append(RuntimeError("again"))
    memory_cluster.kill(home_of_singleton(memory_cluster))
    memory_cluster.clock.advance(1.5)
    assert memory_cluster.metrics().value("cluster_singletons") == 1
    assert len(caplog.records) == 1


def test_in_a_handler_it_does_not_block(memory_cluster: MemoryCluster) -> None:
    """The reference is there at once, and the singleton soon."""
    assert memory_cluster.entity(Keeper, "k").keep.remote().result(10) == "Journalled/singleton"
    memory_cluster.clock.settle()
    assert [what for what, _ in lives] == ["comes"]
    assert memory_cluster.status().singletons == ["Journalled"]


def test_it_is_let_go_when_the_cluster_shuts_down() -> None:
    """With reason shutdown, and does not come back."""
    with MemoryCluster(runners=2) as cluster:
        cluster.singleton(Journalled)
        cluster.clock.settle()
        cluster.shutdown()
    assert [what for what, _ in lives] == ["comes", "goes: shutdown"]
