"""Entities with a process of their own, on real Ray: born, killed, let go, and nothing left of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster_app import (
    ActivationFailed,
    CallCycle,
    Cluster,
    Entity,
    HandlerError,
    RunnerNotRegistered,
    RunnerUnavailable,
    connect,
    entity,
    message,
)
from cluster_app.process_start import process_start
from cluster_app.ray_annex import actor_name
from entities import EntityAddress
from tests.conftest import Counts
from tests.ray.seen import seen
from tests.ray.test_kill_agent import agent_pid
from tests.ray.unloadable import Unloadable

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Diary(Entity):
    """Its id is a file, where each process that holds it writes its pid: after a look at the one before."""

    def __init__(self) -> None:
        diary = Path(self.address.id)
        before = int(diary.read_text().split()[-1]) if diary.exists() else 0
        self.met_alive = bool(before) and alive(before)
        with diary.open("a") as page:
            page.write(f"{os.getpid()}\n")

    @message
    def look(self) -> tuple[int, bool]:
        return os.getpid(), self.met_alive

    @message
    async def stand(self) -> None:
        await asyncio.Event().wait()

    @message
    def put_away(self) -> None:
        self.deactivate()

    @message
    def weigh(self, something: Any) -> int:
        return len(something)

    @message
    def fill(self, size: int) -> bytes:
        return b"x" * size


@entity(hosting="actor", max_idle_time=2.0)
class BriefDiary(Diary):
    pass


@entity(hosting="actor", max_idle_time=None, num_cpus=1, runtime_env={"env_vars": {"BOUND_IN": "leather"}})
class LongDiary(Diary):
    @message
    def binding(self) -> str | None:
        return os.environ.get("BOUND_IN")


@entity(hosting="actor", max_idle_time=None)
class OrphanedDiary(Diary):
    pass


@entity(hosting="actor", max_idle_time=0.5)
class Guest(Entity):
    @message
    async def pass_on(self, other: Guest, times: int) -> int:
        return (
            os.getpid()
            if times == 0
            else await other.pass_on.remote(self.entity(Guest, self.address.id), times - 1)
        )

    @message
    def pid(self) -> int:
        return os.getpid()

    @message
    async def connect_and_ask(self, namespace: str, name: str) -> int:
        with connect(namespace=namespace) as cluster:
            return await cluster.entity(Guest, name).pid.remote()


@entity(hosting="actor", num_gpus=8)
class Giant(Entity):
    @message
    def stand(self) -> None: ...


@entity(hosting="actor", runtime_env={"conda": "an-environment-that-nobody-has"})
class Stranger(Entity):
    @message
    def stand(self) -> None: ...


@entity(hosting="actor")
class Stillborn(Entity):
    def __init__(self) -> None:
        raise LookupError("nothing to live on")

    @message
    def stand(self) -> None: ...


def actors() -> dict[str, str]:
    """The living entity actors as Ray lists them: the class by name."""
    from ray._private.state import actors as listed

    return {
        a["Name"]: a["ActorClassName"]
        for a in listed().values()
        if a["Name"].startswith("entity-") and a["State"] == "ALIVE"
    }


def until(condition: Callable[[], bool], *, within_s: float) -> None:
    """Wait for it."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.01)


def test_a_process_that_lived_two_seconds_is_counted_and_leaves_nothing(
    file_cluster: Cluster, tmp_path: Path
) -> None:
    """Its activation, its end for idleness, its lifetime and messages, once each; the next one meets no other."""
    counts = Counts(file_cluster)
    diary = file_cluster.entity(BriefDiary, str(tmp_path / "brief"))
    pid, _ = diary.look.remote().result(timeout_s=20)
    runner = file_cluster.status().runners[0]
    assert pid not in {runner.pid, os.getpid()}
    assert "BriefDiary" in actors().values()

    until(lambda: not alive(pid), within_s=10)
    seen(file_cluster, lambda status: not status.entities.get("BriefDiary"), within_s=5)
    assert "BriefDiary" not in actors().values()
    second, met_alive = diary.look.remote().result(timeout_s=20)
    assert second != pid and not met_alive

    counts.refresh()
    kind = {"entity_type": "BriefDiary"}
    assert counts.of("cluster_entity_activations_total", **kind) == 2
    assert counts.of("cluster_entity_activation_seconds", **kind, outcome="ok") == 2
    assert counts.of("cluster_entity_deactivations_total", **kind) == 1
    assert counts.of("cluster_entity_deactivations_total", **kind, reason="idle") == 1
    assert counts.of("cluster_entity_lifetime_seconds", **kind) == 1
    assert counts.of("cluster_messages_received_total", **kind) == 2
    assert counts.of("cluster_mailbox_wait_seconds", **kind) == 2
    assert counts.of("cluster_handler_duration_seconds", **kind, method="look", outcome="ok") == 2
    assert counts.of("cluster_entities", **kind) == 1
    lifetime = file_cluster.metrics().histogram("cluster_entity_lifetime_seconds", **kind)
    assert 2.0 <= lifetime.sum < 8.0
    assert len(file_cluster.status().runners) == 1
    counts.check_invariants("BriefDiary")


def test_a_killed_process_is_lost_and_the_next_one_meets_it_dead(
    file_cluster: Cluster, tmp_path: Path
) -> None:
    """What ran in it may have run; what waited goes to another process, once the first is proven dead."""
    counts = Counts(file_cluster)
    diary = file_cluster.entity(LongDiary, str(tmp_path / "long"))
    pid, _ = diary.look.remote().result(timeout_s=20)
    running = diary.stand.remote()
    waiting = diary.look.remote()
    until(lambda: _depth(file_cluster, "LongDiary") == 1, within_s=5)

    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RunnerUnavailable) as lost:
        running.result(timeout_s=5)
    successor, met_alive = waiting.result(timeout_s=20)

    assert lost.value.may_have_run and str(lost.value.address) == str(diary)
    assert successor != pid and not met_alive
    assert diary.binding.remote().result(timeout_s=20) == "leather"
    assert diary.weigh.remote(b"x" * 20_000_000).result(timeout_s=20) == 20_000_000
    assert len(diary.fill.remote(20_000_000).result(timeout_s=20)) == 20_000_000
    assert diary.weigh.remote(ray.put(b"y" * 5_000_000)).result(timeout_s=20) == 5_000_000
    assert dict(file_cluster.states(LongDiary)) == {str(tmp_path / "long"): {"met_alive": False}}

    going, looking = (
        diary.put_away.remote(),
        diary.look.remote(),
    )  # the second arrives while the process still goes
    going.result(timeout_s=20)
    third, met_alive = looking.result(timeout_s=20)
    assert third not in (pid, successor) and not met_alive
    counts.refresh()
    kind = {"entity_type": "LongDiary"}
    assert counts.of("cluster_entity_activations_total", **kind) == 3
    assert counts.of("cluster_entity_deactivations_total", **kind) == 2
    assert counts.of("cluster_entity_deactivations_total", **kind, reason="lost") == 1
    assert counts.of("cluster_entity_deactivations_total", **kind, reason="explicit") == 1
    assert counts.of("cluster_errors_total", **kind, type="RunnerUnavailable") == 1
    assert counts.of("cluster_messages_received_total", **kind) == 9
    counts.check_invariants("LongDiary")


def _depth(cluster: Cluster, entity_type: str) -> float:
    return cluster.metrics().value("cluster_mailbox_depth", entity_type=entity_type)


def test_messages_go_from_process_to_process_and_a_circle_is_seen(
    file_cluster: Cluster, namespace: str
) -> None:
    """Each sends with the chain it stands in, so the third leg of a circle ends as CallCycle; each is counted."""
    counts = Counts(file_cluster)
    one, other = (file_cluster.entity(Guest, name) for name in ("one", "other"))
    reached = one.pass_on.remote(other, 1).result(timeout_s=20)
    assert reached not in {one.pid.remote().result(timeout_s=20), os.getpid()}
    assert one.connect_and_ask.remote(namespace, "other").result(timeout_s=20) == reached

    with pytest.raises(HandlerError) as failed:
        one.pass_on.remote(other, 2).result(timeout_s=20)
    cause: BaseException | None = failed.value
    while isinstance(cause, HandlerError):
        cause = cause.__cause__
    assert isinstance(cause, CallCycle)

    seen(file_cluster, lambda status: not status.entities.get("Guest"), within_s=15)
    counts.refresh()  # what the processes sent themselves reached the agent before they ended
    assert counts.of("cluster_messages_sent_total", entity_type="Guest") == 2 + 1 + 2 + 3
    counts.check_invariants("Guest")


def test_eight_come_and_go_and_nothing_is_left(file_cluster: Cluster) -> None:
    """No process, no actor's name, no lane, no series that names one of them."""
    seen(file_cluster, lambda status: not status.entities.get("Guest"), within_s=15)
    lanes = file_cluster.status().runners[0].lanes
    series = {(point.name, tuple(sorted(point.labels.items()))) for point in file_cluster.metrics()}
    guests = [file_cluster.entity(Guest, f"guest {number}") for number in range(8)]
    pids = [reply.result(timeout_s=30) for reply in [guest.pid.remote() for guest in guests]]
    assert len(set(pids)) == 8

    until(lambda: not any(map(alive, pids)), within_s=20)
    seen(file_cluster, lambda status: not status.entities.get("Guest"), within_s=10)
    assert [name for name in actors() if name.startswith("entity-Guest")] == []
    assert file_cluster.status().runners[0].lanes == lanes
    after = {(point.name, tuple(sorted(point.labels.items()))) for point in file_cluster.metrics()}
    named = {labels for _, labels in after - series if "guest" in str(labels)}
    assert named == set()


@pytest.mark.parametrize(
    ("kind", "error", "says"),
    [
        (Giant, RunnerNotRegistered, "num_gpus=8"),
        (Stranger, RunnerNotRegistered, "runtime"),
        (Stillborn, ActivationFailed, "nothing to live on"),
        (Unloadable, ActivationFailed, "cannot be loaded in its process: .*no such library here"),
    ],
)
def test_a_process_that_cannot_hold_its_entity_is_told_of_in_time(
    file_cluster: Cluster, kind: Any, error: type[Exception], says: str
) -> None:
    """By the deadline at the latest, with the reason, as not run; nothing of it stays."""
    # What cannot be scheduled may be tomorrow, so that is waited for; the others need only the time of a start.
    reply = file_cluster.entity(kind, "x").stand.options(timeout_s=4 if kind is Giant else 25).remote()
    with pytest.raises(error, match=says) as refused:
        reply.result(timeout_s=30)
    assert refused.value.may_have_run is False  # type: ignore[attr-defined]  # every ClusterError says
    if error is ActivationFailed:
        assert isinstance(refused.value.__cause__, LookupError)
    seen(file_cluster, lambda status: not status.entities.get(kind.__name__), within_s=5)
    assert kind.__name__ not in actors().values()


def test_a_process_is_seen_to_its_end_through_the_death_of_its_agent(
    file_cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    """The next agent knows it from the journal: whether it goes by itself or is killed, another one follows."""
    diary = file_cluster.entity(BriefDiary, str(tmp_path / "brief"))
    first, _ = diary.look.remote().result(timeout_s=20)
    agent = agent_pid(file_cluster, namespace)
    os.kill(agent, signal.SIGKILL)
    agent_pid(file_cluster, namespace, other_than=agent)
    until(lambda: not alive(first), within_s=15)
    second, met_alive = diary.look.remote().result(timeout_s=20)
    assert second != first and not met_alive

    os.kill(second, signal.SIGKILL)
    until(lambda: not alive(second), within_s=5)
    seen(file_cluster, lambda status: not status.entities.get("BriefDiary"), within_s=5)
    third, met_alive = diary.look.remote().result(timeout_s=20)
    assert third != second and not met_alive


def test_a_process_that_only_has_the_pid_by_now_is_neither_admitted_nor_killed(
    file_cluster: Cluster, namespace: str
) -> None:
    """An owner that stood still may ask late: it names when the process was started."""
    (runner,) = file_cluster.status().runners
    agent: Any = ray.get_actor(f"agent-{runner.node_id}", namespace=namespace)

    def admit(process: str, pid: int, started: int) -> Any:
        return ray.get(agent.admit.remote(f"{runner.id}/{process}", pid, started, runner.node_id))

    with subprocess.Popen(["sleep", "60"]) as stranger, subprocess.Popen(["sleep", "60"]) as own:
        assert not admit("before-it", stranger.pid, process_start(stranger.pid) - 1)
        ray.get(agent.bury.remote(f"{runner.id}/before-it", 0.0))
        assert not admit("before-it", stranger.pid, process_start(stranger.pid)), "it was given up"
        assert stranger.poll() is None

        assert admit("itself", own.pid, process_start(own.pid))
        ray.get(agent.bury.remote(f"{runner.id}/itself", 0.0))
        assert own.wait(timeout=5) == -signal.SIGKILL
        stranger.kill()


def test_a_killed_runner_takes_its_entities_processes_along(own_ray_cluster: Cluster, tmp_path: Path) -> None:
    """Before another runner serves the shard they are dead; and a shutdown leaves none either."""
    diary = own_ray_cluster.entity(OrphanedDiary, str(tmp_path / "orphan"))
    pid, _ = diary.look.remote().result(timeout_s=20)
    (runner,) = own_ray_cluster.status().runners
    os.kill(runner.pid, signal.SIGKILL)
    seen(
        own_ray_cluster,
        lambda status: [r.id for r in status.runners if r.healthy] not in ([], [runner.id]),
        within_s=10,
    )

    successor, met_alive = diary.look.remote().result(timeout_s=20)
    assert successor != pid and not met_alive and not alive(pid)

    own_ray_cluster.shutdown()
    assert not alive(successor)
    assert "OrphanedDiary" not in actors().values()


def test_the_names_that_ray_lists_are_readable_and_differ() -> None:
    """As the address is printed; what cannot be printed, or is long, is told apart by a digest."""
    assert actor_name(EntityAddress("Forecast", "lax")) == "entity-Forecast/lax"
    odd = [actor_name(EntityAddress("T", entity_id)) for entity_id in ("\x00", "\x01", "x" * 500, "x" * 501)]
    assert len(set(odd)) == 4
    assert all(name.isprintable() and len(name) < 250 for name in odd)
