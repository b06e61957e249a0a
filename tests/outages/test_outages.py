"""A collector that is away, slow or refuses, and an agent that is killed: no message fails, and no count is lost."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayError

from cluster_app import Cluster, Entity, entity, gather, message
from cluster_app.status import TelemetryStatus
from tests.ray.seen import seen
from tests.telemetry.collector import Collector, free_port
from tests.telemetry.exporting_ray import cluster_that_exports
from tests.telemetry.receiver import Arrived, Receiver

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(150)]

OUTAGE_S = 15.0
GROWTH_BYTES = 8_000_000
SENT = "cluster_messages_sent_total"
HTTP = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}


@entity(max_idle_time=None)
class Clerk(Entity):
    def __init__(self) -> None:
        self.letters = 0

    @message
    def write(self) -> int:
        self.letters += 1
        return self.letters


class Load:
    """Messages without end, each answer checked.

    :ivar sent: how many have been answered.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self.sent = 0
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self.failure is None, self.failure

    def _run(self) -> None:
        clerk = self._cluster.entity(Clerk, "x")
        try:
            while not self._stop.wait(0.02):
                replies = [clerk.write.remote() for _ in range(50)]
                answers = gather(*replies, timeout_s=30)
                assert answers == list(range(self.sent + 1, self.sent + 51))
                self.sent += 50
        except BaseException as error:
            self.failure = error


def telemetry(
    cluster: Cluster, condition: Callable[[TelemetryStatus], bool], within_s: float
) -> TelemetryStatus:
    """What the node says of its export, once that is so."""
    status = seen(
        cluster, lambda status: any(condition(state) for state in status.telemetry), within_s=within_s
    )
    return status.telemetry[0]


def agent_pid(cluster: Cluster, *, other_than: int = 0) -> int:
    """The process of the node's agent, once that is another one."""
    if other_than:
        name = AGENTS[other_than]
    else:  # it may be just starting
        name = (
            f"agent-{seen(cluster, lambda status: bool(status.telemetry), within_s=30).telemetry[0].node_id}"
        )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            agent: Any = ray.get_actor(name, namespace="cluster_app")
            pid: Any = ray.get(agent.pid.remote(), timeout=20)
        except RayError:
            continue  # it restarts
        if pid != other_than:
            AGENTS[int(pid)] = name
            return int(pid)
    raise AssertionError("no other agent")


AGENTS: dict[int, str] = {}


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def lines_of_failure() -> list[str]:
    """What agents of this Ray have logged of exports that failed."""
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())  # type: ignore[attr-defined]
    return [
        line
        for log in logs.glob("worker-*.err")
        for line in log.read_text(errors="replace").splitlines()
        if "does not leave by" in line or "opentelemetry" in line.lower()
    ]


@contextmanager
def no_growth(pid: int) -> Iterator[None]:
    """What the agent takes of memory does not grow in this block."""
    before = memory(pid)
    yield
    assert memory(pid) - before < GROWTH_BYTES


def passed(seconds: float) -> Callable[[Any], bool]:
    """A condition that comes true after that time."""
    until = time.monotonic() + seconds
    return lambda _: time.monotonic() > until


def all_has_arrived(cluster: Cluster, receiver: Receiver) -> None:
    """The cumulative count is that of the cluster, within seconds."""
    expected = cluster.metrics().value(SENT, entity_type="Clerk")
    assert receiver.wait_for(lambda: receiver.total(SENT, entity_type="Clerk") == expected, 15.0), expected
    starts = {point.start_ns for point in receiver.points if point.kind != "gauge"}
    assert len(starts) == 1, "one start through everything"


def test_a_collector_that_is_stopped_for_a_while(tmp_path: Path) -> None:
    """Every message is answered, one line is logged, memory stays; then the cumulative values are exact."""
    collector = Collector(tmp_path)
    try:
        with cluster_that_exports(collector.environment("grpc")) as cluster:
            with Load(cluster) as load:
                telemetry(cluster, lambda state: state.exports > 2, 20)
                before = load.sent
                collector.stop()
                with no_growth(agent_pid(cluster)):
                    telemetry(cluster, lambda state: state.failures > 0, 20)
                    seen(cluster, passed(OUTAGE_S), within_s=OUTAGE_S + 5)
                assert load.sent > before
                collector.start()
                telemetry(cluster, lambda state: state.failures == 0, 30)
            all_has_arrived(cluster, collector.receiver)
            assert len(lines_of_failure()) == 1, lines_of_failure()
            cluster.shutdown()
    finally:
        collector.close()


def test_a_collector_that_is_slow_or_refuses() -> None:
    """Five seconds for an answer, then refusals: nobody but the agent's own thread waits, and nothing is lost."""
    receiver = Receiver()
    try:
        with cluster_that_exports({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, **HTTP}) as cluster:
            with Load(cluster) as load:
                telemetry(cluster, lambda state: state.exports > 2, 20)
                with no_growth(agent_pid(cluster)):
                    receiver.delay_s, asked, before = 5.0, receiver.requests, load.sent
                    assert receiver.wait_for(lambda: receiver.requests > asked + 1, 20)
                    assert load.sent > before
                    receiver.delay_s, receiver.status = 0.0, 400
                    state = telemetry(cluster, lambda state: state.failures > 2, 20)
                assert "400" in state.error
                receiver.status = 503
                telemetry(cluster, lambda state: "503" in state.error or "Unavailable" in state.error, 30)
                receiver.status = 200
                telemetry(cluster, lambda state: state.failures == 0, 20)
            all_has_arrived(cluster, receiver)
            assert len(lines_of_failure()) == 1, lines_of_failure()
            cluster.shutdown()
    finally:
        receiver.close()


def test_a_collector_that_was_never_there() -> None:
    """Every message is answered, the status says why nothing leaves, and the end is not held up for long."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    with cluster_that_exports({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}) as cluster:
        with Load(cluster) as load:
            state = telemetry(cluster, lambda state: state.failures > 0, 30)
            assert (state.exports, state.last_success_unix_s) == (0, None)
            assert state.endpoint == endpoint
            assert "UNAVAILABLE" in state.error
            with no_growth(agent_pid(cluster)):  # the first attempt has loaded what exports need, some 10 MB
                seen(cluster, passed(OUTAGE_S), within_s=OUTAGE_S + 5)
        assert cluster.metrics().value(SENT, entity_type="Clerk") == load.sent
        assert len(lines_of_failure()) == 1, lines_of_failure()
        started = time.monotonic()
        cluster.shutdown()
        assert time.monotonic() - started < 15.0


def test_a_killed_agent_neither_loses_nor_doubles_a_delta() -> None:
    """Killed between what it has acknowledged to processes and its next export, again and again."""
    receiver = Receiver()
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
        "OTEL_METRIC_EXPORT_INTERVAL": "2500",
        **HTTP,
    }
    try:
        with cluster_that_exports(environment) as cluster:
            with Load(cluster):
                pid = agent_pid(cluster)
                for _ in range(3):
                    telemetry(cluster, lambda state: state.exports > 0, 30)
                    asked = receiver.requests
                    cluster.metrics()  # everybody has reported, and the agent has acknowledged it
                    assert receiver.requests == asked, "no export is under way"
                    os.kill(pid, signal.SIGKILL)
                    pid = agent_pid(cluster, other_than=pid)
            expected = cluster.metrics().value(SENT, entity_type="Clerk")
            cluster.shutdown()
        assert receiver.total(SENT, entity_type="Clerk") == expected
        deltas = [point for point in receiver.points if point.name == SENT]
        assert all(point.delta for point in deltas)
        spans = sorted((point.start_ns, point.at_ns) for point in deltas)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    finally:
        receiver.close()


@contextmanager
def killed_in_the_answer(pid: int, done: threading.Event) -> Iterator[None]:
    """Have a process get an answer, and never know: it is stopped before that leaves, and killed after."""
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGKILL)
    done.set()


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
def test_an_agent_killed_between_the_answer_and_its_own_mark(temporality: str) -> None:
    """The collector has the export, and the journal does not say so: the next agent tells it again.

    Cumulative values are exact. With deltas what those exports held is counted twice, and nothing else is.
    """
    receiver = Receiver()
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": temporality,
        **HTTP,
    }
    unmarked: list[tuple[int, int]] = []
    try:
        with cluster_that_exports(environment) as cluster:
            with Load(cluster):
                pid = agent_pid(cluster)
                for _ in range(2):
                    telemetry(cluster, lambda state: state.exports > 0, 30)
                    done = threading.Event()
                    known = len(sent_points(receiver))

                    def answering(pid: int = pid, done: threading.Event = done, known: int = known) -> Any:
                        if done.is_set() or len(sent_points(receiver)) == known:
                            return nullcontext()
                        last = sent_points(receiver)[-1]
                        unmarked.append((last.start_ns, last.at_ns))
                        return killed_in_the_answer(pid, done)

                    receiver.answering = answering
                    assert done.wait(30)
                    pid = agent_pid(cluster, other_than=pid)
            expected = cluster.metrics().value(SENT, entity_type="Clerk")
            cluster.shutdown()
        told = sent_points(receiver)
        assert len(unmarked) == 2
        if temporality == "cumulative":
            assert told[-1].value == expected and len({point.start_ns for point in told}) == 1
            assert [point.value for point in told] == sorted(point.value for point in told)
            return
        twice = [point for point in told if (point.start_ns, point.at_ns) in unmarked]
        assert len(twice) == 2 and all(point.value > 0 for point in twice)
        assert sum(point.value for point in told) == expected + sum(point.value for point in twice)
        # And which ones is to be seen: the next one begins where they began.
        once = [point for point in told if point not in twice]
        assert {point.start_ns for point in twice} <= {point.start_ns for point in once}
        assert all(before.at_ns <= after.start_ns for before, after in itertools.pairwise(once))
    finally:
        receiver.close()


def sent_points(receiver: Receiver) -> list[Arrived]:
    """What has arrived of the letters that were sent, in that order."""
    return [point for point in receiver.points if point.name == SENT]


def test_a_killed_agent_keeps_cumulative_values_and_their_start() -> None:
    """Its successor goes on from the journal: no value goes down, and none starts anew."""
    receiver = Receiver()
    try:
        with cluster_that_exports({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, **HTTP}) as cluster:
            with Load(cluster):
                pid = agent_pid(cluster)
                for _ in range(3):
                    telemetry(cluster, lambda state: state.exports > 1, 30)
                    os.kill(pid, signal.SIGKILL)
                    pid = agent_pid(cluster, other_than=pid)
            all_has_arrived(cluster, receiver)
            cluster.shutdown()
        values = [point.value for point in receiver.points if point.name == SENT]
        assert values == sorted(values)
    finally:
        receiver.close()
