"""Many replies at once: `gather` and `as_completed`, with errors, with time running out, and inside handlers."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import pytest

from cluster_app import (
    Cluster,
    Entity,
    EntityResponse,
    HandlerError,
    as_completed,
    entity,
    gather,
    message,
)
from cluster_app.testing import MemoryCluster


@entity(name="gathering.Post")
class Post(Entity):
    """Answers, refuses, or keeps one waiting."""

    @message
    def echo(self, number: int) -> int:
        return number

    @message
    def refuse(self, number: int) -> int:
        raise ValueError(number)

    @message(blocking=True)
    def wait(self) -> int:
        waiting.wait(50)
        return 0

    @message
    def gather_here(self, other: str) -> list[int]:
        return gather(self.entity(Post, other).echo.remote(1))

    @message
    def as_completed_here(self, other: str) -> list[int]:
        return [reply.result() for reply in as_completed([self.entity(Post, other).echo.remote(1)])]

    @message(blocking=True)
    def gather_on_a_thread(self, other: str) -> list[int]:
        replies = [self.entity(Post, other).echo.remote(number) for number in range(5)]
        return [*gather(*replies), *sorted(reply.result() for reply in as_completed(replies))]


waiting = threading.Event()


@pytest.fixture
def kept(memory_cluster: MemoryCluster) -> Iterator[EntityResponse[int]]:
    """A reply that does not come before the test is over."""
    waiting.clear()
    yield memory_cluster.entity(Post, "kept").wait.remote()
    waiting.set()


def post(cluster: Cluster) -> Post:
    """One that no other test knows."""
    return cluster.entity(Post, uuid.uuid4().hex)


def test_gather_gives_values_in_the_order_given(cluster: Cluster) -> None:
    """Over many entities; none at all is an empty list; one given twice is there twice."""
    replies = [post(cluster).echo.remote(number) for number in range(50)]
    assert gather(*replies, timeout_s=30) == list(range(50))
    assert gather(replies[3], replies[3]) == [3, 3]
    assert gather() == []


def test_gather_raises_the_first_error_in_that_order(cluster: Cluster) -> None:
    """Not the first that came; the other replies are untouched by it."""
    one = post(cluster)
    replies = [one.echo.remote(0), one.refuse.remote(1), one.refuse.remote(2), one.echo.remote(3)]
    with pytest.raises(HandlerError, match="ValueError: 1"):
        gather(*replies, timeout_s=30)
    assert replies[3].result(30) == 3


def test_gather_gives_up_when_its_time_is_over(
    memory_cluster: MemoryCluster, kept: EntityResponse[int]
) -> None:
    """The built-in TimeoutError, and no error of the message's: that lives on."""
    done = post(memory_cluster).echo.remote(1)
    assert gather(done, timeout_s=30) == [1]
    with pytest.raises(TimeoutError, match="lives on"):
        gather(done, kept, timeout_s=0.01)
    assert not kept.done()
    waiting.set()
    assert gather(done, kept, timeout_s=30) == [1, 0]


def test_as_completed_gives_errors_as_replies(cluster: Cluster) -> None:
    """It raises none of them: each reply has its own."""
    one = post(cluster)
    replies = [one.refuse.remote(number) if number % 2 else one.echo.remote(number) for number in range(10)]
    outcomes = {}
    for reply in as_completed(replies, timeout_s=30):
        assert reply.done()
        outcomes[replies.index(reply)] = reply.exception() is None
    assert outcomes == {number: number % 2 == 0 for number in range(10)}
    assert list(as_completed([])) == []


def test_as_completed_says_how_many_are_missing(
    memory_cluster: MemoryCluster, kept: EntityResponse[int]
) -> None:
    """What came before was given; then TimeoutError, and the rest lives on."""
    arriving = as_completed([kept, post(memory_cluster).echo.remote(1)], timeout_s=0.05)
    assert next(arriving).result() == 1
    with pytest.raises(TimeoutError, match=r"1 of 2 replies were not there within 0\.05 s"):
        next(arriving)
    assert not kept.done()


def test_replies_that_are_there_are_given_with_no_time_left(cluster: Cluster) -> None:
    """Time is for waiting: what needs none gets through with none."""
    replies = [post(cluster).echo.remote(number) for number in range(5)]
    gather(*replies, timeout_s=30)
    assert gather(*replies, timeout_s=0.0) == list(range(5))
    assert sorted(reply.result() for reply in as_completed(replies, timeout_s=0.0)) == list(range(5))


@pytest.mark.parametrize("method", ["gather_here", "as_completed_here"])
def test_on_the_event_loop_they_refuse(cluster: Cluster, method: str) -> None:
    """They would wait for a reply that needs this very loop: RuntimeError at once, and the runner goes on."""
    one = post(cluster)
    with pytest.raises(HandlerError, match="would block the event loop") as caught:
        getattr(one, method).remote(uuid.uuid4().hex).result(30)
    assert type(caught.value.__cause__) is RuntimeError
    assert one.echo.remote(7).result(30) == 7


def test_in_a_blocking_handler_they_wait(cluster: Cluster) -> None:
    """It has a thread of its own for that."""
    assert post(cluster).gather_on_a_thread.remote(uuid.uuid4().hex).result(30) == [0, 1, 2, 3, 4] * 2
