"""Calls that have been sent and not yet counted as ended: what is known of each, and when it is counted.

Decides that a call ends once, whoever learns of it first, and what happens on which thread. Does not decide how
an answer is seen: that is the port `Answers`, and Ray's side of it is `observe.ray_answers`.

The thread that tells of an answer carries all answers of the process. There a call only leaves `in_flight` for
`ended`: no lock is taken, nothing is unpickled. The rest is done by whoever comes next: a later call, a reading
of the metrics, and, for what did not end well, a thread that waits for that.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from observe.failure import classify, may_have_run
from observe.message_cells import MessageCells, message_cells
from observe.recorder import process_recorder

__all__ = ["Answers", "CallTally", "OutgoingCall", "Suspicion", "call_tally"]

logger = logging.getLogger(__name__)

Suspicion: TypeAlias = Callable[[], BaseException | None]
"""Finds out how a call ended that may not have ended well: its error, or None. May block, may run user code."""

# Ended calls that wait to be recorded, at which the next caller records them: a batch costs less for each.
_BATCH = 500


class Answers(Protocol):
    """How the answers to calls are seen without being fetched."""

    def watch(self, reference: Any, told: Callable[[object], None]) -> None:
        """Call `told` once, on any thread, when the answer is there; with what went wrong if none will be."""
        ...

    def look(self, reference: Any) -> Suspicion | None:
        """Whether the call of this answer ended well (None), as far as is seen without blocking."""
        ...

    def tell_arrived(self, waiting: Mapping[Any, Callable[[], None]]) -> None:
        """Of these references, call what waits for an answer that is there. Not on the thread `watch` uses."""
        ...


class OutgoingCall:
    """One call on its way. It holds the reference to its answer until that is there, and no longer.

    :ivar reference: to its answer, the last one if it has several; None once it is there.
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
        took_s = time.perf_counter() - self.started_s
        reference = self.reference
        if reference is None:
            return
        if problem is None:
            try:
                suspicion = self.tally.answers.look(reference)
            except Exception as error:
                suspicion = _told(error)
        else:
            suspicion = _told(problem)
        self.answered(took_s, suspicion)
        self.reference = None

    def answered(self, took_s: float, suspicion: Suspicion | None) -> None:
        """Count it as ended."""
        self.took_s = took_s
        if suspicion is not None:
            self.suspicion = suspicion
        self.tally.end(self)

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

    :ivar in_flight: those not known to have ended.
    """

    __slots__ = ("_cells", "_ended", "_recording", "answers", "entity_type", "in_flight")

    def __init__(self, cells: MessageCells, answers: Answers) -> None:
        self._cells = cells
        self.entity_type = cells.entity_type
        self.answers = answers
        self.in_flight: dict[OutgoingCall, OutgoingCall] = {}
        self._ended: list[OutgoingCall] = []
        # Reentrant: an error's own code, run when it is unpickled, may read the metrics.
        self._recording = threading.RLock()

    def begin(self) -> None:
        """Count a call that is about to be sent."""
        self._cells.begin()
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
        try:
            self.answers.watch(call.reference, call)
        except Exception:
            self.in_flight.pop(call, None)
            logger.warning("a call to %s is not followed to its end", self.entity_type, exc_info=True)

    def end(self, call: OutgoingCall) -> None:
        """The call has ended. The first to say so is heard."""
        try:
            # One step of C, so that no reading falls between: a call is always in one of the two.
            self._ended.extend(map(self.in_flight.pop, (call,)))
        except KeyError:
            return
        if call.suspicion is not None:
            _suspicious.put(self)

    def settle(self) -> None:
        """Record all that has ended by now, also what Ray has not yet told of. Not on Ray's callback thread."""
        waiting = {call.reference: call for call in list(self.in_flight)}
        waiting.pop(None, None)  # its answer has been seen just now
        if waiting:
            self.answers.tell_arrived(waiting)
        self.record()

    def record(self) -> None:
        """Record all that is known to have ended."""
        with self._recording:
            self._record()

    def _record(self) -> None:
        ended = self._ended
        batch = ended[:]
        del ended[: len(batch)]
        well = [call.took_s for call in batch if call.suspicion is None and call.took_s is not None]
        if well:
            self._cells.end_well(well)
        for call in batch:
            if call.suspicion is not None:
                self._cells.end(call.took_s or 0.0, call.error())


def _told(problem: object) -> Suspicion:
    error = problem if isinstance(problem, BaseException) else ConnectionError(str(problem))
    return lambda: error


_tallies: dict[str, CallTally] = {}
_making = threading.Lock()
# Tallies with a call that may not have ended well. A put is one step of C, and safe on any thread.
_suspicious: queue.SimpleQueue[CallTally] = queue.SimpleQueue()


def call_tally(entity_type: str, answers: Answers) -> CallTally:
    """The process's tally of this (normalised) entity type, made at the first call."""
    with _making:
        tally = _tallies.get(entity_type)
        if tally is None:
            if not _tallies:
                threading.Thread(target=_examine, name="observe-calls", daemon=True).start()
            tally = _tallies[entity_type] = CallTally(message_cells("send", entity_type), answers)
            process_recorder().before_reading(tally.settle)
        return tally


def _examine() -> None:
    """Look at what may not have ended well as it comes, so that its answer is not held until somebody reads."""
    while True:
        tally = _suspicious.get()
        try:
            tally.record()
        except Exception:
            logger.warning("calls to %s are not counted yet", tally.entity_type, exc_info=True)
        del tally
