"""Entities of a user, for the tests of binding and of whole runs."""

from __future__ import annotations

from datetime import date
from typing import Any

from entities import Entity, entity, message

__all__ = ["Car", "Mute", "NoEntity"]


@entity(max_idle_time=None)
class Car(Entity):
    def __init__(self) -> None:
        self.trips: list[Any] = []
        self.km = 0.0

    @message
    def drive(self, km: float, driver: str = "nobody", day: date | None = None) -> float:
        if km < 0:
            raise ValueError("a car drives forward")
        self.km += km
        self.trips.append((km, driver, day))
        return self.km

    @message
    async def park(self, entity_id: str, self_parking: bool | None, *, level: int = 0) -> str:
        self.trips.append((entity_id, self_parking, level))
        return entity_id

    @message
    def tow(self, by: str = "truck", /, far: int = 1) -> None:
        self.trips.append((by, far))

    @message
    def load(self, goods: list[str]) -> None:
        self.trips.append(goods)

    @message
    def take(self, /, anything, **rest):  # type: ignore[no-untyped-def]  # users' code may have no annotations
        self.trips.append((anything, rest))

    def secret(self) -> None:
        """Not a message."""


@entity(name="Silent")
class Mute(Entity):
    def __init__(self) -> None:
        self.nods = 0
        self._secret = "kept"

    @message
    def nod(self) -> None:
        self.nods += 1


class NoEntity:
    def drive(self) -> None:
        pass
