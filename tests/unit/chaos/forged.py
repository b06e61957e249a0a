"""A forger of records: it plays a cluster that keeps its promises, step by step, or does not if it is told so."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from tests.chaos.checker import check
from tests.chaos.history import Event, History

__all__ = ["Forgery", "rules_broken"]

LEASE_S = 3.0


def rules_broken(events: list[Event]) -> set[str]:
    """The rules that a record breaks."""
    return {violation.rule for violation in check(History(events))}


class Forgery:
    """A record in the making.

    Every method is one thing that happens, a hundredth of a second after the last. A runner's name ends in its pid;
    the driver ``d`` has pid 1.

    :ivar events: the record so far.
    :ivar lives: what is alive, by address: runner and activation.
    """

    def __init__(self, *runners: str) -> None:
        self.events: list[Event] = []
        self.at = 100.0
        self.until: dict[str, float] = {}
        self.lives: dict[str, tuple[str, str]] = {}
        self.seqs = itertools.count()
        self.names = itertools.count(1)
        self.open: dict[str, str] = {}  # token to address
        self.counted: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        for runner in runners:
            self.renew(runner)

    def pid(self, who: str) -> int:
        """The process of a runner, of the driver, or of who looks on."""
        return {"d": 1, "observer": 2}.get(who) or int(who.strip("r")) + 10

    def note(self, e: str, by: str = "d", /, **keys: Any) -> Event:
        """Something happens in the process of `by`."""
        self.at += 0.01
        event: Event = {"e": e, "at": self.at, "pid": self.pid(by), **keys}
        self.events.append(event)
        return event

    def count(self, name: str, by: int = 1, **labels: str) -> None:
        """The cluster counts it."""
        self.counted[f"cluster_{name}", tuple({"entity_type": "T", **labels}.items())] += by

    def renew(self, runner: str) -> None:
        """The runner's lease is renewed."""
        self.until[runner] = self.at + LEASE_S
        self.note("lease", runner, runner=runner, until=self.until[runner])

    def lapse(self, runner: str, *others: str) -> None:
        """Time passes until this runner's lease has ended; others have theirs renewed."""
        while self.at < self.until[runner]:
            self.at += 1.0
            for other in others:
                self.renew(other)

    def activate(self, runner: str, entity_id: str = "a", **keys: Any) -> str:
        """An entity comes to life; returns the name of the activation."""
        number = next(self.names)
        name = f"activation-{number}"
        self.note(
            "activated",
            runner,
            **{
                "activation": name,
                "type": "T",
                "id": entity_id,
                "runner": runner,
                "epoch": [1, number],
                "hosting": "shard",
                **keys,
            },
        )
        self.lives[entity_id] = (runner, name)
        self.count("entity_activations_total")
        return name

    def deactivate(self, entity_id: str = "a", reason: str = "idle") -> None:
        """It is let go in good order."""
        runner, name = self.lives.pop(entity_id)
        self.note("deactivated", runner, activation=name, reason=reason)
        self.count("entity_deactivations_total", reason=reason)

    def send(self, entity_id: str = "a", *, idempotent: bool = False) -> str:
        """The driver sends a message; returns its token."""
        number = next(self.seqs)
        token = f"m{number}"
        self.note(
            "sent",
            sender="d",
            seq=number,
            token=token,
            type="T",
            id=entity_id,
            method="hit",
            idempotent=idempotent,
        )
        self.count("messages_sent_total", operation="send")
        self.open[token] = entity_id
        return token

    def broadcast(self, *, idempotent: bool = False) -> str:
        """The driver sends a message to all that live; returns its token."""
        number = next(self.seqs)
        token = f"m{number}"
        self.note(
            "sent", sender="d", seq=number, token=token, type="T", id="*", method="hit", idempotent=idempotent
        )
        self.open[token] = "*"
        return token

    def reach(self, token: str, *entity_ids: str) -> None:
        """A broadcast is handled by these, from beginning to end."""
        for entity_id in entity_ids:
            runner, name = self.lives[entity_id]
            self.note("began", runner, activation=name, token=token)
            self.count("messages_received_total", operation="broadcast")
            self.note("done", runner, activation=name, token=token, value=token)

    def told(self, token: str, delivered: int, **errors: int) -> None:
        """Its reply arrives."""
        failed = sum(errors.values())
        self.note("fate", token=token, ok=True, delivered=delivered, failed=failed, errors=errors)
        self.open.pop(token, None)
        for outcome, number in (("ok", delivered), ("error", failed)):
            self.count("messages_sent_total", number, operation="broadcast")
            self.count("message_latency_seconds", number, outcome=outcome, operation="broadcast")
        for reason, number in errors.items():
            self.count("errors_total", number, type=reason, operation="broadcast")

    def begin(self, token: str, life: tuple[str, str] | None = None) -> None:
        """Its handler begins, in the activation that lives or in another one."""
        runner, name = life or self.lives[self.open[token]]
        self.note("began", runner, activation=name, token=token)
        self.count("messages_received_total")

    def finish(self, token: str, life: tuple[str, str] | None = None, value: Any = None) -> None:
        """Its handler returns."""
        runner, name = life or self.lives[self.open[token]]
        self.note("done", runner, activation=name, token=token, value=token if value is None else value)

    def answer(self, token: str, value: Any = None) -> None:
        """The reply arrives."""
        self.note("fate", token=token, ok=True, value=token if value is None else value)
        self.open.pop(token, None)
        self.count("message_latency_seconds", outcome="ok", operation="send")

    def fail(self, token: str, reason: str = "RunnerUnavailable", *, may_have_run: bool = True) -> None:
        """The reply is an error."""
        self.note("fate", token=token, ok=False, reason=reason, may_have_run=may_have_run)
        self.open.pop(token, None)
        self.count("message_latency_seconds", outcome="error", operation="send")
        self.count("errors_total", type=reason, operation="send")

    def hit(self, entity_id: str = "a", life: tuple[str, str] | None = None) -> str:
        """A message from its sending to its reply."""
        token = self.send(entity_id)
        self.begin(token, life)
        self.finish(token, life)
        self.answer(token)
        return token

    def kill(self, who: str) -> None:
        """A process is killed, and its exit seen."""
        self.note("ended", who, who=who)
        for entity_id in [entity_id for entity_id, (runner, _) in self.lives.items() if runner == who]:
            del self.lives[entity_id]

    def end(self) -> list[Event]:
        """The run is over, and the cluster says what it has counted. Returns the record."""
        for (name, labels), value in self.counted.items():
            self.note("counts", "observer", name=name, labels=dict(labels), value=value)
        self.note("end", "observer")
        return self.events

    def broken(self) -> set[str]:
        """The rules that the record breaks, once it has been ended."""
        return rules_broken(self.end())
