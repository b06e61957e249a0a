"""Handlers that hold their runner's event loop, on whole clusters: counted once, and while they stand."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_app import Cluster, Entity, entity, message
from cluster_app.testing import MemoryCluster


class Heard(logging.Handler):
    """Sets an event for each record about slow handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Semaphore(0)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.told.release()


heard = Heard()


@pytest.fixture
def log() -> Iterator[Heard]:
    """What is logged about entities of this process."""
    heard.texts.clear()
    logger = logging.getLogger("entities")
    logger.addHandler(heard)
    yield heard
    logger.removeHandler(heard)


@entity(name="stalls.Mule", max_idle_time=None)
class Mule(Entity):
    """Stands until something happens."""

    @message
    def stand_until_told(self) -> None:
        heard.told.acquire(timeout=30)

    @message
    async def stand_while_missing(self, path: str) -> None:
        while not Path(path).exists():
            time.sleep(0.005)

    @message
    def go(self, seconds: float) -> None:
        time.sleep(seconds)


MULE = {"entity_type": "stalls.Mule"}


def test_a_stall_is_detected_in_real_time_on_a_stepped_clock(
    memory_cluster: MemoryCluster, log: Heard
) -> None:
    """The clock of a memory cluster stands while a handler holds its loop; the watch's does not."""
    memory_cluster.entity(Mule, "one").stand_until_told.remote().result(30)
    metrics = memory_cluster.metrics()
    assert metrics.value("cluster_slow_handlers_total", **MULE, method="stand_until_told") == 1
    assert metrics.value("cluster_slow_handlers_total") == 1
    (text,) = log.texts
    assert "stalls.Mule.stand_until_told" in text
    assert "heard.told.acquire(timeout=30)" in text


@pytest.mark.ray
def test_on_ray_a_handler_that_does_not_return_is_counted_while_it_stands(
    ray_cluster: Cluster, tmp_path: Path
) -> None:
    """Seen by `cluster.metrics()` before it ends; the runner keeps its lease; its end counts nothing more."""
    mule = ray_cluster.entity(Mule, uuid.uuid4().hex)
    mule.go.remote(0.0).result(30)
    (runner,) = ray_cluster.status().runners
    standing = mule.stand_while_missing.remote(str(tmp_path / "told"))
    end = time.monotonic() + 30
    while ray_cluster.metrics().value("cluster_slow_handlers_total", **MULE) < 1:
        assert time.monotonic() < end
    assert not standing.done()
    (tmp_path / "told").touch()
    standing.result(30)
    metrics = ray_cluster.metrics()
    assert metrics.value("cluster_slow_handlers_total", **MULE, method="stand_while_missing") == 1
    assert metrics.value("cluster_slow_handlers_total", **MULE) == 1
    assert [now.id for now in ray_cluster.status().runners] == [runner.id]


@pytest.mark.ray
def test_on_ray_each_slow_handler_is_counted_once_and_a_quick_one_never(ray_cluster: Cluster) -> None:
    """Five that take a little more than 100 ms, among many that do not: as many as durations above it."""
    mule = ray_cluster.entity(Mule, uuid.uuid4().hex)
    replies = [mule.go.remote(0.105 if number % 10 == 0 else 0.001) for number in range(50)]
    for reply in replies:
        reply.result(30)
    metrics = ray_cluster.metrics()
    took = metrics.histogram("cluster_handler_duration_seconds", **MULE, method="go")
    above = sum(took.bucket_counts[took.bounds.index(0.1) + 1 :])
    assert 5 <= above < 50  # on a machine under load a quick one may be slow as well
    assert metrics.value("cluster_slow_handlers_total", **MULE, method="go") == above
