"""Shard groups pinned to nodes, and how little the coordinator hears: on the stepped clock."""

from __future__ import annotations

import pytest

from cluster_app import ClusterConfig, Entity, RunnerNotRegistered, entity, message
from cluster_app.coordinator_service import CoordinatorService
from cluster_app.testing import MemoryCluster

CONFIG = ClusterConfig(groups={"gpu": {"GPU": 1}, "tpu": {"accelerator": "tpu"}})


class Located(Entity):
    @message
    def epoch_and_count(self) -> tuple[int, int]:
        return self.epoch


@entity(name="pinned.Anywhere")
class Anywhere(Located):
    """In a group without a rule."""


@entity(name="pinned.Gpu", group="gpu")
class Gpu(Located):
    """In a group that asks for a resource."""


@entity(name="pinned.Tpu", group="tpu")
class Tpu(Located):
    """In a group that asks for a label."""


def used(cluster: MemoryCluster, kind: type[Located]) -> None:
    """Forty entities of the type answer."""
    replies = [cluster.entity(kind, f"{n}").epoch_and_count.remote() for n in range(40)]
    for reply in replies:
        reply.result(timeout_s=10)


def shards(cluster: MemoryCluster) -> dict[str, int]:
    """How many shards each runner has."""
    return {runner.id: runner.shards for runner in cluster.status().runners}


def test_pinned_entities_live_on_the_nodes_that_have_what_they_ask_for() -> None:
    """And the others anywhere, there too."""
    with MemoryCluster(runners=1, config=CONFIG, nodes=[{"GPU": 2}, {}, {"accelerator": "tpu"}]) as cluster:
        first, second, third = (runner.id for runner in cluster.status().runners)
        before = shards(cluster)
        assert sum(before.values()) == 300
        used(cluster, Gpu)
        assert shards(cluster) == before | {first: before[first] + 300}
        used(cluster, Tpu)
        assert shards(cluster) == before | {first: before[first] + 300, third: before[third] + 300}
        used(cluster, Anywhere)
        assert min(before.values()) > 50
        assert second in before


def test_who_takes_a_runners_place_has_its_node() -> None:
    """A pinned entity lives again after its runner was killed, on the next one there."""
    with MemoryCluster(runners=1, config=CONFIG, nodes=[{}, {"GPU": 1}]) as cluster:
        used(cluster, Gpu)
        cluster.kill(cluster.status().runners[1].id)
        used(cluster, Gpu)
        assert max(shards(cluster).values()) > 300


def test_without_nodes_every_runner_has_whatever_is_asked() -> None:
    """A test of what entities do need not say what nodes have."""
    with MemoryCluster(runners=2, config=CONFIG) as cluster:
        used(cluster, Gpu)
        used(cluster, Tpu)
        assert sum(shards(cluster).values()) == 900


def test_a_message_that_no_node_may_serve_ends_at_its_deadline_and_says_what_is_asked() -> None:
    """Not before: a node that has it may join at any time. It did not run, and can be sent again."""
    with MemoryCluster(runners=1, config=CONFIG, nodes=[{}, {"GPU": 1}]) as cluster:
        reply = cluster.entity(Tpu, "1").epoch_and_count.options(timeout_s=5).remote()
        cluster.clock.advance(4.9)
        assert not reply.done()
        cluster.clock.advance(0.2)
        with pytest.raises(
            RunnerNotRegistered, match=r"'tpu' may only be on nodes with accelerator=tpu"
        ) as ended:
            reply.result(timeout_s=10)
        assert ended.value.retryable
        assert not ended.value.may_have_run
        used(cluster, Gpu)
        errors = cluster.metrics()
        assert errors.value("cluster_errors_total", entity_type="pinned.Tpu", type="RunnerNotRegistered") == 1


def test_a_cluster_has_a_node_at_least() -> None:
    """None would leave nobody to serve."""
    with pytest.raises(ValueError, match="at least 1 of each"):
        MemoryCluster(runners=2, nodes=[])


def test_the_coordinator_hears_no_more_of_many_messages_than_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same time, 100 times the messages: the same renewals, and as many questions where shards are."""
    asked: dict[str, int] = {}
    for name in ("renew", "routes", "register", "keep", "proven_dead"):
        plain = getattr(CoordinatorService, name)

        def counting(
            self: CoordinatorService, *args: object, _name: str = name, _plain: object = plain
        ) -> object:
            asked[_name] = asked.get(_name, 0) + 1
            return _plain(self, *args)  # type: ignore[operator]  # the method it stands for

        monkeypatch.setattr(CoordinatorService, name, counting)
    heard: list[dict[str, int]] = []
    for number in (100, 10_000):
        asked.clear()
        with MemoryCluster(runners=3) as cluster:
            for second in range(10):
                replies = [
                    cluster.entity(Anywhere, f"{n % 200}").epoch_and_count.remote()
                    for n in range(second * number // 10, (second + 1) * number // 10)
                ]
                for reply in replies:
                    reply.result(timeout_s=30)
                cluster.clock.advance(1.0)
            sent = cluster.metrics().value("cluster_messages_sent_total", entity_type="pinned.Anywhere")
            assert sent == number
            heard.append(dict(asked))
    assert heard[0] == heard[1]
    assert heard[0]["renew"] >= 3 * 10  # three runners, each more than once a second
