"""What is part of a trace, and what its spans say; in memory, on the stepped clock, so that times are exact."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from cluster_app import (
    ActivationFailed,
    CallCycle,
    ClusterConfig,
    ClusterError,
    Entity,
    HandlerError,
    MailboxFull,
    MalformedMessage,
    RunnerUnavailable,
    Timeout,
    entity,
    message,
)
from cluster_app.testing import MemoryCluster
from observe import sampling
from observe.spans import CONSUMER, INTERNAL, PRODUCER, Span

SECOND = 1_000_000_000


@entity(name="traces.Stop", max_idle_time=None)
class Stop(Entity):
    """One stop of a chain."""

    @message
    async def go(self, *rest: str) -> int:
        await asyncio.sleep(1.0)
        on = await self.entity(Stop, rest[0]).go.remote(*rest[1:]) if rest else 0
        await asyncio.sleep(1.0)
        return on + 1

    @message
    def now(self) -> str:
        return "now"

    @message(idempotent=True)
    async def wait_safely(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @message
    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @message
    async def fail(self) -> None:
        raise KeyError("no such gate")

    @message
    async def note(self) -> bool:
        mine = trace.get_current_span()
        mine.set_attribute("gate", 7)
        mine.add_event("boarded", {"seats": 3})
        mine.update_name("boarding")
        return mine.is_recording()

    @message(blocking=True)
    def on_thread(self, other: str) -> str:
        trace.get_current_span().set_attribute("thread", threading.current_thread().name)
        return self.entity(Stop, other).now.remote().result()

    @message
    async def back(self, other: str) -> None:
        await self.entity(Stop, other).back.remote(self.address.id)

    @message
    async def bear(self, sampled: bool) -> str:
        own = SpanContext(7, 8, is_remote=False, trace_flags=TraceFlags(int(sampled)))
        token = context.attach(trace.set_span_in_context(NonRecordingSpan(own)))
        try:
            return await self.entity(Stop, "born").now.remote()
        finally:
            context.detach(token)


@entity(name="traces.Slow", max_idle_time=None)
class Slow(Entity):
    """Takes its time to come to life."""

    async def on_activate(self) -> None:
        trace.get_current_span().set_attribute("waking", True)
        await asyncio.sleep(2.0)
        await self.entity(Stop, "alarm").now.remote()

    @message
    def now(self) -> str:
        return "now"


@entity(name="traces.Still", max_idle_time=None)
class Still(Entity):
    """Never comes to life."""

    def __init__(self) -> None:
        raise ValueError("stillborn")

    @message
    def now(self) -> str:
        return "now"


@entity(name="traces.Far", hosting="actor", max_idle_time=None)
class Far(Entity):
    """Has a process of its own."""

    @message
    async def go(self, other: str) -> str:
        trace.get_current_span().set_attribute("here", "far")
        return await self.entity(Stop, other).now.remote()

    @message
    async def fail(self) -> None:
        raise KeyError("no such gate")


@pytest.fixture
def wanted() -> Iterator[Callable[..., None]]:
    """Say by variables which messages begin a trace."""

    def want(**environ: str) -> None:
        sampling.begin(environ, anew=True)

    yield want
    sampling.begin(anew=True)


@pytest.fixture
def all_wanted(wanted: Callable[..., None]) -> None:
    """Every message is part of a trace."""
    wanted(OTEL_TRACES_SAMPLER="always_on")


def by_name(cluster: MemoryCluster) -> dict[str, Span]:
    """The spans there are, none of whose names occurs twice."""
    spans = cluster.spans()
    found = {span.name: span for span in spans}
    assert len(found) == len(spans), sorted(span.name for span in spans)
    return found


def of_name(cluster: MemoryCluster, name: str) -> list[Span]:
    """All spans of a name, by their start."""
    return sorted((span for span in cluster.spans() if span.name == name), key=lambda span: span.start_ns)


def is_child(child: Span, parent: Span) -> bool:
    """Whether a span belongs under another: same trace, its parent, within its time."""
    return (
        child.parent is not None
        and child.parent.span_id == parent.context.span_id
        and child.context.trace_id == parent.context.trace_id
        and parent.start_ns <= child.start_ns <= child.end_ns <= parent.end_ns
    )


def on_two_runners(cluster: MemoryCluster) -> tuple[str, str, str]:
    """The ids of three stops: the first two on different runners, the third on that of the second."""
    homes: dict[str, list[str]] = {}
    routes = cluster._memory._service[0].coordinator.routes()
    assert routes is not None
    for number in range(20):
        stop = cluster.entity(Stop, f"s{number}")
        owner, _ = routes.owners[stop.now.slot.shard]  # type: ignore[attr-defined]  # behind the type is a message
        homes.setdefault(owner, []).append(f"s{number}")
    one, other = homes.values()
    return one[0], other[0], other[1]


@pytest.mark.usefixtures("all_wanted")
def test_a_chain_over_two_runners_is_one_trace(memory_cluster: MemoryCluster) -> None:
    """Driver to A to B to C: each span under the one that caused it, and in its time; by lanes and within a runner."""
    a, b, c = on_two_runners(memory_cluster)
    began_ns = round(memory_cluster.clock.now() * SECOND)
    reply = memory_cluster.entity(Stop, a).go.remote(b, c)
    memory_cluster.clock.advance(10.0)
    assert reply.result() == 3
    spans = memory_cluster.spans()
    sent = {span.attributes["cluster.entity.id"]: span for span in spans if span.kind == PRODUCER}
    taken = {span.attributes["cluster.entity.id"]: span for span in spans if span.kind == CONSUMER}
    born = {span.attributes["cluster.entity.id"]: span for span in spans if span.kind == INTERNAL}
    assert set(sent) == set(taken) == set(born) == {a, b, c} and len(spans) == 9
    assert sent[a].parent is None
    assert is_child(taken[a], sent[a]) and is_child(sent[b], taken[a])
    assert is_child(taken[b], sent[b]) and is_child(sent[c], taken[b]) and is_child(taken[c], sent[c])
    assert all(is_child(born[stop], taken[stop]) for stop in (a, b, c))
    assert [(span.start_ns - began_ns) / SECOND for span in (sent[a], sent[b], sent[c])] == [0, 1, 2]
    assert [(span.end_ns - began_ns) / SECOND for span in (taken[a], taken[b], taken[c])] == [6, 5, 4]
    assert taken[a].attributes["cluster.runner"] != taken[b].attributes["cluster.runner"]
    assert taken[b].attributes["cluster.runner"] == taken[c].attributes["cluster.runner"]


@pytest.mark.usefixtures("all_wanted")
def test_spans_say_what_was_sent_and_where_it_went(memory_cluster: MemoryCluster) -> None:
    """Address, method, shard, runner and outcome, by the conventions for messaging where these have a word."""
    assert memory_cluster.entity(Stop, "x").now.remote().result() == "now"
    found = by_name(memory_cluster)
    sent, taken = found["send traces.Stop.now"], found["process traces.Stop.now"]
    shared = {
        "messaging.system": "cluster_app",
        "messaging.destination.name": "traces.Stop",
        "cluster.entity.type": "traces.Stop",
        "cluster.entity.id": "x",
        "cluster.method": "now",
        "cluster.outcome": "ok",
    }
    for span in (sent, taken):
        assert shared.items() <= span.attributes.items()
        assert span.ok is None and not span.links
    runners = {runner.id for runner in memory_cluster.status().runners}
    assert sent.attributes["cluster.runner"] == taken.attributes["cluster.runner"] in runners
    assert sent.attributes["cluster.shard"] == taken.attributes["cluster.shard"]
    assert (sent.kind, sent.attributes["messaging.operation.type"]) == (PRODUCER, "send")
    assert (taken.kind, taken.attributes["messaging.operation.type"]) == (CONSUMER, "process")
    assert taken.attributes["messaging.message.id"].startswith(sent.attributes["messaging.client.id"])
    assert taken.remote and not found["activate traces.Stop"].remote


@pytest.mark.usefixtures("all_wanted")
def test_the_wait_in_the_mailbox_is_seen(memory_cluster: MemoryCluster) -> None:
    """A consumer's span begins with acceptance; its handler's start is an event."""
    stop = memory_cluster.entity(Stop, "busy")
    stop.wait.remote(3.0)
    stop.now.remote()
    memory_cluster.clock.advance(5.0)
    (waited,) = of_name(memory_cluster, "process traces.Stop.now")
    (event,) = waited.events
    assert (event.name, event.at_ns - waited.start_ns) == ("handler started", 3 * SECOND)
    assert waited.end_ns - waited.start_ns == 3 * SECOND


@pytest.mark.usefixtures("all_wanted")
def test_coming_to_life_is_part_of_the_message_that_caused_it(memory_cluster: MemoryCluster) -> None:
    """Its span lasts as long as `on_activate`, and what that sends is under it."""
    reply = memory_cluster.entity(Slow, "one").now.remote()
    memory_cluster.clock.advance(3.0)
    assert reply.result() == "now"
    (born,) = of_name(memory_cluster, "activate traces.Slow")
    (taken,) = of_name(memory_cluster, "process traces.Slow.now")
    (alarm,) = of_name(memory_cluster, "send traces.Stop.now")
    assert is_child(born, taken) and is_child(alarm, born)
    assert born.end_ns - born.start_ns == 2 * SECOND and born.attributes["waking"] is True


@pytest.mark.usefixtures("all_wanted")
def test_an_entity_that_cannot_come_to_life_says_why(memory_cluster: MemoryCluster) -> None:
    """The activation's span has the error, and so have those of its message."""
    with pytest.raises(ActivationFailed):
        memory_cluster.entity(Still, "one").now.remote().result()
    found = by_name(memory_cluster)
    assert len(found) == 3
    for span in found.values():
        assert (span.ok, span.attributes["error.type"]) == (False, "ActivationFailed"), span.name
    (raised,) = found["activate traces.Still"].events
    assert raised.attributes["exception.type"] == "entities.errors.ActivationFailed"


@pytest.mark.usefixtures("all_wanted")
def test_what_is_sent_again_has_a_span_of_its_own(memory_cluster: MemoryCluster) -> None:
    """It links to the first, is within its time, and what the next runner does is under it."""
    stop = memory_cluster.entity(Stop, "again")
    reply = stop.wait_safely.remote(3.0)
    memory_cluster.clock.advance(1.0)
    (runner,) = {runner.id for runner in memory_cluster.status().runners if runner.entities}
    memory_cluster.kill(runner)
    memory_cluster.clock.advance(10.0)
    assert reply.result() is None
    (first,) = of_name(memory_cluster, "send traces.Stop.wait_safely")
    again = of_name(memory_cluster, "resend traces.Stop.wait_safely")
    # What the killed runner had of it died with it.
    (taken,) = of_name(memory_cluster, "process traces.Stop.wait_safely")
    assert all(is_child(span, first) for span in again)
    assert is_child(taken, again[-1])
    assert [link.context for span in again for link in span.links] == [first.context] * len(again)
    reasons = [link.attributes["cluster.redelivery.reason"] for span in again for link in span.links]
    assert reasons == ["RunnerUnavailable", *["EntityNotAssignedToRunner"] * (len(again) - 1)]
    assert [span.end_ns for span in again] == [*(span.start_ns for span in again[1:]), first.end_ns]
    assert [span.ok for span in again] == [*[False] * (len(again) - 1), None]
    assert first.attributes["cluster.runner"] == taken.attributes["cluster.runner"] != runner
    counted = memory_cluster.metrics().value("cluster_redeliveries_total", entity_type="traces.Stop")
    assert counted == len(again) > 0


@pytest.mark.usefixtures("all_wanted")
def test_a_message_that_moves_before_its_turn_is_seen_at_both_runners(memory_cluster: MemoryCluster) -> None:
    """Sent back by a runner that is drained, its first span there ends with that."""
    stop = memory_cluster.entity(Stop, "moved")
    stop.wait.remote(5.0)
    reply = stop.now.remote()
    memory_cluster.clock.advance(1.0)
    (runner,) = {runner.id for runner in memory_cluster.status().runners if runner.entities}
    memory_cluster.drain(runner)
    assert reply.result() == "now"
    before, after = of_name(memory_cluster, "process traces.Stop.now")
    again = of_name(memory_cluster, "resend traces.Stop.now")[-1]
    assert [event.name for event in before.events] == ["sent back"]
    assert before.attributes["cluster.runner"] == runner != after.attributes["cluster.runner"]
    assert "cluster.outcome" not in before.attributes and is_child(after, again)


@pytest.mark.usefixtures("all_wanted")
def test_a_broadcast_is_one_span_with_one_for_each_target(memory_cluster: MemoryCluster) -> None:
    """The targets' spans are under it, whichever shard and runner they came by."""
    for number in range(5):
        memory_cluster.entity(Stop, f"t{number}").now.remote().result()
    result = memory_cluster.broadcast(Stop, "note").result()
    assert (result.delivered, result.failed) == (5, 0)
    (sent,) = of_name(memory_cluster, "broadcast traces.Stop.note")
    taken = of_name(memory_cluster, "boarding")
    assert {span.attributes["cluster.entity.id"] for span in taken} == {f"t{number}" for number in range(5)}
    assert all(is_child(span, sent) and span.kind == CONSUMER for span in taken)
    assert sent.parent is None and sent.kind == PRODUCER
    assert (sent.attributes["cluster.delivered"], sent.attributes["cluster.failed"]) == (5, 0)


@pytest.mark.usefixtures("all_wanted")
def test_a_broadcast_that_cannot_be_sent_ends_its_span(memory_cluster: MemoryCluster) -> None:
    """With the error of its reply."""
    with pytest.raises(MalformedMessage):
        memory_cluster.broadcast(Stop, "nothing").result()
    (sent,) = memory_cluster.spans()
    assert (sent.name, sent.attributes["error.type"]) == ("broadcast traces.Stop.nothing", "MalformedMessage")


@pytest.mark.parametrize(
    ("reason", "ask"),
    [
        (HandlerError, lambda stop: stop.fail.remote()),
        (MalformedMessage, lambda stop: stop.now.remote("more")),
        (Timeout, lambda stop: stop.wait.options(timeout_s=2.0).remote(60.0)),
        (CallCycle, lambda stop: stop.back.remote("other")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.usefixtures("all_wanted")
def test_an_error_has_the_label_that_metrics_give_it(
    memory_cluster: MemoryCluster, reason: type[ClusterError], ask: Callable[[Stop], object]
) -> None:
    """`error.type` is the reason, and the span's status is an error, wherever the error came from."""
    reply = ask(memory_cluster.entity(Stop, "wrong"))
    memory_cluster.clock.advance(10.0)
    assert reply.done()  # type: ignore[attr-defined]
    spans = [span for span in memory_cluster.spans() if span.kind == PRODUCER]
    types = {span.attributes.get("error.type") for span in spans}
    assert reason.reason in types and all(span.ok is False for span in spans)
    counted = memory_cluster.metrics()
    for label in types:
        assert counted.value("cluster_errors_total", type=str(label)) == len(
            [span for span in spans if span.attributes["error.type"] == label]
        )


@pytest.mark.usefixtures("all_wanted")
def test_what_a_handler_raised_is_on_its_span(memory_cluster: MemoryCluster) -> None:
    """As the user's own exception, with its traceback, and not as what wraps it on the way."""
    with pytest.raises(HandlerError):
        memory_cluster.entity(Stop, "x").fail.remote().result()
    (taken,) = of_name(memory_cluster, "process traces.Stop.fail")
    raised = taken.events[-1]
    assert (raised.name, raised.attributes["exception.type"]) == ("exception", "KeyError")
    assert 'raise KeyError("no such gate")' in raised.attributes["exception.stacktrace"]


def test_a_full_mailbox_is_on_both_spans(wanted: Callable[..., None]) -> None:
    """Also the runner that refused says so."""
    wanted(OTEL_TRACES_SAMPLER="always_on")

    @entity(name="traces.Tight", mailbox_capacity=1)
    class Tight(Entity):
        @message
        async def wait(self) -> None:
            await asyncio.sleep(1.0)

    with MemoryCluster(runners=1) as cluster:
        tight = cluster.entity(Tight, "x")
        replies = [tight.wait.remote() for _ in range(3)]
        cluster.clock.advance(5.0)
        assert isinstance(replies[2].exception(), MailboxFull)
        for name in ("send traces.Tight.wait", "process traces.Tight.wait"):
            assert [span.attributes.get("error.type") for span in of_name(cluster, name)].count(
                "MailboxFull"
            ) == 1


@pytest.mark.usefixtures("all_wanted")
def test_a_lost_runner_ends_the_senders_span(memory_cluster: MemoryCluster) -> None:
    """With RunnerUnavailable; what the runner had of it is gone with the runner."""
    reply = memory_cluster.entity(Stop, "lost").wait.remote(60.0)
    memory_cluster.clock.advance(1.0)
    (runner,) = {runner.id for runner in memory_cluster.status().runners if runner.entities}
    memory_cluster.kill(runner)
    assert isinstance(reply.exception(), RunnerUnavailable)
    (sent,) = of_name(memory_cluster, "send traces.Stop.wait")
    assert (sent.attributes["error.type"], sent.attributes["cluster.runner"]) == ("RunnerUnavailable", runner)


@pytest.mark.usefixtures("all_wanted")
def test_the_current_span_of_a_handler_is_its_own(memory_cluster: MemoryCluster) -> None:
    """What user code adds to it is there: attributes, events, another name."""
    assert memory_cluster.entity(Stop, "x").note.remote().result() is True
    (span,) = of_name(memory_cluster, "boarding")
    assert span.attributes["gate"] == 7
    assert [(event.name, event.attributes) for event in span.events] == [
        ("handler started", {}),
        ("boarded", {"seats": 3}),
    ]


@pytest.mark.usefixtures("all_wanted")
def test_a_blocking_handler_is_in_its_trace_on_its_thread(memory_cluster: MemoryCluster) -> None:
    """The current span there is the handler's, and what it sends is under it."""
    assert memory_cluster.entity(Stop, "x").on_thread.remote("y").result(20) == "now"
    (taken,) = of_name(memory_cluster, "process traces.Stop.on_thread")
    (sent,) = of_name(memory_cluster, "send traces.Stop.now")
    assert is_child(sent, taken)
    assert taken.attributes["thread"].startswith("entity-handler")
    assert [event.name for event in taken.events] == ["handler started"]


@pytest.mark.usefixtures("all_wanted")
def test_a_process_of_its_own_is_in_the_trace(memory_cluster: MemoryCluster) -> None:
    """The runner's span of the message, below it the process's, below that what the entity sends."""
    assert memory_cluster.entity(Far, "f").go.remote("near").result() == "now"
    (sent,) = of_name(memory_cluster, "send traces.Far.go")
    (taken,) = of_name(memory_cluster, "process traces.Far.go")
    (handled,) = of_name(memory_cluster, "handle traces.Far.go")
    (near,) = of_name(memory_cluster, "send traces.Stop.now")
    assert is_child(taken, sent) and is_child(handled, taken) and is_child(near, handled)
    assert handled.attributes["here"] == "far" and handled.remote
    (owners,) = of_name(memory_cluster, "activate traces.Far")
    (there,) = of_name(memory_cluster, "begin traces.Far")
    assert is_child(owners, taken) and is_child(there, owners)
    with pytest.raises(HandlerError):
        memory_cluster.entity(Far, "f").fail.remote().result()
    for name in ("send", "process", "handle"):
        (failed,) = of_name(memory_cluster, f"{name} traces.Far.fail")
        assert failed.attributes["error.type"] == "HandlerError"


def test_nothing_is_traced_unless_it_is_wanted(
    memory_cluster: MemoryCluster, wanted: Callable[..., None]
) -> None:
    """Not by an endpoint that metrics share, not when the sampler says never, not when all is off."""
    for environ in (
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"},
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
        {"OTEL_TRACES_SAMPLER": "always_on", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_SAMPLER": "always_on", "OTEL_SDK_DISABLED": "true"},
    ):
        wanted(**environ)
        reply = memory_cluster.entity(Stop, "a").go.remote("b")
        memory_cluster.clock.advance(10.0)
        assert reply.result() == 2
        memory_cluster.broadcast(Stop, "now").result()
    assert memory_cluster.spans() == []


@pytest.mark.parametrize("sampled", [True, False])
def test_the_senders_current_span_decides(
    memory_cluster: MemoryCluster, wanted: Callable[..., None], sampled: bool
) -> None:
    """Its message and all that follows from it is in its trace if it is sampled, else in none; its state goes along."""
    wanted()
    state = trace.TraceState([("vendor", "v1")])
    own = SpanContext(1 << 100, 5, is_remote=False, trace_flags=TraceFlags(int(sampled)), trace_state=state)
    token = context.attach(trace.set_span_in_context(NonRecordingSpan(own)))
    try:
        reply = memory_cluster.entity(Stop, "a").go.remote("b")
        broadcast = memory_cluster.broadcast(Stop, "now")
    finally:
        context.detach(token)
    memory_cluster.clock.advance(10.0)
    assert reply.result() == 2 and broadcast.done()
    spans = memory_cluster.spans()
    assert bool(spans) is sampled
    assert {span.context.trace_id for span in spans} <= {1 << 100}
    assert {span.context.state for span in spans} <= {"vendor=v1"}
    roots = {span.name for span in spans if span.parent is not None and span.parent.span_id == 5}
    assert roots == ({"send traces.Stop.go", "broadcast traces.Stop.now"} if sampled else set())


def test_what_is_sent_in_a_span_that_is_not_sampled_begins_no_trace(
    memory_cluster: MemoryCluster, wanted: Callable[..., None]
) -> None:
    """Also where every other message does."""
    wanted(OTEL_TRACES_SAMPLER="parentbased_always_on")
    own = SpanContext(7, 8, is_remote=False, trace_flags=TraceFlags(0))
    token = context.attach(trace.set_span_in_context(NonRecordingSpan(own)))
    try:
        reply = memory_cluster.entity(Stop, "a").now.remote()
    finally:
        context.detach(token)
    assert reply.result() == "now" and memory_cluster.spans() == []
    assert memory_cluster.entity(Stop, "a").now.remote().result() == "now"
    assert sorted(by_name(memory_cluster)) == ["process traces.Stop.now", "send traces.Stop.now"]


def test_a_message_that_is_carried_on_twice_is_drawn_once(
    memory_cluster: MemoryCluster, wanted: Callable[..., None]
) -> None:
    """Held until its type is known: when it was first carried on it was not to begin a trace, and so it stays."""
    wanted()
    reply = memory_cluster.entity(Stop, "a").now.remote()
    assert not reply.done()
    wanted(OTEL_TRACES_SAMPLER="always_on")
    assert reply.result() == "now" and memory_cluster.spans() == []


def test_other_things_in_the_context_begin_no_trace(
    memory_cluster: MemoryCluster, wanted: Callable[..., None]
) -> None:
    """Baggage alone is no span."""
    wanted()
    token = context.attach(baggage.set_baggage("user", "ada"))
    try:
        assert memory_cluster.entity(Stop, "a").now.remote().result() == "now"
    finally:
        context.detach(token)
    assert memory_cluster.spans() == []


def test_what_an_untraced_message_causes_begins_no_trace(
    memory_cluster: MemoryCluster, wanted: Callable[..., None]
) -> None:
    """Not to trace it was decided at its sender; only a span that its handler begins itself is honoured."""
    wanted()
    memory_cluster.entity(Stop, "a").now.remote().result()
    wanted(OTEL_TRACES_SAMPLER="always_off")
    reply = memory_cluster.entity(Stop, "a").go.remote("b")
    wanted(OTEL_TRACES_SAMPLER="always_on")
    memory_cluster.clock.advance(10.0)
    assert reply.result() == 2 and memory_cluster.spans() == []
    wanted()
    for sampled in (False, True):
        assert memory_cluster.entity(Stop, "a").bear.remote(sampled).result() == "now"
    assert sorted(by_name(memory_cluster)) == ["process traces.Stop.now", "send traces.Stop.now"]
    assert {span.context.trace_id for span in memory_cluster.spans()} == {7}


@pytest.mark.usefixtures("all_wanted")
def test_one_handlers_trace_is_not_the_next_ones(
    memory_cluster: MemoryCluster, wanted: Callable[..., None]
) -> None:
    """Handlers share a context while they leave nothing in it; a traced one does."""
    stop = memory_cluster.entity(Stop, "a")
    stop.now.remote().result()
    before = len(memory_cluster.spans())
    wanted()
    reply = memory_cluster.entity(Stop, "a").go.remote("b")
    memory_cluster.clock.advance(10.0)
    assert reply.result() == 2
    assert len(memory_cluster.spans()) == before


@pytest.mark.usefixtures("all_wanted")
def test_traced_messages_are_counted_as_all_others(memory_cluster: MemoryCluster) -> None:
    """Sent, received, latency and errors; and each latency that is sampled has its exemplar."""
    stop = memory_cluster.entity(Stop, "a")
    for _ in range(3):
        stop.now.remote().result()
    with pytest.raises(HandlerError):
        stop.fail.remote().result()
    counted = memory_cluster.metrics()
    assert counted.value("cluster_messages_sent_total", entity_type="traces.Stop") == 4
    assert counted.value("cluster_messages_received_total", entity_type="traces.Stop") == 4
    assert counted.value("cluster_message_latency_seconds", outcome="ok") == 3
    assert counted.value("cluster_errors_total", type="HandlerError") == 1
    exemplars = memory_cluster._memory.traces.exemplars.all()
    last = of_name(memory_cluster, "send traces.Stop.now")[-1]
    (kept,) = exemplars["cluster_message_latency_seconds", ("traces.Stop", "send", "ok")]
    assert kept.trace_id in {
        span.context.trace_id for span in of_name(memory_cluster, "send traces.Stop.now")
    }
    assert (kept.value, kept.at_ns) == (0.0, last.end_ns)


def test_order_is_kept_between_traced_and_untraced_messages(wanted: Callable[..., None]) -> None:
    """Messages of one sender to one entity are handled in the order sent, whichever of them are sampled."""
    wanted(OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0.5")

    @entity(name="traces.Ordered", max_idle_time=None)
    class Ordered(Entity):
        def __init__(self) -> None:
            self.seen: list[int] = []

        @message
        def put(self, number: int) -> None:
            self.seen.append(number)

        @message
        def all(self) -> list[int]:
            return self.seen

    with MemoryCluster(runners=2, config=ClusterConfig(batch_messages=7)) as cluster:
        ordered = cluster.entity(Ordered, "x")
        for number in range(300):
            ordered.put.remote(number)
        assert ordered.all.remote().result() == list(range(300))
        traced = len(of_name(cluster, "send traces.Ordered.put"))
        assert 0 < traced < 300  # either has a chance of 2**-300
        assert cluster.metrics().value("cluster_messages_sent_total", entity_type="traces.Ordered") == 301
