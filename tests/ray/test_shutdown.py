"""What a service gets done at its end, and what is left of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cluster_app import Cluster, Entity, entity, message

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
