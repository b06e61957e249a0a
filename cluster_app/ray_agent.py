"""The node agent as a Ray actor: one per node, merges the reports of the processes there, and sees them end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import time
import uuid
from pathlib import Path

import ray
from ray.exceptions import RayError

from cluster_app.far_processes import FarProcesses
from cluster_app.process_start import process_start
from cluster_app.ray_calls import agent_name, boottime, find_actor, owner_of
from cluster_app.ray_witness import Witness
from cluster_app.version import __version__
from observe.export_status import ExportStatus
from observe.exports import Exports
from observe.journal import Journal
from observe.node_agent import NodeAgent, Report
from observe.ray_publisher import RayPublisher
from observe.span_exports import SpanExports
from observe.totals import Totals, merge

__all__ = ["AgentActor"]

_LAST_EXPORT_S = 5.0  # a collector that does not answer holds up nobody's end for longer
_USUAL_NAMESPACE = "cluster_app"
_RAY_PAGE = "ray"  # what has been shown on Ray's own metrics page is marked under this name


@ray.remote
class AgentActor:
    """Keeps the node's counts, and watches the node's processes by pidfd: their exit, seen here, is proof of death.

    :param lent_s: seconds after which a process can do nothing any more if its owner says nothing to it.
    """

    def __init__(self, namespace: str, node_id: str, report_s: float, lent_s: float) -> None:
        self._namespace = namespace
        self._node_id = node_id
        self._report_s = report_s
        self._lent_s = lent_s
        self._session = session = ray.get_runtime_context().get_session_name()
        folder = Path(tempfile.gettempdir()) / f"cluster_app-{os.getuid()}" / session / namespace
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._witness = Witness(namespace)
        self._elsewhere = FarProcesses(folder / f"agent-{node_id}.elsewhere")
        self._open()
        # Greater than any that an agent before it gave out: what was reported to that one does not count as asked.
        self._generation = time.monotonic_ns()
        self._reported: dict[str, int] = {}
        self._watched: dict[str, int] = {}
        # Watched since they called: their pid cannot be a stranger's by now.
        self._seen_alive: set[str] = set()
        self._mourners: dict[str, list[asyncio.Future[None]]] = {}
        self._wanted: dict[str, asyncio.Future[None]] = {}  # by process: done when its next report is wanted
        self._ending: set[asyncio.Task[None]] = set()
        self._news: list[asyncio.Future[None]] = []
        self._looked_back = False
        self._on_ray = RayPublisher(node_id, self._shown)

    def _open(self) -> None:
        self._journal = Journal(str(self._folder / f"agent-{self._node_id}.sqlite"))
        self._agent = NodeAgent(self._journal, time.time)
        # An account that was closed has been told, or is told by whoever takes it over.
        self._exports = self._begin_to_export() if self._agent.open else None
        self._spans = self._begin_to_export_spans() if self._agent.open else None

    def _begin_to_export(self) -> Exports:
        others = None if self._namespace == _USUAL_NAMESPACE else self._namespace
        return Exports(self._agent, self._node_id, self._session, __version__, namespace=others)

    def _begin_to_export_spans(self) -> SpanExports:
        others = None if self._namespace == _USUAL_NAMESPACE else self._namespace
        return SpanExports(self._node_id, self._session, __version__, namespace=others)

    def __repr__(self) -> str:
        return f"agent({self._node_id[:8]})"

    async def ready(self) -> None:
        """Answer once the agent is up; after a restart, look for the processes that ended meanwhile."""
        if not self._looked_back:
            self._looked_back = True
            # Those that belong to a runner first: should that have ended, they must end before it counts as dead.
            for process, pid in sorted(
                self._agent.pids().items(), key=lambda item: owner_of(item[0]) is None
            ):
                await self.watch(process, pid)

    async def welcome(self) -> Report | None:
        """As `ready`; what an agent before this one was about to hand over and must be, or None. Then: `reopen`."""
        await self.ready()
        return None if self._agent.open else self._agent.hand_over("")

    async def reporting(self) -> int:
        """How many living processes that are no runners report here: senders in drivers, tasks and actors."""
        return sum(not process.startswith("runner-") for process in self._agent.processes())

    async def retire(self) -> Report | None:
        """Close the node's account and return it; None while any process of the node reports or is watched.

        From then on every report is refused, and whoever wants to report asks the coordinator for another agent.
        """
        await self.ready()
        if self._watched or self._ending:
            return None
        if self._agent.hand_over(f"node-{self._node_id}-{uuid.uuid4().hex[:8]}") is None:
            return None
        await self._export_last()
        # The node that takes the account over must not show again what this one has shown.
        self._agent.acknowledged(_RAY_PAGE, self._agent.reading(_RAY_PAGE))
        return self._agent.hand_over("")  # now with all that has left already

    async def adopt(self, account: Report) -> None:
        """Take over the account of a node that is given up. It is in the journal when this is answered."""
        self._agent.merge(account)

    async def reopen(self) -> None:
        """The closed account is in good hands: begin a new one."""
        await self.forget()
        self._open()

    async def announce(self, process: str, pid: int) -> None:
        """Count a process of this node among the living before its first report: until that comes, it is missing.

        Its end is seen from here on. Raises ValueError once the node's account is closed.
        """
        await self.ready()
        self._agent.merge(Report(process, 0, time.time(), Totals(), pid=pid))
        await self.watch(process, pid)

    async def watch(self, process: str, pid: int) -> None:
        """Notice when this process of this node ends. Raises RuntimeError once the node is being given up."""
        if not self._agent.open:
            raise RuntimeError("this node is being given up; another agent comes when it is wanted")
        if process.startswith("runner-"):
            self._witness.prepare()
        if process in self._watched or not pid:
            return
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            await self._ended(process)
            return
        self._watched[process] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._exited, process)

    # -- processes that belong to a runner of this node

    async def admit(self, process: str, pid: int, started: int, node_id: str) -> bool:
        """Whether a process that is to hold an entity may go on; it must not begin before.

        Its end is seen from here on, and it ends with its owner. No: it has ended, or its owner has, or has given it
        up.

        :param started: see `process_start`.
        """
        await self.ready()
        owner = owner_of(process)
        if owner is None or self._agent.has_ended(owner) or self._agent.has_ended(process):
            return False
        if node_id != self._node_id:
            self._elsewhere.add(process, node_id)
            return True
        # Into the journal: an agent after this one must know of it too.
        await self.announce(process, pid)
        if process in self._watched and process_start(pid) != started:
            self._exited(process)  # what is watched is another one, which has its pid by now
        if process in self._watched:
            self._seen_alive.add(process)
        return process in self._watched

    async def bury(self, process: str, grace_s: float) -> None:
        """Answer when this process has ended; it is ended by force after that time. It can't be admitted any more."""
        await self.ready()
        if process not in self._watched:
            self._agent.ended(process)
            node_id = self._elsewhere.node_of(process)
            if node_id is not None:
                await self._buried_elsewhere(process, node_id, grace_s)
                self._elsewhere.remove(process)
            return
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._mourners.setdefault(process, []).append(gone)
        if grace_s:
            await asyncio.wait([gone], timeout=grace_s)
        while not gone.done():  # again and again: an agent that has just restarted may not do it at first
            self._end(process)
            await asyncio.wait([gone], timeout=1.0)

    def _end(self, process: str) -> None:
        """Kill it, if its pid is surely its own: one read in the journal may be a stranger's by now."""
        descriptor = self._watched.get(process)
        if descriptor is not None and process in self._seen_alive:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)

    async def _buried_elsewhere(self, process: str, node_id: str, grace_s: float) -> None:
        # Whoever can reach it no more lends it nothing from here on.
        lent_until = boottime() + self._lent_s + grace_s
        while (left := lent_until - boottime()) > 0:
            agent = await asyncio.to_thread(find_actor, agent_name(node_id), self._namespace)
            try:
                if agent is not None:
                    await asyncio.wait_for(agent.bury.remote(process, grace_s), left)
                    return
            except (RayError, TimeoutError):
                pass  # it is away: another one comes, or its node has ended, and its processes may live
            await asyncio.sleep(0.1)

    async def _bury_all_of(self, owner: str) -> None:
        """A runner has ended: what belonged to it must have ended too before anybody else may serve its shards."""
        mine = [process for process in self._watched if owner_of(process) == owner]
        mine += self._elsewhere.of(owner)
        await asyncio.gather(*(self.bury(process, 0.0) for process in mine))

    def _exited(self, process: str) -> None:
        descriptor = self._watched.pop(process)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        task = asyncio.get_running_loop().create_task(self._ended(process))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _ended(self, process: str) -> None:
        self._agent.ended(process)
        self._reported.pop(process, None)
        self._seen_alive.discard(process)
        self._wake(self._mourners.pop(process, []))
        self._wake(self._news)
        if process.startswith("runner-") and owner_of(process) is None:
            await self._bury_all_of(process)
        # Of senders too: what runners keep for them is of no use any more.
        await self._witness.tell(process)

    @staticmethod
    def _wake(futures: list[asyncio.Future[None]]) -> None:
        waiting, futures[:] = list(futures), []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def report(self, report: Report, generation: int) -> int:
        """Take a report; answered when the next one is wanted. It is in the journal before that."""
        await self.ready()
        # Raises once the account is closed: then another agent has to have it.
        if self._agent.merge(report) and self._spans is not None:
            self._spans.take(report)
        if report.final:
            self._reported.pop(report.process, None)
            held = self._wanted.pop(report.process, None)
            if held is not None and not held.done():
                held.set_result(None)  # a process that wants to end waits for all its calls
            descriptor = self._watched.pop(report.process, None)
            if descriptor is not None and not report.process.startswith("runner-"):
                asyncio.get_running_loop().remove_reader(descriptor)
                os.close(descriptor)
            elif descriptor is not None:
                self._watched[report.process] = descriptor  # its end still has to be proven
            self._wake(self._news)
            return self._generation
        await self.watch(report.process, report.pid)
        if report.process in self._watched:
            self._seen_alive.add(report.process)
        self._reported[report.process] = generation
        self._wake(self._news)
        if generation < self._generation:
            return self._generation
        wanted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted[report.process] = wanted
        await asyncio.wait([wanted], timeout=self._report_s)
        if self._wanted.get(report.process) is wanted:
            del self._wanted[report.process]
        return self._generation

    async def collect(self, within_s: float = 2.0) -> tuple[list[Totals], list[str]]:
        """Have every living process of this node report: (totals and gauges, who lives and did not report)."""
        await self.ready()
        self._generation += 1
        mine = self._generation
        for wanted in self._wanted.values():
            if not wanted.done():
                wanted.set_result(None)
        self._wanted.clear()
        deadline = time.monotonic() + within_s
        while silent := [name for name in self._agent.processes() if self._reported.get(name, 0) < mine]:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._news.append(news)
            await asyncio.wait([news], timeout=left)
        return [self._agent.totals(), self._agent.gauges()], silent

    # -- what leaves

    async def telemetry(self) -> list[ExportStatus]:
        """How it goes with each exporter; empty where none is configured."""
        return [status for out in (self._exports, self._spans) if out is not None for status in out.status]

    async def export(self) -> None:
        """Export now rather than later; answered when that has arrived, or after a while."""
        ways = [out for out in (self._exports, self._spans) if out is not None]
        await asyncio.gather(*(asyncio.to_thread(out.flush, _LAST_EXPORT_S) for out in ways))

    async def _export_last(self) -> None:
        ways = [out for out in (self._exports, self._spans) if out is not None]
        self._exports = self._spans = None
        await asyncio.gather(*(asyncio.to_thread(out.close, _LAST_EXPORT_S) for out in ways))

    def _shown(self) -> Totals:
        """What Ray's own metrics page shows of the node: nothing that another node's page has shown."""
        reading = self._agent.reading(_RAY_PAGE)
        return merge([reading.totals, reading.gauges])

    async def pid(self) -> int:
        """The agent's process id."""
        return os.getpid()

    async def forget(self) -> None:
        """The service ends: export for the last time, and remove the journal."""
        await self._export_last()
        self._journal.close()
        self._elsewhere.clear()
        for file in self._folder.glob(f"agent-{self._node_id}.sqlite*"):
            file.unlink(missing_ok=True)
