"""When the node's metrics go to Ray's page, and that trouble there stays there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
import ray

from observe.ray_metrics import RayMetrics
from observe.ray_publisher import RayPublisher
from observe.totals import Totals
from tests.unit.observe.test_ray_metrics import Page

SHARDS = Totals({("cluster_shards", ()): 300.0})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The metrics ports of Ray's nodes, by node."""
    ports = {"here": -1, "there": 8080}

    def nodes() -> list[dict[str, object]]:
        return [{"NodeID": node, "MetricsExportPort": port} for node, port in ports.items()]

    monkeypatch.setattr(ray, "nodes", nodes)
    return ports


def test_where_rays_metrics_are_off_nothing_is_read(port: dict[str, int]) -> None:
    """The thread ends at once, whatever other nodes have; so it does on a node that Ray does not know."""
    page = Page()
    for node in ("here", "nowhere"):
        RayPublisher(node, lambda: pytest.fail("read"), metrics=lambda: RayMetrics(page.gauge)).stop()
    assert page.made == []


def test_where_they_are_on_it_begins_at_once(port: dict[str, int]) -> None:
    """What is read is set, with no interval before the first time."""
    port["here"] = 44217
    page, read = Page(), threading.Event()

    def totals() -> Totals:
        read.set()
        return SHARDS

    publisher = RayPublisher("here", totals, metrics=lambda: RayMetrics(page.gauge))
    assert read.wait(10)
    publisher.stop()
    assert page.value("cluster_shards") == 300.0


def test_trouble_is_told_once_a_minute_and_raises_nothing(
    port: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    """A reading that fails each time makes a line a minute; the next good one is published."""
    page = Page()
    clock: list[float] = [100.0]
    readings: Iterator[bool] = iter([False] * 60 + [True])

    def totals() -> Totals:
        if not next(readings):
            raise RuntimeError("no journal")
        return SHARDS

    publisher = RayPublisher("here", totals, metrics=lambda: RayMetrics(page.gauge), now=lambda: clock[0])
    publisher.stop()
    with caplog.at_level(logging.WARNING):
        for _ in range(60):
            publisher.publish()
            clock[0] += 2.5
    texts = [record.getMessage() for record in caplog.records if record.name == "observe.ray_publisher"]
    assert texts == ["cannot publish on Ray's metrics page: RuntimeError: no journal"] * 3
    publisher.publish()
    assert page.value("cluster_shards") == 300.0
