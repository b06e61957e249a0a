"""Ray's object references and references to entities, in messages and in replies."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from cluster_app import Cluster, Entity, HandlerError, entity, message
from tests.conftest import Counts

pytestmark = pytest.mark.ray


@entity(max_idle_time=None)
class Librarian(Entity):
    def __init__(self) -> None:
        self.asked = 0

    @message
    def kind_of(self, thing: Any, *, other: Any = None) -> tuple[str, str]:
        return type(thing).__name__, type(other).__name__

    @message
    async def weigh(self, book: Any) -> int:
        self.asked += 1
        return len(book)

    @message(blocking=True)
    def weigh_slowly(self, book: Any, *, other: Any = b"") -> int:
        return len(book) + len(other)

    @message
    async def read(self, shelf: dict[str, Any]) -> tuple[str, int]:
        (book,) = shelf["books"]
        return type(book).__name__, await book

    @message
    def lend(self, value: int) -> dict[str, Any]:
        return {"book": ray.put(value)}

    @message
    def lend_alone(self, value: int) -> Any:
        return ray.put(value)

    @message
    async def ask(self, colleague: Librarian, times: int) -> int:
        for _ in range(times):
            await colleague.weigh.remote(b"four")
        return times

    @message
    def colleague(self, name: str) -> Any:
        return self.entity(Librarian, name)

    @message
    def questions(self) -> int:
        return self.asked


@ray.remote
def broken() -> None:
    """A task whose result is an error."""
    raise LookupError("no such book")


def test_a_top_level_object_is_resolved_and_a_nested_one_is_not(ray_cluster: Cluster) -> None:
    """As in a Ray call: the handler gets the object itself, but inside a container the reference."""
    librarian = ray_cluster.entity(Librarian, "resolves")
    book = ray.put(42)
    reference = type(book).__name__
    assert librarian.kind_of.remote(book, other=book).result(timeout_s=20) == ("int", "int")
    assert librarian.kind_of.remote([book], other={"book": book}).result(timeout_s=10) == ("list", "dict")
    assert librarian.read.remote({"books": [book]}).result(timeout_s=10) == (reference, 42)
    assert librarian.weigh.remote(ray.put(bytes(20_000_000))).result(timeout_s=20) == 20_000_000


def test_a_blocking_handler_gets_the_object_itself(ray_cluster: Cluster) -> None:
    """It is fetched before a thread is taken."""
    librarian = ray_cluster.entity(Librarian, "resolves on a thread")
    reply = librarian.weigh_slowly.remote(ray.put(b"book"), other=ray.put(b"other"))
    assert reply.result(timeout_s=20) == 9


def test_messages_with_objects_keep_their_place(ray_cluster: Cluster) -> None:
    """Among a hundred messages, each with an object of its own or none, every handler gets its own."""
    librarian = ray_cluster.entity(Librarian, "order")
    replies = [
        librarian.weigh.remote(ray.put(bytes(n)) if n % 2 else bytes(n))
        if n % 3
        else librarian.read.remote({"books": [ray.put(n)]})
        for n in range(100)
    ]
    for n, reply in enumerate(replies):
        found = reply.result(timeout_s=20)
        assert (found if isinstance(found, int) else found[1]) == n


def test_a_reply_may_hold_an_object(ray_cluster: Cluster) -> None:
    """A reference in a reply stays one, alone or nested, and its object can be had as long as it is kept."""
    librarian = ray_cluster.entity(Librarian, "lends")
    lent = [librarian.lend.remote(n) for n in range(10)]
    alone = librarian.lend_alone.remote(10)
    books = [reply.result(timeout_s=20)["book"] for reply in lent] + [alone.result(timeout_s=10)]
    assert ray.get(books, timeout=20) == list(range(11))


def test_an_object_that_is_an_error_fails_its_message_alone(ray_cluster: Cluster) -> None:
    """When the task behind a top-level reference failed, the handler never starts and the reply says why."""
    librarian = ray_cluster.entity(Librarian, "error")
    failed = librarian.weigh.remote(broken.remote())
    with pytest.raises(HandlerError, match="no such book"):
        failed.result(timeout_s=20)
    with pytest.raises(HandlerError, match="no such book"):
        librarian.weigh_slowly.remote(broken.remote()).result(timeout_s=20)
    assert librarian.weigh.remote(b"1").result(timeout_s=10) == 1
    assert librarian.questions.remote().result(timeout_s=10) == 1


def test_references_to_entities_travel(ray_cluster: Cluster) -> None:
    """One sent in a message works on the runner, one that comes in a reply works here; both equal the address."""
    counts = Counts(ray_cluster)
    first = ray_cluster.entity(Librarian, "first")
    second = ray_cluster.entity(Librarian, "second")
    assert first.ask.remote(second, 3).result(timeout_s=20) == 3
    assert second.questions.remote().result(timeout_s=10) == 3
    arrived = first.colleague.remote("second").result(timeout_s=10)
    assert arrived == second
    assert arrived.questions.remote().result(timeout_s=10) == 3
    counts.refresh()
    assert counts.of("cluster_messages_sent_total", entity_type="Librarian") == 7
    assert counts.of("cluster_messages_received_total", entity_type="Librarian") == 7
    counts.check_invariants("Librarian")


def test_a_reference_in_a_reply_belongs_to_the_connection_it_came_by(
    ray_cluster: Cluster, own_ray_cluster: Cluster
) -> None:
    """With two clusters connected, what one of them answers leads back to it and not to the latest."""
    there = ray_cluster.entity(Librarian, "two-clusters")
    counts = Counts(ray_cluster)
    arrived = there.colleague.remote("known-there").result(timeout_s=20)
    assert arrived.weigh.remote(b"123").result(timeout_s=20) == 3
    counts.refresh()
    assert counts.of("cluster_messages_sent_total", entity_type="Librarian") == 2
    assert own_ray_cluster.metrics().value("cluster_messages_sent_total") == 0
