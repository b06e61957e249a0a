"""The entity types of one sender: each is registered with the cluster before its first message leaves.

Decides which messages wait for that, and how they end when the cluster refuses the code.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from cluster_app.directory import Directory
from cluster_app.sending import KnownType, Messages
from cluster_app.settling import about
from cluster_app.timetable import EARLY_S, Timetable
from entities.declaration import EntityDefinition
from entities.errors import RunnerNotRegistered
from entities.response import EntityResponse

__all__ = ["Registration", "answer_to"]

_ASK_AGAIN_S = 0.05  # at first; then less and less often
_MOST_ASK_AGAIN_S = 0.5

Told = Callable[[BaseException | None], None]


def answer_to(ask: Callable[[Told], None], within_s: float) -> BaseException | None:
    """Block for what the coordinator says to a question: a refusal, or None; ConnectionError if it does not answer."""
    heard = threading.Event()
    refusals: list[BaseException | None] = []

    def told(refusal: BaseException | None) -> None:
        refusals.append(refusal)
        heard.set()

    ask(told)
    return (
        refusals[0]
        if heard.wait(within_s)
        else ConnectionError(f"no coordinator answered within {within_s:g} s")
    )


class Registration:
    """What a sender knows of types.

    :param inbox: where messages go back to once their type is known, in front of all that came later.
    :param lock: the sender's; held when messages are moved.
    :param pump: carries on what is in the inbox, without the lock.
    """

    def __init__(
        self,
        directory: Directory,
        timetable: Timetable,
        inbox: Messages,
        lock: threading.Lock,
        pump: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._timetable = timetable
        self._inbox = inbox
        self._lock = lock
        self._pump = pump
        self._types: dict[str, KnownType] = {}
        self._replaced: list[KnownType] = []  # by other code of that name, while messages of theirs may wait
        self._kept: set[str] = set()  # the digests of singletons that the cluster has taken in

    def __iter__(self) -> Iterator[KnownType]:
        return iter([*self._types.values(), *self._replaced])  # any thread may add one

    def known(self, definition: EntityDefinition) -> KnownType:
        """What is known of a type; other code under the same name begins anew."""
        known = self._types.get(definition.name)
        if known is None or known.definition.digest != definition.digest:
            if known is not None and known.held:
                self._replaced.append(known)
            known = self._types[definition.name] = KnownType(definition)
        return known

    def register(self, definition: EntityDefinition, replace: bool, told: Told) -> None:
        """Make the type's code known to the cluster; `told` hears how that went."""
        known = self.known(definition)
        known.asked = True
        self._ask(known, replace, told)

    def keep(self, definition: EntityDefinition, told: Told) -> None:
        """Make the type a singleton of the cluster, registered before; `told` hears how that went."""
        if definition.digest in self._kept:
            told(None)
            return

        def kept(refusal: BaseException | None) -> None:
            if refusal is None:
                self._kept.add(definition.digest)
            told(refusal)

        def registered(refusal: BaseException | None) -> None:
            if refusal is None:
                self._directory.keep(definition.name, kept)
            else:
                told(refusal)

        self.register(definition, False, registered)

    def ask(self, known: KnownType) -> None:
        """Register a type that messages wait for, unless that is under way."""
        if known.asked:
            return
        if self._timetable.now() + EARLY_S < known.ask_at:
            self._timetable.wake_at(known.ask_at)
        else:
            known.asked = True
            self._ask(known, False, lambda refusal: None)

    def hold(self, known: KnownType, message: EntityResponse[Any]) -> None:
        """Let a message wait until its type is registered."""
        known.held.append(message)
        if self._types.get(known.definition.name) is not known and known not in self._replaced:
            self._replaced.append(known)
        if message.deadline is None:
            self._timetable.wake_at(self._timetable.end_of(message))
        self.ask(known)

    @staticmethod
    def refusal(known: KnownType, message: EntityResponse[Any]) -> RunnerNotRegistered:
        """How a message ends whose code the cluster does not take."""
        error = RunnerNotRegistered(str(known.refusal), **about(message))
        error.__cause__ = known.refusal
        error.retryable = False
        return error

    def _ask(self, known: KnownType, replace: bool, told: Told) -> None:
        def heard(refusal: BaseException | None) -> None:
            with self._lock:
                self._heard(known, refusal)
            self._pump()
            told(refusal)

        self._directory.register(known.definition, replace, heard)

    def _heard(self, known: KnownType, refusal: BaseException | None) -> None:
        if isinstance(refusal, ConnectionError):  # nobody answered: asked again, messages wait
            known.asked = False
            known.wait_s = self._timetable.back_off(known.wait_s, _ASK_AGAIN_S, _MOST_ASK_AGAIN_S)
            known.ask_at = self._timetable.now() + known.wait_s
            if known.held:
                self._timetable.wake_at(known.ask_at)
            return
        known.wait_s = 0.0
        known.registered, known.refusal = refusal is None, refusal
        self._inbox.extendleft(reversed(known.held))
        # They have been counted and wait again at the front, in order, before all that came later.
        for message in known.held:
            message.flight = -1
            self._timetable.part_if_held(message)
        known.held.clear()
        if known in self._replaced:
            self._replaced.remove(known)
