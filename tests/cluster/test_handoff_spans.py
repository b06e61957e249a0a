"""The spans of shards that change runner; in memory, on the stepped clock, so that times are exact."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from cluster_app import DrainTimeout, Entity, entity, message
from cluster_app.testing import MemoryCluster
from observe import sampling
from observe.spans import INTERNAL, Span

SECOND = 1_000_000_000


@entity(name="moving.Clerk", max_idle_time=None)
class Clerk(Entity):
    """Takes its time."""

    @message
    async def work(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds


@pytest.fixture
def wanted() -> Iterator[Callable[..., None]]:
    """Say by variables whether traces are wanted."""

    def say(**environ: str) -> None:
        sampling.begin(environ, anew=True)

    yield say
    sampling.begin(anew=True)


def moves(cluster: MemoryCluster) -> list[Span]:
    """The spans of handoffs, those of whole moves first."""
    spans = [span for span in cluster.spans() if span.name == "hand over" or span.name.startswith("handoff ")]
    return sorted(spans, key=lambda span: (span.parent is not None, span.start_ns))


def test_a_drain_is_one_span_and_one_for_its_runner(
    memory_cluster: MemoryCluster, wanted: Callable[..., None]
) -> None:
    """However many shards move. It says how many, from where, and which handler it had to wait for."""
    clerks = [memory_cluster.entity(Clerk, f"clerk-{n}") for n in range(20)]
    for clerk in clerks:
        clerk.work.remote(0.0).result(30)
    wanted(OTEL_TRACES_SAMPLER="always_on")
    busy = [clerk.work.remote(2.0) for clerk in clerks[:1]]
    memory_cluster.clock.settle()
    drained = next(
        name for name, memory in memory_cluster._memory._runners.items() if memory.runner.running()
    )
    before = {runner.id: runner.shards for runner in memory_cluster.status().runners}
    began = memory_cluster._loop.time()

    with pytest.raises(DrainTimeout):
        memory_cluster.drain(drained, timeout_s=1.0)
    assert moves(memory_cluster) == []  # it goes on
    memory_cluster.drain(drained, timeout_s=30.0)
    wanted()

    assert busy[0].result(1) == 2.0
    whole, part = moves(memory_cluster)
    assert (whole.name, whole.kind, whole.parent, whole.ok) == ("handoff drain", INTERNAL, None, None)
    assert part.name == "hand over" and part.parent == whole.context
    assert part.context.trace_id == whole.context.trace_id
    for span in (whole, part):
        assert span.attributes["cluster.handoff.reason"] == "drain"
        assert span.attributes["cluster.handoff.shards"] == before[drained]
        assert span.attributes["cluster.handoff.errors"] == 0
        assert span.attributes["cluster.outcome"] == "ok"
        assert span.attributes["cluster.handoff.longest_s"] == pytest.approx(2.0, abs=0.1)
        assert str(span.attributes["cluster.handoff.longest_shard"]).startswith("default:")
        assert span.start_ns == pytest.approx(began * SECOND, abs=SECOND // 20)
        assert span.end_ns - span.start_ns == pytest.approx(2 * SECOND, abs=SECOND // 10)
    assert whole.attributes["cluster.node"] == "node-1"
    assert whole.attributes["cluster.handoff.runners"] == 1
    assert part.attributes["cluster.runner"] == drained
    (held_up,) = part.attributes["cluster.handoff.held_up"]
    assert held_up.startswith("moving.Clerk/clerk-0.work 2.0")


def test_a_lost_runner_and_the_one_that_joins_in_its_place(
    memory_cluster: MemoryCluster, wanted: Callable[..., None]
) -> None:
    """Two traces: what was lost, and what then goes to the new one from those that are left."""
    memory_cluster.entity(Clerk, "clerk").work.remote(0.0).result(30)
    wanted(OTEL_TRACES_SAMPLER="always_on")
    lost, stays = sorted(runner.id for runner in memory_cluster.status().runners)
    memory_cluster.kill(lost)
    memory_cluster.clock.advance(5.0)
    roots = {span.name: span for span in moves(memory_cluster) if span.parent is None}
    parts = {
        str(span.attributes["cluster.runner"]): span
        for span in moves(memory_cluster)
        if span.parent is not None
    }
    assert set(roots) <= {"handoff lost", "handoff join"} and "handoff lost" in roots
    assert parts[lost].parent == roots["handoff lost"].context
    counted = memory_cluster.metrics()
    for name, span in roots.items():
        reason = name.removeprefix("handoff ")
        moved = counted.value("cluster_shard_handoffs_total", reason=reason)
        assert span.attributes["cluster.handoff.shards"] == moved
    if "handoff join" in roots:
        assert parts[stays].parent == roots["handoff join"].context
        assert "cluster.node" not in roots["handoff join"].attributes


def test_a_runner_that_dies_while_it_is_drained_is_an_error(
    memory_cluster: MemoryCluster, wanted: Callable[..., None]
) -> None:
    """The shards that it had been asked for and still had were lost with it."""
    clerk = memory_cluster.entity(Clerk, "clerk")
    clerk.work.remote(0.0).result(30)
    wanted(OTEL_TRACES_SAMPLER="always_on")
    clerk.work.remote(60.0)
    memory_cluster.clock.settle()
    drained = next(
        name for name, memory in memory_cluster._memory._runners.items() if memory.runner.running()
    )
    with pytest.raises(DrainTimeout):
        memory_cluster.drain(drained, timeout_s=1.0)
    memory_cluster.kill(drained)
    memory_cluster.clock.advance(5.0)
    whole = next(span for span in moves(memory_cluster) if span.name == "handoff drain")
    assert whole.ok is False and "1 of " in whole.says
    assert (whole.attributes["cluster.outcome"], whole.attributes["cluster.handoff.errors"]) == ("error", 1)


def test_without_traces_nothing_is_kept_of_handoffs(
    memory_cluster: MemoryCluster, wanted: Callable[..., None]
) -> None:
    """Neither where no variable asks for traces, nor where the sampler says never."""
    for environ in ({}, {"OTEL_TRACES_SAMPLER": "always_off"}):
        wanted(**environ)
        memory_cluster.drain(memory_cluster.status().runners[0].id)
        spans = memory_cluster._memory._service[0]._spans
        assert not spans.under_way and not spans._held_up and not spans._nodes
        memory_cluster.clock.advance(5.0)
    assert moves(memory_cluster) == []
