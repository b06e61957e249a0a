"""Whether a record keeps what the cluster promises, from the record alone.

Decides the rules; each violation names its rule and shows the events that break it. Knows nothing of how the record
came about. All rules are one pass over what `History` and `Lives` have sorted: a million events take seconds.

| rule | holds when |
|---|---|
| record | the record is whole: it has its end, and every event belongs to something that is in it |
| one | two activations of an address never overlap, and later ones have later epochs |
| expiry | no reply was published by an activation that had ended, or whose runner's lease had |
| fate | each message has exactly one fate before the end, if its sender was not killed |
| double run | what is not idempotent began once at most |
| true reply | a value was returned by a handler before it arrived; what "has not run" has not begun |
| order | the messages of a sender to an address began in the order in which they were sent |
| counts | the cluster's metrics are what the record says (`counted`) |

A broadcast is one message with as many beginnings as it has targets: `broadcasts` says what the rules are for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.chaos.broadcasts import Broadcasts, to_all
from tests.chaos.counted import wrong_counts
from tests.chaos.history import Event, History
from tests.chaos.lives import Life, Lives
from tests.chaos.violation import Violation

__all__ = ["RULES", "Violation", "check"]

RULES = ("record", "one", "expiry", "fate", "double run", "true reply", "order", "counts")


def check(history: History) -> list[Violation]:
    """Every violation that the record shows, by rule; none means that the promises were kept."""
    return list(_Check(history).run())


class _Check:
    """One look at a record, with what several rules need of it."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._events = events = history.events
        self._lives = Lives(history)
        self._sent = {events[moment]["token"]: events[moment] for moment in history.of("sent")}
        self._began = self._by_token("began")
        self._done = self._by_token("done")
        self._fates = self._by_token("fate")
        self._to_all = {token for token, sent in self._sent.items() if to_all(sent)}

    def _by_token(self, kind: str) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for moment in self._history.of(kind):
            found[self._events[moment]["token"]].append(moment)
        return dict(found)

    def run(self) -> Iterator[Violation]:
        yield from self._record()
        yield from self._one()
        yield from self._expiry()
        yield from self._one_fate()
        yield from self._double_run()
        yield from self._true_reply()
        yield from self._order()
        yield from wrong_counts(self._history, self._lives)
        yield from Broadcasts(
            self._history, self._lives, self._began, self._done, self._fates, self._publishable
        ).wrong()

    def _record(self) -> Iterator[Violation]:
        events, lives = self._events, self._lives
        if len(self._history.of("end")) != 1:
            ends = [events[moment] for moment in self._history.of("end")]
            yield Violation("record", f"it has {len(ends)} ends", ends)
        for event in lives.twice:
            first = lives.by_name[event["activation"]].activated
            yield Violation("record", "two activations of one name", [first, event])
        for life in lives.by_name.values():
            if life.runner not in lives.leases:
                yield Violation("record", "an activation on a runner without any lease", [life.activated])
        for kind in ("began", "done", "deactivated"):
            for moment in self._history.of(kind):
                if events[moment]["activation"] not in lives.by_name:
                    yield Violation("record", "nothing was activated under this name", [events[moment]])
        sequences: dict[str, Event] = {}
        tokens: set[str] = set()
        for moment in self._history.of("sent"):
            event = events[moment]
            before = sequences.get(event["sender"])
            if before is not None and before["seq"] >= event["seq"]:
                yield Violation("record", "a sender's numbers do not grow", [before, event])
            sequences[event["sender"]] = event
            if event["token"] in tokens:
                yield Violation("record", "a token was sent twice", [self._sent[event["token"]], event])
            tokens.add(event["token"])
        for kind, found in (("began", self._began), ("fate", self._fates)):
            for token in found.keys() - self._sent.keys():
                yield Violation("record", f"{kind} without having been sent", [events[found[token][0]]])
        if lives.exits:
            for moment, event in enumerate(events):
                exit_of_it = lives.exits.get(event["pid"])
                if exit_of_it is not None and moment > exit_of_it and event["e"] != "ended":
                    yield Violation("record", "an ended process did something", [events[exit_of_it], event])

    def _one(self) -> Iterator[Violation]:
        for lives in self._lives.by_address.values():
            longest: Life | None = None
            highest: Life | None = None
            for life in lives:
                if longest is not None and life.start < longest.end:
                    yield Violation("one", "two activations at a time", self._shown(longest, life))
                if longest is None or life.end > longest.end:
                    longest = life
                if life.end == life.start:
                    continue  # its runner was stopped just before it: it never served
                if highest is not None and life.activated["epoch"] < highest.activated["epoch"]:
                    yield Violation("one", "an older epoch after a newer one", self._shown(highest, life))
                else:
                    highest = life
        for moment in self._history.of("began"):
            event = self._events[moment]
            owner = self._lives.by_name.get(event["activation"])
            if owner is not None and not owner.start <= moment <= owner.gone:
                yield Violation(
                    "one", "it handles messages when it does not live", [*self._shown(owner), event]
                )

    def _shown(self, *lives: Life) -> list[Event]:
        """What tells from when until when these lived."""
        shown: list[Event] = []
        for life in lives:
            shown.append(life.activated)
            if life.gone_by is not None:
                shown.append(life.gone_by)
            if life.served != life.start:
                shown.append(self._events[life.served])
            until = self._lives.leases.end(life.runner, life.served)
            if until <= life.gone and until < len(self._events):
                shown.append({"e": "lease ends", "at": self._events[until]["at"], "runner": life.runner})
        return shown

    def _expiry(self) -> Iterator[Violation]:
        for token, fates in self._fates.items():
            event = self._events[fates[0]]
            if not event["ok"] or token in self._to_all:
                continue
            candidates = self._sources(token, fates[0])
            if candidates and not any(self._publishable(moment, fates[0]) for moment in candidates):
                done = self._events[candidates[0]]
                life = self._lives.by_name[done["activation"]]
                what = "a reply of an activation that had ended, or whose lease had"
                yield Violation("expiry", what, [*self._shown(life), done, event])
        leases = self._lives.leases
        for moment in self._history.of("left"):
            event = self._events[moment]
            if not leases.running(event["runner"], moment):
                yield Violation("expiry", "answers left a runner whose lease had ended", [event])

    def _sources(self, token: str, fate: int) -> list[int]:
        """The ends of handlers from which this reply can be."""
        events, arrived = self._events, self._events[fate]
        return [
            moment
            for moment in self._done.get(token, ())
            if events[moment]["at"] <= arrived["at"]
            and events[moment]["value"] == arrived.get("value")
            and events[moment]["activation"] in self._lives.by_name
            and any(
                began <= moment and events[began]["activation"] == events[moment]["activation"]
                for began in self._began.get(token, ())
            )
        ]

    def _publishable(self, done: int, fate: int) -> bool:
        """Whether what ended at `done` could be published before `fate`."""
        life, leases = self._lives.by_name[self._events[done]["activation"]], self._lives.leases
        if not life.start <= done <= life.gone:
            return False
        if leases.running(life.runner, done):
            return True
        # Suspended: it may leave under a later lease, if the entity was still the runner's own by then.
        suspended, resumed = leases.end(life.runner, done), leases.next_start(life.runner, done)
        if resumed is None or resumed > min(life.gone, fate):
            return False
        return self._lives.others_between(life, suspended, resumed) is None

    def _one_fate(self) -> Iterator[Violation]:
        ends = self._history.of("end")
        for token, sent in self._sent.items():
            fates = self._fates.get(token, [])
            if len(fates) > 1:
                yield Violation("fate", "more than one fate", [sent, *(self._events[m] for m in fates)])
            elif not fates and sent["pid"] not in self._lives.killed:
                yield Violation("fate", "no fate", [sent])
            elif fates and ends and fates[0] > ends[0]:
                yield Violation("fate", "its fate came after the end", [sent, self._events[fates[0]]])

    def _double_run(self) -> Iterator[Violation]:
        for token, began in self._began.items():
            sent = self._sent.get(token)
            if len(began) > 1 and sent is not None and not sent["idempotent"] and not to_all(sent):
                yield Violation("double run", "it began more than once", self._story(token))

    def _true_reply(self) -> Iterator[Violation]:
        for token, fates in self._fates.items():
            event = self._events[fates[0]]
            if event["ok"]:
                if token not in self._to_all and not self._sources(token, fates[0]):
                    yield Violation("true reply", "no handler returned this before", self._story(token))
            elif event.get("may_have_run") is False and token in self._began:
                yield Violation("true reply", "it has not run, and it began", self._story(token))

    def _story(self, token: str) -> list[Event]:
        """All that the record knows of a message."""
        moments = [m for found in (self._began, self._done, self._fates) for m in found.get(token, ())]
        sent = self._sent.get(token)
        return [*([sent] if sent else []), *(self._events[m] for m in sorted(moments))]

    def _lived(self, moment: int) -> bool:
        """Whether the activation that did this was its address's one at that moment."""
        life = self._lives.by_name.get(self._events[moment]["activation"])
        return life is not None and moment < life.end

    def _sent_anew(self, broadcast: tuple[int, str, int], later: tuple[int, str, int]) -> bool:
        """Whether this is a broadcast that was sent again, for its runner was lost, to who lives at the next one.

        There it may meet an entity that had not come to life at the lost one when it arrived, and has handled later
        messages there since: what they did was lost with it.
        """
        sent = self._sent[broadcast[1]]
        if not (to_all(sent) and sent["idempotent"]):
            return False
        there, here = (
            self._lives.by_name[self._events[moment]["activation"]] for moment in (later[2], broadcast[2])
        )
        orderly = there.gone_by is not None and there.gone_by["e"] == "deactivated"
        return there is not here and not orderly and there.end <= here.start

    def _order(self) -> Iterator[Violation]:
        overall: dict[tuple[str, str, str], list[tuple[int, str, int]]] = defaultdict(list)
        within: dict[tuple[str, str], list[tuple[int, str, int]]] = defaultdict(list)
        for token, began in self._began.items():
            sent = self._sent.get(token)
            # What a stopped runner began that had lost its shard meanwhile is in nobody's order: it is not heard of.
            began = [moment for moment in began if self._lived(moment)]
            if sent is None or not began:
                continue
            seen: set[str | tuple[str, str]] = set()
            for moment in began:
                activation = self._events[moment]["activation"]
                address = self._lives.by_name[activation].address
                if address not in seen:
                    seen.add(address)
                    overall[sent["sender"], *address].append((sent["seq"], token, moment))
                if activation not in seen:
                    seen.add(activation)
                    within[sent["sender"], activation].append((sent["seq"], token, moment))
        for what, streams in (("over activations", overall), ("within an activation", within)):
            for stream in streams.values():
                stream.sort()
                latest = stream[0]
                for message in stream:
                    if message[2] < latest[2] and self._sent_anew(latest, message):
                        continue
                    if message[2] < latest[2]:
                        yield Violation(
                            "order",
                            f"a later message began before an earlier one, {what}",
                            [
                                self._sent[latest[1]],
                                self._sent[message[1]],
                                self._events[message[2]],
                                self._events[latest[2]],
                            ],
                        )
                    else:
                        latest = message
