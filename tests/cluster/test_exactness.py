"""After anything at all, the metrics are what the test itself has counted, to the unit."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cluster_app import Cancelled, Cluster, ClusterError, Entity, MailboxFull, entity, message
from cluster_app.testing import MemoryCluster

if TYPE_CHECKING:
    from tests.conftest import Counts


@entity(name="exact.Ledger", mailbox_capacity=5, max_idle_time=None)
class Ledger(Entity):
    """Books what it is told, refuses some, and goes when told."""

    def __init__(self) -> None:
        if self.address.id.endswith("broken"):
            raise ValueError("broken")
        self.booked = 0

    @message
    def book(self, amount: int) -> int:
        if amount < 0:
            raise ValueError("negative")
        self.booked += amount
        return self.booked

    @message
    async def hold(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @message
    async def pass_on(self, other: str, amount: int) -> int:
        return await self.entity(Ledger, other).book.remote(amount)

    @message
    def close(self) -> None:
        self.deactivate()


LEDGER = {"entity_type": "exact.Ledger"}


def test_a_long_mix_is_counted_to_the_unit(cluster: Cluster, counts: Counts) -> None:
    """Two thousand messages of every kind, at random: each counter is what the replies say."""
    cluster.register(Ledger)
    chosen = random.Random(7)
    run = uuid.uuid4().hex
    sent = received = nested = handled_ok = handled_error = 0
    errors: Counter[str] = Counter()
    activations = failed_activations = deactivations = 0
    live: set[str] = set()
    for _ in range(2000):
        name = f"{run}-{chosen.randrange(20)}"
        ledger: Any = cluster.entity(Ledger, name)
        what = chosen.choice(
            ["book"] * 6 + ["negative", "wrong", "broken", "past", "pass_on", "close", "nonsense"]
        )
        reply: Any
        if what == "book":
            reply = ledger.book.remote(1)
        elif what == "negative":
            reply = ledger.book.remote(-1)
        elif what == "wrong":
            reply = ledger.book.remote(1, 2, 3)
        elif what == "broken":
            reply = cluster.entity(Ledger, f"{run}-broken").book.remote(1)
        elif what == "past":
            reply = ledger.book.options(timeout_s=-1.0).remote(1)
        elif what == "pass_on":
            reply = ledger.pass_on.remote(f"{run}-other", 1)
        elif what == "close":
            reply = ledger.close.remote()
        else:
            reply = ledger.book.remote("much")
        sent += 1
        try:
            reply.result(30)
        except ClusterError as error:
            errors[error.reason] += 1
        if what in ("book", "negative", "wrong", "pass_on", "close", "nonsense"):
            activations += name not in live
            live.add(name)
        if what in ("book", "pass_on", "close"):
            received, handled_ok = received + 1, handled_ok + 1
        if what in ("negative", "nonsense"):
            received, handled_error = received + 1, handled_error + 1
        if what == "pass_on":
            nested += 1
            activations += f"{run}-other" not in live
            live.add(f"{run}-other")
        if what == "close":
            deactivations += 1
            live.discard(name)
        if what == "broken":
            failed_activations += 1
    assert set(errors) == {"HandlerError", "MalformedMessage", "ActivationFailed", "Timeout"}
    counts.refresh()
    assert counts.of("cluster_messages_sent_total", **LEDGER) == sent + nested
    assert counts.of("cluster_messages_received_total", **LEDGER) == received + nested
    for reason, count in errors.items():
        assert counts.of("cluster_errors_total", **LEDGER, type=reason) == count
    assert counts.of("cluster_errors_total", **LEDGER) == errors.total()
    assert counts.of("cluster_entity_activations_total", **LEDGER) == activations
    assert counts.of("cluster_entity_activation_seconds", **LEDGER, outcome="ok") == activations
    assert counts.of("cluster_entity_activation_seconds", **LEDGER, outcome="error") == failed_activations
    assert counts.of("cluster_entity_deactivations_total", **LEDGER, reason="explicit") == deactivations
    assert counts.of("cluster_entity_deactivations_total", **LEDGER) == deactivations
    assert counts.of("cluster_entity_lifetime_seconds", **LEDGER) == deactivations
    assert counts.of("cluster_handler_duration_seconds", **LEDGER, outcome="ok") == handled_ok + nested
    assert counts.of("cluster_handler_duration_seconds", **LEDGER, outcome="error") == handled_error
    assert counts.of("cluster_mailbox_wait_seconds", **LEDGER) == received + nested
    assert counts.of("cluster_entities", **LEDGER) == len(live)
    assert counts.of("cluster_redeliveries_total", **LEDGER) == 0
    assert counts.of("cluster_mailbox_depth", **LEDGER) == 0
    counts.check_invariants("exact.Ledger")


def test_what_is_in_flight_is_what_was_sent_and_not_settled(
    cluster: Cluster, counts: Counts, let_pass: Callable[[float], None]
) -> None:
    """While five messages wait, sent is ahead of the latencies by exactly these, and the gauges show them."""
    ledger = cluster.entity(Ledger, uuid.uuid4().hex)
    ledger.book.remote(1).result(30)
    held = ledger.hold.remote(0.5)
    waiting = [ledger.book.remote(1) for _ in range(4)]
    if isinstance(cluster, MemoryCluster):
        cluster.clock.settle()
    else:
        cluster.entity(Ledger, uuid.uuid4().hex).book.remote(1).result(30)  # behind them on the one lane
    counts.refresh()
    sent = counts.of("cluster_messages_sent_total", **LEDGER)
    assert sent - counts.of("cluster_message_latency_seconds", **LEDGER) == 5
    assert counts.of("cluster_messages_received_total", **LEDGER) == sent
    assert counts.of("cluster_mailbox_depth", **LEDGER) == 4
    let_pass(0.5)
    assert held.result(30) is None
    assert [reply.result(30) for reply in waiting] == [2, 3, 4, 5]
    counts.refresh()
    assert counts.of("cluster_mailbox_depth", **LEDGER) == 0
    counts.check_invariants("exact.Ledger")


def test_refused_and_cancelled_messages_are_counted_once(cluster: Cluster, counts: Counts) -> None:
    """One runs, five wait, four are refused; then all are cancelled: ten sent, six received, ten errors."""
    ledger = cluster.entity(Ledger, uuid.uuid4().hex)
    ledger.book.remote(1).result(30)
    replies: list[Any] = [ledger.hold.remote(20.0), *(ledger.book.remote(1) for _ in range(9))]
    for reply in replies[6:]:
        assert isinstance(_error(reply), MailboxFull)
    for reply in reversed(replies[:6]):
        reply.cancel()
        assert isinstance(_error(reply), Cancelled)
    counts.refresh()
    assert counts.of("cluster_messages_sent_total", **LEDGER) == 11
    assert counts.of("cluster_messages_received_total", **LEDGER) == 7
    assert counts.of("cluster_errors_total", **LEDGER, type="MailboxFull") == 4
    assert counts.of("cluster_errors_total", **LEDGER, type="Cancelled") == 6
    assert counts.of("cluster_message_latency_seconds", **LEDGER, outcome="ok") == 1
    counts.check_invariants("exact.Ledger")


def test_metrics_of_one_moment_do_not_change_by_being_read(cluster: Cluster) -> None:
    """Read twice with nothing between, every counter of ours is the same: a flush counts nothing twice."""
    cluster.entity(Ledger, uuid.uuid4().hex).book.remote(1).result(30)
    first, second = cluster.metrics(), cluster.metrics()
    for name in first.names():
        if name.endswith("_total") and "handoffs" not in name:
            assert first.value(name) == second.value(name), name


def _error(reply: Any) -> BaseException | None:
    try:
        reply.result(30)
    except ClusterError:
        return reply.exception()  # type: ignore[no-any-return]  # of a reply that is there
    return None
