"""From when until when each activation lived, as a record shows it.

Decides the ends: the earliest of its deactivation, the end of its process, and the end of the last unbroken lease
under which it served. A runner whose lease ran out and was renewed goes on with the entities that are still its own, so
a gap in its leases ends only the lives that serve no more afterwards.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from tests.chaos.history import Event, History

__all__ = ["Leases", "Life", "Lives"]

# An entity that is let go for one of these is still its runner's own at that moment.
_OWN_REASONS = ("idle", "explicit", "handoff")


class Leases:
    """The unbroken leases of each runner: from which moment until before which."""

    def __init__(self, history: History) -> None:
        self._starts: dict[str, list[int]] = {}
        self._ends: dict[str, list[int]] = {}
        latest: dict[str, float] = {}
        for moment in history.of("lease"):
            event = history.events[moment]
            starts = self._starts.setdefault(event["runner"], [])
            ends = self._ends.setdefault(event["runner"], [])
            until = history.moment(event["until"])
            # By the clock: a gap in which nothing else was noted has no moments of its own.
            unbroken = event["at"] <= latest.get(event["runner"], -1.0)
            latest[event["runner"]] = max(event["until"], latest.get(event["runner"], -1.0))
            if ends and unbroken:
                ends[-1] = max(ends[-1], until)
            elif until > moment:
                starts.append(moment)
                ends.append(until)

    def __contains__(self, runner: str) -> bool:
        return runner in self._starts

    def end(self, runner: str, moment: int) -> int:
        """Where the lease ends that ran at this moment, or had run last; -1 if there was none."""
        number = bisect_right(self._starts.get(runner, ()), moment)
        return self._ends[runner][number - 1] if number else -1

    def running(self, runner: str, moment: int) -> bool:
        """Whether a lease runs at this moment."""
        return moment < self.end(runner, moment)

    def next_start(self, runner: str, moment: int) -> int | None:
        """When the next lease begins after this moment."""
        starts = self._starts.get(runner, [])
        number = bisect_right(starts, moment)
        return starts[number] if number < len(starts) else None


@dataclass(eq=False, slots=True)
class Life:
    """One activation.

    :ivar start: the moment of `activated`; `end` the first moment at which it lives no more.
    :ivar gone: the moment of its deactivation or of its process's end, whichever is first; no lease prolongs it.
    :ivar gone_by: the event that says so.
    :ivar served: when it last did anything that only the owner may.
    """

    activated: Event
    start: int
    gone: int
    gone_by: Event | None = None
    served: int = 0
    end: int = 0

    @property
    def address(self) -> tuple[str, str]:
        """Whose activation it is."""
        return self.activated["type"], self.activated["id"]

    @property
    def runner(self) -> str:
        """Where it lived."""
        name: str = self.activated["runner"]
        return name


class Lives:
    """Every activation of a record.

    :ivar by_name: the lives by the name of the activation.
    :ivar by_address: those of each address, by their start.
    :ivar killed: the processes that did not end in good order, each with the moment of its end.
    :ivar killed_runners: the runners among them, each with the moments of its first lease and of its end.
    :ivar twice: `activated` events that repeat the name of another.
    """

    def __init__(self, history: History) -> None:
        events, never = history.events, len(history)
        self.leases = Leases(history)
        self.by_name: dict[str, Life] = {}
        self.by_address: dict[tuple[str, str], list[Life]] = {}
        self.twice: list[Event] = []
        self.exits: dict[int, int] = {}
        for moment in history.of("ended"):
            self.exits.setdefault(events[moment]["pid"], moment)
        self.killed = {pid: m for pid, m in self.exits.items() if not events[m].get("orderly")}
        # Leases are written by the runner itself.
        self.killed_runners: dict[str, tuple[int, int]] = {}
        for moment in history.of("lease"):
            end = self.killed.get(events[moment]["pid"])
            if end is not None:
                self.killed_runners.setdefault(events[moment]["runner"], (moment, end))
        for moment in history.of("activated"):
            event = events[moment]
            exit_of_it = self.exits.get(event["pid"])
            life = Life(event, moment, never if exit_of_it is None else exit_of_it, served=moment)
            life.gone_by = None if exit_of_it is None else events[exit_of_it]
            if event["activation"] in self.by_name:
                self.twice.append(event)
                continue
            self.by_name[event["activation"]] = life
            self.by_address.setdefault(life.address, []).append(life)
        for moment in history.of("deactivated"):
            event = events[moment]
            found = self.by_name.get(event["activation"])
            if found is not None and moment < found.gone:
                found.gone, found.gone_by = moment, event
                if event["reason"] in _OWN_REASONS:
                    found.served = moment
        for kind in ("began", "done"):
            for moment in history.of(kind):
                found = self.by_name.get(events[moment]["activation"])
                if found is not None:
                    found.served = max(found.served, min(moment, found.gone))
        for life in self.by_name.values():
            life.end = max(life.start, min(life.gone, self.leases.end(life.runner, life.served)))

    def others_between(self, life: Life, start: int, end: int) -> Life | None:
        """An activation of the same address, other than this one, that began from `start` on and before `end`."""
        lives = self.by_address[life.address]
        first = bisect_left(lives, start, key=lambda other: other.start)
        for other in lives[first : first + 2]:
            if other is not life and other.start < end:
                return other
        return None

    def on_survivor(self, began: Event) -> bool:
        """Whether that was on a runner that has lived to tell what it had counted."""
        life = self.by_name.get(began["activation"])
        return life is not None and life.runner not in self.killed_runners

    def killed_one_lived(self, start: int, end: int) -> bool:
        """Whether a runner that was killed, then or later, lived at any moment from `start` to `end`."""
        return any(first <= end and start <= last for first, last in self.killed_runners.values())
