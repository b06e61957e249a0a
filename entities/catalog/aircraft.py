"""One aircraft, known by its tail number: what it flew.

It decides what a flight adds to an aircraft's totals. What counts as a flight that left is its sender's to
say. It never passivates, since totals in memory would be lost with it.
"""

from __future__ import annotations

from entities import Entity, entity, message

__all__ = ["Aircraft"]


@entity(max_idle_time=None)
class Aircraft(Entity):
    """The totals of one aircraft; its id is the tail number, such as ``N14228``.

    :ivar flights: flights that left.
    :ivar miles: scheduled miles of those flights, also of one that was diverted.
    :ivar air_time_min: minutes in the air, of the flights for which that is known.
    :ivar carrier: who operated the latest flight; empty before the first.
    :ivar destination: where the latest flight was headed; empty before the first.
    """

    def __init__(self) -> None:
        self.flights = 0
        self.miles = 0
        self.air_time_min = 0
        self.carrier = ""
        self.destination = ""

    @message
    def fly(self, carrier: str, dest: str, distance: int, air_time: int | None = None) -> int:
        """Count a flight that left: `distance` in miles, `air_time` in minutes. Return the flights so far."""
        self.flights += 1
        self.miles += distance
        if air_time is not None:
            self.air_time_min += air_time
        self.carrier = carrier
        self.destination = dest
        return self.flights

    @message(idempotent=True)
    def read(self) -> dict[str, int | str]:
        """Return the public attributes by name."""
        return {
            "flights": self.flights,
            "miles": self.miles,
            "air_time_min": self.air_time_min,
            "carrier": self.carrier,
            "destination": self.destination,
        }
