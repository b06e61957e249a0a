"""A coordinator that could not begin does so with the next call: nobody starts another one while its process lives."""

from __future__ import annotations

import asyncio
from typing import Any

from cluster_app.config import ClusterConfig
from cluster_app.coordinator_service import CoordinatorService
from cluster_app.kv import MemoryKeyValue
from cluster_app.leadership import NotLeading
from cluster_app.ray_coordinator import CoordinatorActor
from observe.recorder import Recorder


def test_a_coordinator_that_could_not_begin_begins_anew_with_the_next_call() -> None:
    """The store was too slow for its leadership lease: who asks then is told, and who asks later is served."""
    actors: Any = CoordinatorActor
    coordinator = actors.__ray_metadata__.modified_class("begins-anew", "{}")
    failures: list[Exception] = [NotLeading(None), OSError("the store is away")]
    begun = object()

    async def begin() -> Any:
        await asyncio.sleep(0)
        if failures:
            raise failures.pop()
        return begun

    coordinator._begin = begin

    async def main() -> None:
        for failure in (OSError, NotLeading):
            told = await asyncio.gather(*(coordinator._begun() for _ in range(3)), return_exceptions=True)
            assert [type(error) for error in told] == [failure] * 3
        assert await coordinator._begun() is begun

    asyncio.run(main())


class SlowStore(MemoryKeyValue):
    """Each question to it takes a tenth of a second of the test's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def keys(self, prefix: str) -> list[str]:
        self.now += 0.1
        return super().keys(prefix)

    def get(self, key: str) -> bytes | None:
        self.now += 0.1
        return super().get(key)


def test_reading_the_store_may_take_longer_than_leadership_lasts() -> None:
    """Ten singletons and ten drained nodes: two seconds to read, and a third of one to lead."""
    store = SlowStore()
    for number in range(10):
        store.put(f"slow/singleton/Clock{number}", b"default", overwrite=True)
        store.put(f"slow/drained/node-{number}", b"", overwrite=True)

    async def main() -> None:
        config = ClusterConfig(lease_s=1.0)
        loop = asyncio.get_running_loop()
        service = CoordinatorService("slow", "one", store, config, loop, lambda: store.now, Recorder())
        assert service.leads
        assert len(service.coordinator.singletons) == len(service.drained) == 10
        service.close()

    asyncio.run(main())
