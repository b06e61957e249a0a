"""Shards move under load: a node joins, or is drained. No message fails."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import pytest

from cluster_app import Cluster, ClusterConfig, Entity, EntityResponse, entity, message
from cluster_app.ray_calls import boottime
from tests.exact_metrics import exact_metrics
from tests.nodes.load import Load, violations
from tests.nodes.recorded import Account
from tests.nodes.several_nodes import SeveralNodes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(150)]

P99_IN_THE_DRAIN_S = 0.25
_TICK_S = 0.01


@entity(max_idle_time=None)
class Short(Entity):
    """Its handler is as short as can be."""

    @message
    def echo(self, number: int) -> int:
        return number


class Stream:
    """Messages at an even rate, each reply checked; not recorded, for that would be most of the work.

    :ivar took: by message that was answered well: when it was sent, and after how many seconds.
    :ivar wrong: what else became of messages.
    """

    def __init__(self, cluster: Cluster, per_s: float) -> None:
        self.took: list[tuple[float, float]] = []
        self.wrong: list[object] = []
        self.sent = 0
        self._entities = [cluster.entity(Short, f"short-{number}") for number in range(300)]
        self._batch = max(1, round(per_s * _TICK_S))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        deadline = time.monotonic() + 60
        while len(self.took) + len(self.wrong) < self.sent and time.monotonic() < deadline:
            time.sleep(0.01)

    def _send(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            for _ in range(self._batch):
                self.send_one()
            due += _TICK_S
            time.sleep(max(0.0, due - time.monotonic()))

    def send_one(self) -> None:
        """One more message."""
        number, self.sent = self.sent, self.sent + 1
        reply: Any = self._entities[number % len(self._entities)].echo.remote(number)
        reply.add_done_callback(self._heard(number, boottime()))

    def _heard(self, number: int, sent_at: float) -> Callable[[EntityResponse[Any]], None]:
        def heard(reply: EntityResponse[Any]) -> None:
            error = reply.exception()
            if error is None and reply.result() == number:
                self.took.append((sent_at, boottime() - sent_at))
            else:
                self.wrong.append(error or (number, reply.result()))

        return heard

    def p99_s(self, since: float, until: float) -> float:
        """The 99th percentile of what messages took that were sent then."""
        took = sorted(seconds for sent_at, seconds in self.took if since <= sent_at < until)
        assert len(took) > 200, f"{len(took)} messages say little about a percentile"
        return took[math.ceil(0.99 * len(took)) - 1]


def full_load_per_s(cluster: Cluster, seconds: float = 2.0, under_way: int = 2000) -> float:
    """How many of these messages a second this cluster and sender manage, each as the stream's is sent and checked."""
    entities = [cluster.entity(Short, f"short-{number}") for number in range(300)]
    for reply in [one.echo.remote(0) for one in entities]:
        reply.result(timeout_s=30)
    stream = Stream(cluster, 0.0)
    since = time.monotonic()
    while time.monotonic() - since < seconds:
        for _ in range(under_way):
            stream.send_one()
        while len(stream.took) < stream.sent:
            assert not stream.wrong, stream.wrong[0]
            time.sleep(0.0005)
    return stream.sent / (time.monotonic() - since)


def test_a_node_drained_under_half_of_full_load_fails_no_message_and_holds_none_up(
    nodes: SeveralNodes, namespace: str, record_property: Callable[[str, object], None]
) -> None:
    """The 99th percentile of what messages take in the drain stays below a quarter of a second."""
    with nodes.cluster(ClusterConfig(), namespace) as cluster:
        status = nodes.settled(cluster)
        node = nodes.node_ids[1]
        full_per_s = full_load_per_s(cluster)
        with Stream(cluster, full_per_s / 2) as stream:
            began_at = boottime()
            while boottime() - began_at < 1.0:
                time.sleep(0.05)
            drained_at = boottime()
            result = cluster.drain(node, timeout_s=60)
            over_at = boottime()
            # What was sent at its very end is part of it too.
            while boottime() - over_at < 0.5:
                time.sleep(0.05)
        before, p99 = stream.p99_s(began_at, drained_at), stream.p99_s(drained_at, boottime())
        told = {
            "full load, messages/s": round(full_per_s),
            "messages": stream.sent,
            "drain, s": round(over_at - drained_at, 2),
            "p99 before, ms": round(before * 1000, 1),
            "p99 in the drain, ms": round(p99 * 1000, 1),
        }
        record_property("drain", told)
        print(told)
        cluster.undrain(node)
        assert result.shards == nodes.runner_on(status, node).shards
        assert stream.wrong == []
        assert len(stream.took) == stream.sent
        assert p99 < P99_IN_THE_DRAIN_S


def test_a_node_that_joins_under_load_takes_its_share_and_nothing_else_moves(
    nodes: SeveralNodes, namespace: str, record_property: Callable[[str, object], None]
) -> None:
    """No message fails; entities of shards that stay where they are live on."""
    with nodes.cluster(ClusterConfig(lease_s=2.0), namespace) as cluster:
        before = nodes.settled(cluster)
        accounts = [cluster.entity(Account, f"joined-{number}") for number in range(60)]
        was = {account: nodes.home_of(before, "Account", f"joined-{n}") for n, account in enumerate(accounts)}
        with Load(namespace, accounts, per_s=200) as load:
            load.answered(200)
            joined_at = boottime()
            nodes.add_node()
            after = nodes.settled(cluster)
            took_s = boottime() - joined_at
            load.answered(200)
        moved = [
            account
            for number, account in enumerate(accounts)
            if nodes.home_of(after, "Account", f"joined-{number}") != was[account]
        ]
        newcomer = nodes.runner_on(after, nodes.node_ids[-1])
        shares = {r.node_id: (r.shards, newcomer.shards) for r in before.runners}
        record_property("join", {"seconds": round(took_s, 2), "shards moved": newcomer.shards})
        print(
            f"joined and settled in {took_s:.1f} s; {newcomer.shards} shards moved; {len(moved)} of 60 entities"
        )
        metrics = exact_metrics(cluster)
        found = violations(namespace, cluster)
        nodes.remove_node(nodes.node_ids[-1])  # its counts go with it
        assert load.errors() == []
        assert found == []
        assert 0 < len(moved) < 40 and all(
            nodes.home_of(before, "Account", account._address.id) != newcomer.node_id  # type: ignore[attr-defined]
            for account in moved
        )
        assert metrics.value("cluster_entity_activations_total", entity_type="Account") == 60 + len(moved)
        assert metrics.value("cluster_shard_handoffs_total", reason="join", outcome="ok") >= newcomer.shards
        assert len(shares) == 3
