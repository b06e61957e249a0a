"""One airport, known by its code: what left it, what reached it and what did not.

It decides what each kind of movement adds to the airport's totals, not which kind a flight is.
It never passivates, since totals in memory would be lost with it.
"""

from __future__ import annotations

from entities import Entity, entity, message

__all__ = ["Airport"]


@entity(max_idle_time=None)
class Airport(Entity):
    """The totals of one airport; its id is the FAA code, such as ``EWR``.

    :ivar departures: flights that left here.
    :ivar arrivals: flights that arrived here.
    :ivar diversions: flights that were headed here and landed elsewhere.
    :ivar cancellations: flights that were to leave here and did not.
    :ivar departure_delay_min: minutes late at departure, summed; early ones count as negative.
    :ivar arrival_delay_min: minutes late at arrival, summed over the flights for which that is known.
    """

    def __init__(self) -> None:
        self.departures = 0
        self.arrivals = 0
        self.diversions = 0
        self.cancellations = 0
        self.departure_delay_min = 0
        self.arrival_delay_min = 0

    @message
    def departed(self, dep_delay: int | None = None) -> int:
        """Count a flight that left, `dep_delay` minutes late. Return the departures so far."""
        self.departures += 1
        self.departure_delay_min += dep_delay or 0
        return self.departures

    @message
    def arrived(self, arr_delay: int | None = None) -> int:
        """Count a flight that arrived, `arr_delay` minutes late. Return the arrivals so far."""
        self.arrivals += 1
        self.arrival_delay_min += arr_delay or 0
        return self.arrivals

    @message
    def diverted(self) -> int:
        """Count a flight that was headed here and landed elsewhere. Return the diversions so far."""
        self.diversions += 1
        return self.diversions

    @message
    def cancelled(self) -> int:
        """Count a flight that did not leave. Return the cancellations so far."""
        self.cancellations += 1
        return self.cancellations

    @message(idempotent=True)
    def read(self) -> dict[str, int]:
        """Return the public attributes by name."""
        return {
            "departures": self.departures,
            "arrivals": self.arrivals,
            "diversions": self.diversions,
            "cancellations": self.cancellations,
            "departure_delay_min": self.departure_delay_min,
            "arrival_delay_min": self.arrival_delay_min,
        }
