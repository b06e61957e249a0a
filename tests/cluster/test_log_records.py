"""Log records made inside entities carry the address, and the rest of the process's logging is as it was."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_app import Cluster, Entity, entity, message
from cluster_app.testing import MemoryCluster
from entities.log_address import carry_addresses

logger = logging.getLogger("tests.log_records")


class Kept(logging.Handler):
    """Keeps the message and the address of each record."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.getMessage(), vars(record)["entity_address"]))


@entity(name="log.Scribe")
class Scribe(Entity):
    """Logs wherever it can."""

    def __init__(self) -> None:
        logger.warning("__init__")

    async def on_activate(self) -> None:
        await asyncio.sleep(0)
        logger.warning("on_activate")

    async def on_deactivate(self, reason: str) -> None:
        logger.warning("on_deactivate")

    @message
    def write(self) -> None:
        logger.warning("sync")
        self.deactivate()

    @message
    async def write_later(self, other: str) -> None:
        logger.warning("first step")
        await self.entity(Scribe, other).write.remote()
        logger.warning("later step")
        await asyncio.create_task(self._in_a_task())
        await asyncio.to_thread(logger.warning, "in a thread")

    async def _in_a_task(self) -> None:
        logger.warning("in a task")

    @message
    def write_to(self, path: str) -> None:
        handler = logging.FileHandler(path)
        handler.setFormatter(logging.Formatter("%(entity_address)s: %(message)s"))
        own = logging.getLogger("tests.log_records.file")
        own.addHandler(handler)
        own.warning("written")
        own.removeHandler(handler)
        handler.close()


@pytest.fixture
def kept() -> Iterator[Kept]:
    """What the entities of this process log."""
    handler = Kept()
    logger.addHandler(handler)
    logger.propagate = False
    yield handler
    logger.removeHandler(handler)
    logger.propagate = True


def test_records_carry_the_address_from_birth_to_end(memory_cluster: MemoryCluster, kept: Kept) -> None:
    """In hooks, in every step of a handler, in its tasks and threads; each entity its own."""
    memory_cluster.entity(Scribe, "a").write_later.remote("b").result(30)
    memory_cluster.clock.settle()
    a = ["__init__", "on_activate", "first step", "later step", "in a task", "in a thread"]
    b = ["__init__", "on_activate", "sync", "on_deactivate"]
    assert [text for text, address in kept.records if address == "log.Scribe/a"] == a
    assert [text for text, address in kept.records if address == "log.Scribe/b"] == b
    assert len(kept.records) == len(a) + len(b)


def test_records_outside_of_entities_have_no_address(memory_cluster: MemoryCluster, kept: Kept) -> None:
    """The attribute is there, for formats that name it, and empty."""
    memory_cluster.entity(Scribe, "a").write.remote().result(30)
    kept.records.clear()
    logger.warning("outside")
    assert kept.records == [("outside", "")]


def test_a_format_may_name_the_address(cluster: Cluster, tmp_path: Path) -> None:
    """On either transport, in the runner's own process."""
    name = uuid.uuid4().hex
    cluster.entity(Scribe, name).write_to.remote(str(tmp_path / "log")).result(30)
    assert (tmp_path / "log").read_text() == f"log.Scribe/{name}: written\n"


def test_without_a_cluster_logging_is_as_it_was() -> None:
    """Before the first cluster of a process and after its last one, whichever ends first."""
    before = logging.getLogRecordFactory()
    with MemoryCluster(runners=1):
        with MemoryCluster(runners=1):
            assert logging.getLogRecordFactory() is not before
        assert logging.getLogRecordFactory() is not before
    assert logging.getLogRecordFactory() is before


def test_other_factories_of_records_are_left_in_place() -> None:
    """The one that was there goes on making records; one that was set later stays."""
    original = logging.getLogRecordFactory()

    def earlier(*args: object, **kwargs: object) -> logging.LogRecord:
        record = original(*args, **kwargs)
        record.mark = "earlier"
        return record

    try:
        logging.setLogRecordFactory(earlier)
        end = carry_addresses()
        ours = logging.getLogRecordFactory()
        record = logger.makeRecord("n", logging.INFO, "f", 1, "text", (), None)
        assert (vars(record)["mark"], vars(record)["entity_address"]) == ("earlier", "")
        later = lambda *args, **kwargs: ours(*args, **kwargs)  # noqa: E731  # as short as a factory can be
        logging.setLogRecordFactory(later)
        end()
        end()
        assert logging.getLogRecordFactory() is later
        again = carry_addresses()
        record = logger.makeRecord("n", logging.INFO, "f", 1, "text", (), None)
        assert (vars(record)["mark"], vars(record)["entity_address"]) == ("earlier", "")
        again()
        assert logging.getLogRecordFactory() is later
    finally:
        logging.setLogRecordFactory(original)


def test_clusters_that_come_and_go_in_threads_restore_it() -> None:
    """As many ends as beginnings, in any order."""
    before = logging.getLogRecordFactory()

    def come_and_go() -> None:
        for _ in range(50):
            carry_addresses()()

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logging.getLogRecordFactory() is before
