"""Random right records pass, and random changes to them that break a rule are found."""

from __future__ import annotations

import copy
import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.chaos.checker import check
from tests.chaos.history import Event, History
from tests.unit.chaos.forged import Forgery, rules_broken

IDS = ("a", "b", "c")


class Play:
    """A cluster of three runners that keeps its promises, with a die to decide what happens."""

    def __init__(self, die: random.Random) -> None:
        self.die = die
        self.forged = Forgery("r1", "r2", "r3")
        self.runners = ["r1", "r2", "r3"]
        self.born = 3
        self.waiting: dict[str, deque[str]] = {entity_id: deque() for entity_id in IDS}
        self.running: dict[str, str] = {}
        self.idempotent: set[str] = set()
        self.begun: set[str] = set()

    def step(self) -> None:
        """One more thing happens."""
        steps = [self.send, self.begin, self.begin, self.finish, self.finish, self.passivate, self.suspend]
        weights = [30, 30, 30, 30, 30, 3, 3]
        self.die.choices([*steps, self.kill], [*weights, 3])[0]()
        for runner in self.runners:
            if self.forged.until[runner] - self.forged.at < 1.0:
                self.forged.renew(runner)

    def send(self) -> None:
        entity_id, idempotent = self.die.choice(IDS), self.die.random() < 0.3
        token = self.forged.send(entity_id, idempotent=idempotent)
        self.waiting[entity_id].append(token)
        if idempotent:
            self.idempotent.add(token)

    def begin(self) -> None:
        ready = [entity_id for entity_id in IDS if self.waiting[entity_id] and entity_id not in self.running]
        if not ready:
            return
        entity_id = self.die.choice(ready)
        token = self.waiting[entity_id].popleft()
        if self.die.random() < 0.1:
            self.forged.fail(token, "Timeout", may_have_run=token in self.begun)
            return
        if entity_id not in self.forged.lives:
            self.forged.activate(self.die.choice(self.runners), entity_id)
        self.forged.begin(token)
        self.begun.add(token)
        self.running[entity_id] = token

    def finish(self) -> None:
        if not self.running:
            return
        entity_id = self.die.choice(sorted(self.running))
        token = self.running.pop(entity_id)
        if self.die.random() < 0.1:
            self.forged.fail(token, "HandlerError")
            return
        self.forged.finish(token)
        self.forged.answer(token)

    def passivate(self) -> None:
        for entity_id in sorted(self.forged.lives.keys() - self.running.keys())[:1]:
            self.forged.deactivate(entity_id, self.die.choice(["idle", "handoff", "explicit"]))

    def lose(self, runner: str) -> None:
        """What ran on a runner did for the last time."""
        for entity_id, token in sorted(self.running.items()):
            if self.forged.lives[entity_id][0] == runner:
                del self.running[entity_id]
                if token in self.idempotent:
                    self.waiting[entity_id].appendleft(token)
                    self.forged.count("redeliveries_total", reason="lost")
                else:
                    self.forged.fail(token)

    def suspend(self) -> None:
        runner = self.die.choice(self.runners)
        self.forged.lapse(runner, *[other for other in self.runners if other != runner])
        if self.die.random() < 0.5:
            self.lose(runner)
            for entity_id, (home, _) in list(self.forged.lives.items()):
                if home == runner:
                    del self.forged.lives[entity_id]
        self.forged.renew(runner)

    def kill(self) -> None:
        runner = self.die.choice(self.runners)
        self.lose(runner)
        self.forged.kill(runner)
        self.born += 1
        self.runners[self.runners.index(runner)] = fresh = f"r{self.born}"
        self.forged.renew(fresh)

    def end(self) -> list[Event]:
        """Let everything come to its end."""
        self.forged.count(
            "messages_sent_total", 0, operation="send"
        )  # also a record of nothing has its counts
        while self.running or any(self.waiting.values()):
            self.begin()
            self.finish()
        return self.forged.end()


def right_record(seed: int, steps: int) -> list[Event]:
    """A record that breaks nothing."""
    play = Play(random.Random(seed))
    for _ in range(steps):
        play.step()
    return play.end()


seeds = st.integers(0, 2**32)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(seeds, st.integers(10, 300))
def test_right_records_pass(seed: int, steps: int) -> None:
    """Suspensions that are survived and those that are not, moves, kills, errors and redeliveries."""
    violations = check(History(right_record(seed, steps)))
    assert not violations, "\n".join(map(str, violations))


Change = Callable[[list[Event], random.Random], bool]


def _one_of(events: list[Event], die: random.Random, wanted: Callable[[Event], bool]) -> int | None:
    found = [number for number, event in enumerate(events) if wanted(event)]
    return die.choice(found) if found else None


def _answered(event: Event) -> bool:
    return event["e"] == "fate" and bool(event["ok"])


def lose_a_fate(events: list[Event], die: random.Random) -> bool:
    """A message is never answered."""
    number = _one_of(events, die, lambda event: event["e"] == "fate")
    if number is not None:
        del events[number]
    return number is not None


def answer_twice(events: list[Event], die: random.Random) -> bool:
    """A reply settles once more."""
    number = _one_of(events, die, lambda event: event["e"] == "fate")
    if number is not None:
        events.insert(number + 1, dict(events[number]))
    return number is not None


def run_twice(events: list[Event], die: random.Random) -> bool:
    """A message that is not idempotent begins again."""
    once = {event["token"] for event in events if event["e"] == "sent" and not event["idempotent"]}
    number = _one_of(events, die, lambda event: event["e"] == "began" and event["token"] in once)
    if number is not None:
        events.insert(number + 1, dict(events[number]))
    return number is not None


def forge_a_value(events: list[Event], die: random.Random) -> bool:
    """Another value arrives than was returned."""
    number = _one_of(events, die, _answered)
    if number is not None:
        events[number]["value"] = "forged"
    return number is not None


def deny_a_run(events: list[Event], die: random.Random) -> bool:
    """What began is said not to have run."""
    began = {event["token"] for event in events if event["e"] == "began"}
    number = _one_of(
        events, die, lambda event: event["e"] == "fate" and not event["ok"] and event["token"] in began
    )
    if number is not None:
        events[number]["may_have_run"] = False
    return number is not None


def live_twice(events: list[Event], die: random.Random) -> bool:
    """While one serves, another comes to life."""
    number = _one_of(events, die, lambda event: event["e"] == "began")
    if number is None:
        return False
    began = events[number]
    life = next(e for e in events if e["e"] == "activated" and e["activation"] == began["activation"])
    events.insert(number, {**life, "at": began["at"], "activation": "second", "epoch": [9, 9]})
    return True


def overtake(events: list[Event], die: random.Random) -> bool:
    """Two messages in a row to one entity change places."""
    began: dict[str, list[int]] = {}
    seen: set[str] = set()
    place = {event["token"]: event["id"] for event in events if event["e"] == "sent"}
    for number, event in enumerate(events):
        if event["e"] == "began" and event["token"] not in seen:
            seen.add(event["token"])
            began.setdefault(place[event["token"]], []).append(number)
    pairs = [pair for numbers in began.values() for pair in itertools.pairwise(numbers)]
    if not pairs:
        return False
    one, other = die.choice(pairs)
    events[one]["token"], events[other]["token"] = events[other]["token"], events[one]["token"]
    return True


def answer_without_a_lease(events: list[Event], die: random.Random) -> bool:
    """A runner is not renewed before a handler ends, nor afterwards."""
    number = _one_of(events, die, lambda event: event["e"] == "done")
    if number is None or not any(_answered(e) and e["token"] == events[number]["token"] for e in events):
        return False
    done = events[number]
    home = next(e for e in events if e["e"] == "activated" and e["activation"] == done["activation"])
    for event in events:
        if event["e"] == "lease" and event["runner"] == home["runner"]:
            event["until"] = min(event["until"], done["at"] - 0.001)
    return True


def count_wrong(events: list[Event], die: random.Random) -> bool:
    """A metric is off by one."""
    if not any(event["e"] == "sent" for event in events):
        return False  # of no type that was used
    number = _one_of(
        events,
        die,
        lambda event: (
            event["e"] == "counts"
            and event["name"].split("_")[1] in ("messages", "message", "errors")
            and "received" not in event["name"]
        ),
    )
    if number is not None:
        events[number]["value"] += die.choice([-1, 1])
    return number is not None


@pytest.mark.parametrize(
    "change, rule",
    [
        (lose_a_fate, "fate"),
        (answer_twice, "fate"),
        (run_twice, "double run"),
        (forge_a_value, "true reply"),
        (deny_a_run, "true reply"),
        (live_twice, "one"),
        (overtake, "order"),
        (answer_without_a_lease, "expiry"),
        (count_wrong, "counts"),
    ],
    ids=lambda found: found if isinstance(found, str) else found.__name__,
)
def test_a_changed_record_is_found_out(change: Change, rule: str) -> None:
    """Whatever the record, a change that breaks a rule is found under the name of that rule."""
    changed = 0

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.differing_executors],
    )
    @given(seeds, st.integers(10, 200))
    def found_out(seed: int, steps: int) -> None:
        nonlocal changed
        events = copy.deepcopy(right_record(seed, steps))
        if change(events, random.Random(seed)):
            changed += 1
            assert rule in rules_broken(events)

    found_out()
    assert changed > 30


class CountedEvents(list[Event]):
    """Events that count how often one of them is looked at."""

    looks = 0

    def __getitem__(self, index: Any) -> Any:
        self.looks += 1
        return super().__getitem__(index)


def test_no_rule_compares_everything_with_everything() -> None:
    """A record of eight times the length costs about eight times the looks at events."""

    def looks(steps: int) -> float:
        history = History(right_record(7, steps))
        history.events = counted = CountedEvents(history.events)
        assert check(history) == []
        assert counted.looks > len(history)
        return counted.looks

    assert looks(16_000) < 10 * looks(2_000)
