"""Who sends messages in a run, in a driver or in an entity: each is numbered, recorded, and its fate is.

Decides what is recorded of a message at its sender, and that the order of the numbers is the order of sending.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from cluster_app import Cluster, Entity
from entities.declaration import define
from entities.errors import ClusterError
from entities.response import EntityResponse
from tests.chaos.broadcasts import EVERYBODY, told_by
from tests.chaos.history import FileScribe

__all__ = ["Sender"]


class Sender:
    """One sender incarnation.

    :ivar unanswered: how many messages have no fate yet.
    """

    def __init__(self, who: str, scribe: FileScribe) -> None:
        self._who = who
        self._scribe = scribe
        self._lock = threading.Lock()
        self._number = 0
        self.unanswered = 0

    def send(
        self,
        entity: Any,
        method: str,
        *args: Any,
        timeout_s: float | None = None,
        then: Callable[[], None] | None = None,
    ) -> EntityResponse[Any]:
        """Send one message; its first argument is its token.

        :param then: called when it has its fate, on any thread.
        """
        message = getattr(entity, method)
        address, bound = (
            entity._address,
            message if timeout_s is None else message.options(timeout_s=timeout_s),
        )
        return self._send(
            address.type,
            address.id,
            method,
            message.kind.idempotent,
            lambda token: bound.remote(token, *args),
            then,
        )

    def broadcast(
        self, cluster: Cluster, kind: type[Entity], method: str, *, then: Callable[[], None] | None = None
    ) -> EntityResponse[Any]:
        """Send one message to all of a type that live; its argument is its token.

        :param then: see `send`.
        """
        definition = define(kind)
        idempotent = definition.messages[method].idempotent
        return self._send(
            definition.name,
            EVERYBODY,
            method,
            idempotent,
            lambda token: cluster.broadcast(kind, method, token),
            then,
        )

    def _send(
        self,
        kind: str,
        entity_id: str,
        method: str,
        idempotent: bool,
        remote: Callable[[str], EntityResponse[Any]],
        then: Callable[[], None] | None,
    ) -> EntityResponse[Any]:
        with self._lock:  # numbered, noted and sent in one order
            number, self._number = self._number, self._number + 1
            token = f"{self._who}:{number}"
            self._scribe.note(
                "sent",
                sender=self._who,
                seq=number,
                token=token,
                type=kind,
                id=entity_id,
                method=method,
                idempotent=idempotent,
            )
            self.unanswered += 1
            reply = remote(token)

        def settled(reply: EntityResponse[Any]) -> None:
            error = reply.exception()
            if error is None:
                self._scribe.note("fate", token=token, ok=True, **told_by(reply.result()))
            else:
                reason = error.reason if isinstance(error, ClusterError) else type(error).__name__
                may_have_run = error.may_have_run if isinstance(error, ClusterError) else True
                self._scribe.note(
                    "fate", token=token, ok=False, reason=reason, may_have_run=may_have_run, text=str(error)
                )
            with self._lock:
                self.unanswered -= 1
            if then is not None:
                then()

        reply.add_done_callback(settled)
        return reply
