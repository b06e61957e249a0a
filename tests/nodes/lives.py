"""Where an entity lives, from the record while it is written: nobody has to ask it, and so bring it to life."""

from __future__ import annotations

import time
from collections.abc import Collection

from tests.chaos.history import Event, History
from tests.nodes.recorded import folder_of

__all__ = ["lives_of", "lives_on"]

_LOOK_S = 0.01


def lives_of(namespace: str, entity_type: str) -> list[Event]:
    """The activations of a type of which there is one entity, the first one first."""
    history = History.read(folder_of(namespace))
    told = (history.events[moment] for moment in history.of("activated"))
    return [event for event in told if event["type"] == entity_type]


def lives_on(namespace: str, entity_type: str, runners: Collection[str], within_s: float = 30.0) -> Event:
    """The latest activation of it, as soon as that is on one of these runners."""
    deadline = time.monotonic() + within_s
    while not (lives := lives_of(namespace, entity_type)) or lives[-1]["runner"] not in runners:
        assert time.monotonic() < deadline, f"after {within_s} s: {lives}"
        time.sleep(_LOOK_S)
    return lives[-1]
