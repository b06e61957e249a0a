"""A runner's renewals: answered, lost, late and refused. The coordinator is a fake whose answers the test gives."""

from __future__ import annotations

import concurrent.futures
import queue
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, RayTaskError

from cluster_app import ray_renewals
from cluster_app.coordinator import RunnerEnded
from cluster_app.grants import Lease, Renewal
from cluster_app.ray_renewals import Renewals
from cluster_app.tenure import Tenure

WAIT_S = 20.0
real_wait = concurrent.futures.wait
LEASE_S = 1.0


class Question(Future[Lease]):
    """One renewal under way; as an actor's method, a reference and its future all in one."""

    def future(self) -> Question:
        """Itself."""
        return self


class FakeCoordinator:
    """:ivar asked: the questions that it got and has not answered."""

    def __init__(self) -> None:
        self.asked: queue.Queue[Question] = queue.Queue()
        self.renew = self

    def remote(self, renewal: Renewal) -> Question:
        """As of an actor's method."""
        question = Question()
        self.asked.put(question)
        return question

    def next(self) -> Question:
        """The next question."""
        return self.asked.get(timeout=WAIT_S)


class Applied:
    """What a runner was told, on its event loop at once."""

    def __init__(self) -> None:
        self.told: queue.Queue[tuple[Lease, float]] = queue.Queue()

    def __call__(self, lease: Lease, sent_at: float, applied: threading.Event) -> None:
        self.told.put((lease, sent_at))
        applied.set()

    def next(self) -> tuple[Lease, float]:
        """The next answer, and when it was asked for."""
        return self.told.get(timeout=WAIT_S)


class Patience:
    """For how long an answer is waited for: until the test says that it is over.

    :ivar waits: for which questions, and for how long it would be.
    """

    def __init__(self) -> None:
        self.waits: queue.Queue[tuple[set[Future[Any]], float]] = queue.Queue()
        self._over: Future[None] = Future()

    def wait(self, asked: Iterable[Future[Any]], within_s: float, *_: object) -> tuple[set[Any], set[Any]]:
        """As `concurrent.futures.wait`."""
        self.waits.put((set(asked), within_s))
        over: Future[Any] = self._over
        done = real_wait([*asked, over], return_when=concurrent.futures.FIRST_COMPLETED).done
        if over in done:
            self._over = Future()
        return {future for future in done if future is not over}, set()

    def ends(self) -> None:
        """The answer is late."""
        self._over.set_result(None)


class Situation:
    """A runner that renews.

    :ivar coordinators: whom the coordinator's name leads to, one after the other; the last one stays.
    """

    def __init__(self) -> None:
        self.coordinators = [FakeCoordinator()]
        self.applied = Applied()
        self.patience = Patience()
        tenure = Tenure("runner-1", "node", guard_s=0.0)
        self.renewals = Renewals("spaces", LEASE_S, tenure.renewal, self.applied)

    def find(self, name: str, namespace: str) -> FakeCoordinator:
        """As `ray_calls.find_actor`."""
        return self.coordinators.pop(0) if len(self.coordinators) > 1 else self.coordinators[0]


def lease(version: int) -> Lease:
    """An answer that can be told from others."""
    return Lease(term=1, version=version, lease_s=LEASE_S, grants=None, release=frozenset())


@pytest.fixture
def situation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Situation]:
    """Its renewals begin when the test says so."""
    found = Situation()
    monkeypatch.setattr(ray_renewals, "find_actor", found.find)
    monkeypatch.setattr("concurrent.futures.wait", found.patience.wait)
    monkeypatch.setattr(ray_renewals, "_PAUSE_S", 0.001)
    yield found
    found.renewals.end()
    found.patience.ends()


def test_each_answer_is_followed_by_the_next_question(situation: Situation) -> None:
    """And by one only."""
    (coordinator,) = situation.coordinators
    situation.renewals.begin()
    for version in range(5):
        coordinator.next().set_result(lease(version))
        assert situation.applied.next()[0].version == version


def test_a_question_that_is_lost_is_asked_again_beside_it(situation: Situation) -> None:
    """Of the answer to the second one the lease counts from when that was asked."""
    (coordinator,) = situation.coordinators
    situation.renewals.begin()
    lost = coordinator.next()
    situation.patience.ends()
    again = coordinator.next()
    again.set_result(lease(1))
    told, sent_at = situation.applied.next()
    assert told.version == 1
    third = coordinator.next()
    third.set_result(lease(2))
    assert situation.applied.next()[1] > sent_at
    waits = [situation.patience.waits.get(timeout=WAIT_S) for _ in range(3)]
    # The lost one is forgotten: what it says at last tells nothing new, and would be followed by a question of its own.
    assert [asked for asked, _ in waits] == [{lost}, {lost, again}, {third}]
    # Longer than the coordinator holds a question without news.
    assert all(LEASE_S / 4 < within_s < LEASE_S for _, within_s in waits)


def test_an_answer_that_is_late_counts_from_when_it_was_asked_for(situation: Situation) -> None:
    """While another question is under way."""
    (coordinator,) = situation.coordinators
    situation.renewals.begin()
    late = coordinator.next()
    situation.patience.ends()
    again = coordinator.next()
    late.set_result(lease(1))
    _, first_at = situation.applied.next()
    again.set_result(lease(2))
    assert situation.applied.next()[1] > first_at
    third = coordinator.next()
    third.set_result(lease(3))
    assert situation.applied.next()[0].version == 3
    # No other is asked beside the second one, which is in time: else there would be two under way for good.
    waits = [situation.patience.waits.get(timeout=WAIT_S)[0] for _ in range(4)]
    assert waits == [{late}, {late, again}, {again}, {third}]


def test_only_so_many_are_asked_at_once(situation: Situation) -> None:
    """The oldest are given up for the newest: a coordinator that stands still keeps none alive."""
    (coordinator,) = situation.coordinators
    situation.renewals.begin()
    asked = [coordinator.next()]
    for _ in range(4):
        situation.patience.ends()
        asked.append(coordinator.next())
    asked[0].set_result(lease(1))
    asked[1].set_result(lease(2))
    assert situation.applied.next()[0].version == 2


@pytest.mark.parametrize("silent", [False, True], ids=["fails", "is silent"])
def test_a_coordinator_that_does_not_answer_is_looked_for_again(situation: Situation, silent: bool) -> None:
    """Its name may lead to another actor by then."""
    first, second = FakeCoordinator(), FakeCoordinator()
    situation.coordinators[:] = [first, second]
    situation.renewals.begin()
    question = first.next()
    if silent:
        situation.patience.ends()
    else:
        question.set_exception(ActorUnavailableError("away", None))
    second.next().set_result(lease(1))
    assert situation.applied.next()[0].version == 1


def test_a_runner_that_counts_as_ended_ends_at_once(
    situation: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may serve its shards by now."""
    codes: queue.Queue[int] = queue.Queue()

    def leave(code: int) -> None:
        codes.put(code)
        situation.renewals.end()

    monkeypatch.setattr("os._exit", leave)
    error: Any = RayTaskError
    (coordinator,) = situation.coordinators
    situation.renewals.begin()
    coordinator.next().set_exception(error("renew", "its traceback", RunnerEnded("runner-1")))
    assert codes.get(timeout=WAIT_S) == 1
