"""What a service gets done at its end, and what is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster_app import Cluster, Entity, connect, entity, message, ray_backend
from cluster_app.ray_calls import actor_names, find_actor
from cluster_app.ray_kv import RayKeyValue

pytestmark = pytest.mark.ray


@entity(max_idle_time=None)
class Ledger(Entity):
    """Its id is the file that it saves to, which takes it a while."""

    def __init__(self) -> None:
        self.total = 0

    @message
    def add(self, amount: int) -> int:
        self.total += amount
        return self.total

    async def on_deactivate(self, reason: str) -> None:
        await asyncio.sleep(0.2)
        Path(self.address.id).write_text(f"{self.total} {reason}")


def test_entities_save_before_a_service_has_ended(own_ray_cluster: Cluster, tmp_path: Path) -> None:
    """Also one whose hook waits for its storage."""
    book = tmp_path / "book"
    assert own_ray_cluster.entity(Ledger, str(book)).add.remote(3).result(timeout_s=20) == 3
    own_ray_cluster.shutdown()
    assert book.read_text() == "3 shutdown"


@ray.remote(num_cpus=0)
class Neighbour:
    """An actor of the user's own in the cluster's namespace."""


@pytest.fixture
def spaces(ray_instance: None) -> Iterator[str]:
    """A namespace, in which nothing is left."""
    namespace = f"tests-{uuid.uuid4().hex[:8]}"
    yield namespace
    for name in actor_names(namespace):
        ray.kill(find_actor(name, namespace))


def test_a_service_that_cannot_end_in_order_is_killed(
    spaces: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All of it, and nothing else: no runner or agent lives on without the coordinator, and what it stored is gone."""
    monkeypatch.setattr(ray_backend, "_STOP_S", 0.5)
    neighbours: Any = Neighbour
    stranger = neighbours.options(name="runner-up", namespace=spaces, lifetime="detached").remote()
    with connect(namespace=spaces) as cluster:
        cluster.register(Ledger)
        assert {name.partition("-")[0] for name in actor_names(spaces)} == {"coordinator", "agent", "runner"}
        pid = cluster.status().coordinator.pid
        os.kill(pid, signal.SIGSTOP)
        cluster.shutdown()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        assert actor_names(spaces) == {"runner-up"}
        assert RayKeyValue().keys(f"{spaces}/") == []
    assert "did not end in order" in caplog.text
    ray.kill(stranger)
