"""What may become of an exchange between a sender and a runner: lost, late or repeated, on the way there or back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal

from cluster_app.exchange import Answer, Connection, Request, RunnerUnreachable, Told
from cluster_app.stepped_loop import SteppedLoop
from tests.chaos.memory_record import Record

__all__ = ["Mishap", "Weather"]

Mishap = Literal["request lost", "answer lost", "request late", "answer late", "repeated", "repeated late"]
_LATE_S = 0.7


class Weather:
    """Stands between all senders and all runners.

    :ivar coming: what becomes of the next exchanges, one each; those after them are well.
    :ivar cut_off: while it is set, nothing arrives at all.
    """

    def __init__(self, loop: SteppedLoop, record: Record, connect: Callable[[str], Connection]) -> None:
        self.coming: deque[Mishap] = deque()
        self.cut_off = False
        self._loop = loop
        self._record = record
        self._connect = connect

    def connect(self, runner_id: str) -> Connection:
        """The way to a runner, as a transport gives it."""
        return _Way(self, runner_id, self._connect(runner_id))

    def left(self, runner_id: str, answer: Answer | BaseException) -> None:
        """A runner has answered."""
        if isinstance(answer, Answer) and answer.parcels:
            self._record.note("left", runner_id, runner=runner_id)

    def carry(self, way: _Way, request: Request, told: Told) -> None:
        """Carry one exchange, with whatever comes."""
        mishap: Mishap | None = self.coming.popleft() if self.coming else None
        if self.cut_off:
            mishap = "request lost"
        later = self._loop.call_later
        if mishap == "request lost":
            self._loop.call_soon(told, RunnerUnreachable("the request was lost"))
        elif mishap == "answer lost":
            way.begin(request, lambda answer: told(RunnerUnreachable("the answer was lost")))
        elif mishap == "request late":
            later(_LATE_S, way.begin, request, told)
        elif mishap == "answer late":
            way.begin(request, lambda answer: _drop(later(_LATE_S, told, answer)))
        else:
            way.begin(request, told)
            if mishap == "repeated":
                way.begin(request, _drop)
            elif mishap == "repeated late":
                later(_LATE_S, way.begin, request, _drop)


class _Way:
    """The way to one runner."""

    def __init__(self, weather: Weather, runner_id: str, connection: Connection) -> None:
        self._weather = weather
        self._runner_id = runner_id
        self._connection = connection

    def exchange(self, request: Request, told: Told) -> None:
        self._weather.carry(self, request, told)

    def begin(self, request: Request, told: Told) -> None:
        def heard(answer: Answer | BaseException) -> None:
            self._weather.left(self._runner_id, answer)
            told(answer)

        self._connection.exchange(request, heard)


def _drop(answer: object) -> None:
    """Nobody hears it."""
