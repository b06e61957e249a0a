"""Listing the living, and letting one entity go from outside: no message, and exact counts."""

from __future__ import annotations

import asyncio
import pickle
import uuid
from typing import TYPE_CHECKING

import pytest

from cluster_app import Cluster, Entity, EntityAddress, UnknownType, entity, message
from cluster_app.testing import MemoryCluster

if TYPE_CHECKING:
    from tests.conftest import Counts


@entity(name="live.Lamp", max_idle_time=None)
class Lamp(Entity):
    """Burns until it is let go."""

    def __init__(self) -> None:
        self.lit = 0

    @message
    def light(self) -> int:
        self.lit += 1
        return self.lit

    @message
    async def glow(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return self.lit


@entity(name="live.Dawn", max_idle_time=None)
class Dawn(Entity):
    """Takes its time to come."""

    async def on_activate(self) -> None:
        await asyncio.sleep(5.0)

    @message
    def light(self) -> str:
        return str(id(self))


@entity(name="live.Unheard", max_idle_time=None)
class Unheard(Entity):
    """Nothing is ever sent to it."""

    @message
    def light(self) -> None: ...


LAMP = {"entity_type": "live.Lamp"}


def test_the_living_are_listed_without_a_message(cluster: Cluster, counts: Counts) -> None:
    """Each once, by class or by name; nothing is sent, activated or received for it."""
    names = {f"{uuid.uuid4().hex}-{number}" for number in range(30)}
    for reply in [cluster.entity(Lamp, name).light.remote() for name in names]:
        reply.result(30)
    counts.refresh()
    told = counts.of("cluster_messages_sent_total", **LAMP)
    live = list(cluster.live(Lamp))
    assert len(live) == len(set(live))
    assert names <= set(live)
    assert sorted(cluster.live("live.Lamp")) == sorted(live)
    assert len(list(cluster.live(Lamp, limit=7))) == 7
    assert list(cluster.live(Lamp, limit=0)) == []
    assert list(cluster.live(Unheard)) == []
    counts.refresh()
    assert counts.of("cluster_messages_sent_total", **LAMP) == told == 30
    assert counts.of("cluster_messages_received_total", **LAMP) == 30


def test_one_entity_is_let_go_from_outside(cluster: Cluster, counts: Counts) -> None:
    """It and no other; counted as explicit, and no message is; the next message meets a new one."""
    lamps = [cluster.entity(Lamp, uuid.uuid4().hex) for _ in range(5)]
    for lamp in lamps:
        lamp.light.remote().result(30)
    assert cluster.deactivate(lamps[0]) is True
    ids = [str(lamp).partition("/")[2] for lamp in lamps]
    assert set(cluster.live(Lamp)) & set(ids) == set(ids[1:])
    assert cluster.deactivate(lamps[0]) is False
    assert cluster.deactivate(EntityAddress("live.Lamp", ids[1])) is True
    counts.refresh()
    assert counts.of("cluster_messages_sent_total", **LAMP) == 5
    assert counts.of("cluster_messages_received_total", **LAMP) == 5
    assert counts.of("cluster_entity_activations_total", **LAMP) == 5
    assert counts.of("cluster_entity_deactivations_total", **LAMP, reason="explicit") == 2
    assert counts.of("cluster_entity_deactivations_total", **LAMP) == 2
    assert counts.of("cluster_entity_lifetime_seconds", **LAMP) == 2
    assert [lamp.light.remote().result(30) for lamp in lamps] == [1, 1, 2, 2, 2]


def test_what_does_not_live_is_not_activated(cluster: Cluster, counts: Counts) -> None:
    """Not alive, never alive, of a type that was never used: False, and nothing happens."""
    cluster.entity(Lamp, uuid.uuid4().hex).light.remote().result(30)
    assert cluster.deactivate(cluster.entity(Lamp, uuid.uuid4().hex)) is False
    assert cluster.deactivate(cluster.entity(Unheard, "one")) is False
    counts.refresh()
    assert counts.of("cluster_entity_activations_total", **LAMP) == 1
    assert counts.of("cluster_entity_activations_total", entity_type="live.Unheard") == 0


def test_a_type_that_nobody_registered_is_named_with_those_that_are(cluster: Cluster) -> None:
    """UnknownType, a LookupError, for a listing and for a deactivation; it survives pickle."""
    cluster.register(Lamp)
    for call in (
        lambda: cluster.live("live.Lantern"),
        lambda: cluster.deactivate(EntityAddress("live.Lantern", "a")),
    ):
        with pytest.raises(LookupError, match=r"no entity type 'live\.Lantern'.*live\.Lamp") as caught:
            call()
        assert isinstance(caught.value, UnknownType)
        again = pickle.loads(pickle.dumps(caught.value))
        assert (again.name, str(again)) == ("live.Lantern", str(caught.value))


def test_what_is_no_entity_is_refused(cluster: Cluster) -> None:
    """A class that is none, an object that is none, an id that cannot be one, a limit below zero."""
    with pytest.raises(TypeError):
        cluster.live(int)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="not a reference"):
        cluster.deactivate("live.Lamp/a")  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ValueError, match="empty"):
        cluster.deactivate(EntityAddress("live.Lamp", ""))
    with pytest.raises(ValueError, match="limit=-1"):
        cluster.live(Lamp, limit=-1)


def test_an_entity_that_is_busy_goes_when_it_has_ended(memory_cluster: MemoryCluster) -> None:
    """What it handles ends there; what waits and what comes meets a new activation, in order, with nothing lost."""
    lamp = memory_cluster.entity(Lamp, "busy")
    lamp.light.remote().result(30)
    busy, waiting = lamp.glow.remote(5.0), lamp.light.remote()
    memory_cluster.clock.settle()
    assert memory_cluster.deactivate(lamp) is True
    after = lamp.light.remote()
    memory_cluster.clock.advance(4.9)
    assert not waiting.done()
    memory_cluster.clock.advance(0.1)
    assert [busy.result(30), waiting.result(30), after.result(30)] == [1, 1, 2]
    metrics = memory_cluster.metrics()
    assert metrics.value("cluster_entity_deactivations_total", **LAMP, reason="explicit") == 1
    assert metrics.value("cluster_messages_received_total", **LAMP) == 4


def test_an_entity_that_is_coming_to_life_goes_as_soon_as_it_has(memory_cluster: MemoryCluster) -> None:
    """Its message meets the one after it."""
    reply = memory_cluster.entity(Dawn, "one").light.remote()
    memory_cluster.clock.advance(1.0)
    assert memory_cluster.deactivate(EntityAddress("live.Dawn", "one")) is True
    memory_cluster.clock.advance(4.0)
    assert not reply.done()
    memory_cluster.clock.advance(5.0)
    assert reply.result(30)
    metrics = memory_cluster.metrics()
    assert metrics.value("cluster_entity_activations_total", entity_type="live.Dawn") == 2
    assert metrics.value("cluster_entity_deactivations_total", reason="explicit") == 1


def test_a_runner_that_does_not_answer_is_a_connection_error(memory_cluster: MemoryCluster) -> None:
    """Paused beyond its lease: neither a listing nor a deactivation pretends to know."""
    lamps = [memory_cluster.entity(Lamp, str(number)) for number in range(20)]
    for lamp in lamps:
        lamp.light.remote().result(30)
    for runner in memory_cluster.status().runners:
        memory_cluster.pause(runner.id)
    with pytest.raises(ConnectionError):
        list(memory_cluster.live(Lamp))
    with pytest.raises(ConnectionError):
        memory_cluster.deactivate(lamps[0])
    for runner in memory_cluster.status().runners:
        memory_cluster.resume(runner.id)
    assert memory_cluster.deactivate(lamps[0]) is True


def test_the_hottest_entities_are_in_the_status(memory_cluster: MemoryCluster) -> None:
    """Of all runners, sorted by messages a second; exact while it is quiet."""
    for number in range(1, 6):
        for _ in range(number * 10):
            memory_cluster.entity(Lamp, str(number)).light.remote().result(30)
    memory_cluster.clock.advance(5.0)
    hot = memory_cluster.status().hot
    assert [(found.type, found.id) for found in hot] == [
        ("live.Lamp", str(number)) for number in (5, 4, 3, 2, 1)
    ]
    assert [found.messages_per_s for found in hot] == [10.0, 8.0, 6.0, 4.0, 2.0]
    assert {found.error_per_s for found in hot} == {0.0}


@pytest.mark.ray
def test_on_ray_a_hot_entity_is_in_the_status(ray_cluster: Cluster) -> None:
    """What its runner has counted arrives with the status."""
    lamp = ray_cluster.entity(Lamp, uuid.uuid4().hex)
    for _ in range(400):
        lamp.light.remote().result(30)
    (found,) = [hot for hot in ray_cluster.status().hot if str(lamp).endswith(hot.id)]
    assert found.type == "live.Lamp"
    assert found.messages_per_s > 10
    assert ray_cluster.status().as_dict()["hot"]
