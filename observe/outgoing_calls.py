"""Calls that have been sent and not yet counted as ended: what is known of each, and when it is counted.

Decides that a call ends once, whoever learns of it first, and what happens on which thread. Does not decide how
an answer is seen: that is the port `Answers`, and Ray's side of it is `observe.ray_answers`.

The thread that tells of an answer carries all answers of the process, and has to wait for the interpreter's lock
each time. There a call only gets its latency and leaves `in_flight` for `_ended`: no lock is taken and nothing is
unpickled. How it ended is looked at in batches by whoever comes next: a later call, a reading of the metrics, or
a thread that comes by twenty times a second while there are calls. Only the last call in flight is looked at on
the spot, so that nothing is left over when a program has all its answers and ends Ray.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from observe.failure import classify, may_have_run
from observe.message_cells import MessageCells, message_cells
from observe.recorder import process_recorder

__all__ = ["Answers", "CallTally", "OutgoingCall", "Suspicion", "call_tally", "told"]

logger = logging.getLogger(__name__)

Suspicion: TypeAlias = Callable[[], BaseException | None]
"""Finds out how a call ended that may not have ended well: its error, or None. May block, may run user code."""

# Ended calls that wait to be looked at, at which the next caller does it: a batch costs less for each.
_BATCH = 64
_ROUND_S = 0.05  # between the rounds of the thread that looks at what nobody else does


class Answers(Protocol):
    """How the answers to calls are seen without being fetched."""

    def watch(self, reference: Any, told: Callable[[object], None], /) -> object:
        """Call `told` once, on any thread, when the answer is there; with what went wrong if none will be."""
        ...

    def look(self, references: Sequence[Any]) -> Sequence[Suspicion | None]:
        """Whether the calls of these answers ended well (None), as far as is seen without blocking."""
        ...

    def look_safely(self, references: Sequence[Any]) -> Sequence[Suspicion | None]:
        """The same on any other thread than the one that tells, where Ray may end meanwhile."""
        ...

    def tell_arrived(self, waiting: Mapping[Any, Callable[[], None]]) -> None:
        """Of these references, call what waits for an answer that is there. Not on the thread `watch` uses."""
        ...


class OutgoingCall:
    """One call on its way. It holds the reference to its answer until that has been looked at.

    :ivar reference: to its answer, the last one if it has several; None once that has been looked at.
    :ivar took_s: from the sending to the answer, once that is there.
    :ivar suspicion: set when it may not have ended well.
    :ivar unwanted: the caller wants no value: one that can't be returned is no failure.
    """

    __slots__ = ("reference", "started_s", "suspicion", "tally", "took_s", "unwanted")

    def __init__(self, tally: CallTally, started_s: float, reference: Any, unwanted: bool = False) -> None:
        self.tally = tally
        self.started_s = started_s
        self.reference = reference
        self.unwanted = unwanted
        self.took_s: float | None = None
        self.suspicion: Suspicion | None = None

    def __call__(self, problem: object = None) -> None:
        """The answer is there, or will never be: what `Answers.watch` calls. Repeating it does nothing."""
        # Two threads may come here at once. Both end it, and one is heard.
        self.took_s = time.perf_counter() - self.started_s
        if problem is not None:
            self.suspicion = told(problem)
        self.tally.end(self)

    def looked_at(self, suspicion: Suspicion | None) -> None:
        """Keep what the look has shown, and let the answer go."""
        if suspicion is not None:
            self.suspicion = suspicion
        self.reference = None

    def error(self) -> BaseException | None:
        """The error it ended with; unpickles it."""
        if self.suspicion is None:
            return None
        try:
            error = self.suspicion()
        except Exception as raised:  # an error that cannot be decoded here: its caller gets the same
            error = raised
        if (
            error is not None
            and self.unwanted
            and may_have_run(error)
            and classify(error) == "MalformedMessage"
        ):
            return None
        return error


class CallTally:
    """The calls to one entity type from this process, through however many handles.

    :ivar in_flight: those whose answers are not there.
    """

    __slots__ = ("_cells", "_ended", "_recording", "_watch", "answers", "entity_type", "in_flight", "tended")

    def __init__(self, cells: MessageCells, answers: Answers) -> None:
        self._cells = cells
        self.entity_type = cells.entity_type
        self.answers = answers
        self._watch = answers.watch
        self.in_flight: dict[OutgoingCall, OutgoingCall] = {}
        self._ended: list[OutgoingCall] = []
        # Reentrant: an error's own code, run when it is unpickled, may read the metrics.
        self._recording = threading.RLock()
        self.tended = False

    def begin(self) -> None:
        """Count a call that is about to be sent."""
        cells = self._cells
        with cells.lock:
            cells.started.value += 1
        if len(self._ended) >= _BATCH and self._recording.acquire(blocking=False):
            try:
                self._record()
            finally:
                self._recording.release()

    def refused(self, took_s: float, error: BaseException) -> None:
        """Count a call that was not sent after all."""
        self._cells.end(took_s, error)

    def watch(self, call: OutgoingCall) -> None:
        """Follow a call that has been sent. Raises nothing: the caller has its reference whatever happens here."""
        self.in_flight[call] = call
        if not self.tended:
            self.tended = True
            _untended.put(self)
        try:
            self._watch(call.reference, call)
        except Exception:
            self.in_flight.pop(call, None)
            logger.warning("a call to %s is not followed to its end", self.entity_type, exc_info=True)

    def end(self, call: OutgoingCall) -> None:
        """The answer is there. The first to say so is heard."""
        in_flight = self.in_flight
        try:
            # One step of C, so that no reading falls between: a call is always in one of the two.
            self._ended.extend(map(in_flight.pop, (call,)))
        except KeyError:
            return
        if not in_flight:
            unseen: list[OutgoingCall] = []
            for ended in reversed(self._ended):
                if ended.reference is None:
                    break  # with those before it
                unseen.append(ended)
            self._look(unseen, self.answers.look)

    def settle(self) -> None:
        """Record all that has ended by now, also what Ray has not yet told of. Not on Ray's callback thread."""
        waiting = {call.reference: call for call in list(self.in_flight)}
        waiting.pop(None, None)  # a stream that has run and is not read to its end
        if waiting:
            self.answers.tell_arrived(waiting)
        self.record()

    def record(self) -> None:
        """Record all that is known to have ended."""
        with self._recording:
            self._record()

    def idle(self) -> bool:
        """Whether there is nothing to come back for. From then on the next call asks for it."""
        self.tended = False
        if self.in_flight or self._ended:
            self.tended = True
        return not self.tended

    def _look(
        self, calls: list[OutgoingCall], look: Callable[[Sequence[Any]], Sequence[Suspicion | None]]
    ) -> None:
        unseen = [(call, reference) for call in calls if (reference := call.reference) is not None]
        if not unseen:
            return
        try:
            suspicions = look([reference for _, reference in unseen])
        except Exception as error:
            suspicions = [told(error)] * len(unseen)
        for (call, _), suspicion in zip(unseen, suspicions, strict=True):
            call.looked_at(suspicion)

    def _record(self) -> None:
        ended = self._ended
        batch = ended[:]
        del ended[: len(batch)]
        self._look(batch, self.answers.look_safely)
        well = [call.took_s for call in batch if call.suspicion is None and call.took_s is not None]
        if well:
            self._cells.end_well(well)
        for call in batch:
            if call.suspicion is not None:
                self._cells.end(call.took_s or 0.0, call.error())


def told(problem: object) -> Suspicion:
    """What there is to find out when it has been told that no answer comes."""
    error = problem if isinstance(problem, BaseException) else ConnectionError(str(problem))
    return lambda: error


_tallies: dict[str, CallTally] = {}
_making = threading.Lock()
# Tallies that have got calls and no rounds.
_untended: queue.SimpleQueue[CallTally] = queue.SimpleQueue()


def call_tally(entity_type: str, answers: Answers) -> CallTally:
    """The process's tally of this (normalised) entity type, made at the first call."""
    with _making:
        tally = _tallies.get(entity_type)
        if tally is None:
            if not _tallies:
                threading.Thread(target=_tend, name="observe-calls", daemon=True).start()
            tally = _tallies[entity_type] = CallTally(message_cells("send", entity_type), answers)
            process_recorder().before_reading(tally.settle)
        return tally


def _tend() -> None:
    """Come by while there are calls, so that no answer is held until somebody calls again or reads."""
    tended: set[CallTally] = set()
    while True:
        if not tended:
            tended.add(_untended.get())
        time.sleep(_ROUND_S)
        while not _untended.empty():
            tended.add(_untended.get())
        for tally in list(tended):
            try:
                tally.record()
            except Exception:
                logger.warning("calls to %s are not counted yet", tally.entity_type, exc_info=True)
            if tally.idle():
                tended.discard(tally)
