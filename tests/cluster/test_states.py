"""What `Cluster.states` tells of living entities, and what it leaves alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cluster_app import Cluster, Entity, entity, message
from tests.conftest import Counts


class Awkward:
    """Cannot be pickled, and raises what ends a process if it gets through."""

    def __reduce__(self) -> Any:
        raise SystemExit

    def __repr__(self) -> str:
        return "awkward"


class Unreadable(Awkward):
    def __repr__(self) -> str:
        raise KeyError


@entity(max_idle_time=None)
class Cupboard(Entity):
    """Holds whatever it is told to."""

    def __init__(self) -> None:
        self.opened = 0
        self.shelves: list[str] = []
        self._secret = "key"

    @message
    def put(self, thing: str) -> int:
        self.opened += 1
        self.shelves.append(thing)
        return self.opened

    @message
    def fill_with_what_cannot_travel(self) -> None:
        vars(self).update(
            lock=threading.Lock(), awkward=Awkward(), unreadable=Unreadable(), nested=[Awkward()]
        )


@entity(max_idle_time=None)
class Crate(Entity):
    """Many of these, or large ones."""

    def __init__(self) -> None:
        self.load = b""

    @message
    def take(self, size: int) -> None:
        self.load = bytes(size)


@entity(max_idle_time=None)
class Nobody(Entity):
    """Never activated."""

    @message
    def wake(self) -> None: ...


def test_states_are_the_public_attributes_of_the_living(cluster: Cluster, counts: Counts) -> None:
    """By id, without a message: nothing is counted, nothing activated."""
    for thing in ("cup", "plate"):
        cluster.entity(Cupboard, "kitchen").put.remote(thing).result(10)
    cluster.entity(Cupboard, "hall").put.remote("coat").result(10)
    before = cluster.metrics()
    states = dict(cluster.states(Cupboard))
    assert {name: states[name] for name in ("kitchen", "hall")} == {
        "kitchen": {"opened": 2, "shelves": ["cup", "plate"]},
        "hall": {"opened": 1, "shelves": ["coat"]},
    }
    assert list(cluster.states(Nobody)) == []
    after = cluster.metrics()
    for name in ("cluster_messages_sent_total", "cluster_messages_received_total"):
        for kind in ("Cupboard", "Nobody"):
            assert after.value(name, entity_type=kind) == before.value(name, entity_type=kind)
    assert after.value("cluster_entity_activations_total", entity_type="Nobody") == 0


def test_what_is_read_is_a_copy(cluster: Cluster) -> None:
    """Whoever changes what was read does not change the entity."""
    cupboard = cluster.entity(Cupboard, "copied")
    cupboard.put.remote("cup").result(10)
    dict(cluster.states(Cupboard))["copied"]["shelves"].clear()
    assert dict(cluster.states(Cupboard))["copied"]["shelves"] == ["cup"]


def test_what_cannot_be_pickled_is_told_as_text(cluster: Cluster) -> None:
    """One such value costs neither its neighbours nor the runner."""
    cupboard = cluster.entity(Cupboard, "odd")
    cupboard.fill_with_what_cannot_travel.remote().result(10)
    state = dict(cluster.states(Cupboard))["odd"]
    assert state.pop("lock").startswith("<unlocked _thread.lock")
    assert state == {
        "opened": 0,
        "shelves": [],
        "awkward": "awkward",
        "unreadable": "<Unreadable, whose repr raised KeyError>",
        "nested": "[awkward]",
    }
    assert cupboard.put.remote("cup").result(10) == 1


def test_many_and_large_states_come_in_pieces_and_each_once(cluster: Cluster) -> None:
    """More entities than one piece holds, and some that fill a piece alone."""
    crates = [cluster.entity(Crate, f"crate-{number}") for number in range(2_500)]
    replies = [crate.take.remote(0) for crate in crates]
    large = [cluster.entity(Crate, f"crate-{number}").take.remote(3_000_000) for number in range(4)]
    for reply in (*replies, *large):
        reply.result(20)
    told = list(cluster.states(Crate))
    assert len(told) == 2_500
    assert {id_: len(state["load"]) for id_, state in told} == {
        f"crate-{number}": 3_000_000 if number < 4 else 0 for number in range(2_500)
    }


def test_a_class_that_is_no_entity_is_refused(cluster: Cluster) -> None:
    """At once, and not when the first state is read."""
    with pytest.raises(TypeError):
        cluster.states(int)  # type: ignore[arg-type]  # the mistake
