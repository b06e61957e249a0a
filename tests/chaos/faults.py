"""Makes the faults of a schedule in the processes and nodes of a real Ray.

Decides who has a role at that moment, and notes each fault with the messages under way. A fault whose target is not
there counts as none; it waits for it a little, as a node that joins has its runner only seconds later, and then takes
another node's.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

from cluster_app import Cluster
from cluster_app.drain import DrainTimeout
from tests.chaos.drivers import Drivers
from tests.chaos.exits import Exits
from tests.chaos.fault_schedule import HEAD, WORKERS, Fault
from tests.chaos.history import FileScribe, boottime
from tests.chaos.under_way import UnderWay
from tests.nodes.processes import kill, stop, wake
from tests.nodes.several_nodes import SeveralNodes

__all__ = ["Faults"]

_PATIENCE_S = 8.0
_DRAIN_S = 20.0
_JOIN_S = 30.0


class Faults:
    """Whoever makes faults in one run.

    :ivar lost_nodes: the nodes that have ended.
    :ivar missed: the faults that could not be made, each with the reason.
    """

    def __init__(
        self,
        nodes: SeveralNodes,
        cluster: Cluster,
        drivers: Drivers,
        exits: Exits,
        under_way: UnderWay,
        scribe: FileScribe,
        tell: Callable[[str], None],
    ) -> None:
        self.lost_nodes: set[str] = set()
        self.missed: list[str] = []
        self.made: list[tuple[Fault, int]] = []
        self._nodes = nodes
        self._cluster = cluster
        self._drivers = drivers
        self._exits = exits
        self._under_way = under_way
        self._scribe = scribe
        self._tell = tell
        self._places: dict[str, str] = dict(zip((HEAD, *WORKERS), nodes.node_ids, strict=True))
        self._nodes_lock = threading.Lock()
        self._main_thread: queue.Queue[Callable[[], None]] = queue.Queue()
        self._closed = False

    def work_until(self, when: float) -> None:
        """Do until then (of `time.monotonic`) what Ray lets only the main thread do: starting a node."""
        while (left := when - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                self._main_thread.get(timeout=left)()

    def close(self) -> None:
        """Whatever is not done yet is not done any more."""
        self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._main_thread.get_nowait()()

    def _on_main_thread(self, work: Callable[[], str]) -> str:
        done: Future[str] = Future()

        def do() -> None:
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        if self._closed:
            raise RuntimeError("the run is over")
        self._main_thread.put(do)
        return done.result(_JOIN_S)

    def make(self, fault: Fault) -> None:
        """Make one fault, for as long as it lasts. Never raises: what went wrong is in `missed`."""
        what, _, whom = fault.kind.partition(" ")
        try:
            if whom == "raylet" or fault.kind in ("join", "leave"):
                with self._nodes_lock:
                    self._node(fault)
            elif whom:
                self._process(fault, what, whom)
            else:
                self._asked(fault)
        except Exception as error:
            self.missed.append(f"{fault}: {type(error).__name__}: {error}")

    @contextlib.contextmanager
    def _noted(self, fault: Fault) -> Iterator[None]:
        """Counts and notes the fault once this block has ended well, as of when it began."""
        at, under_way = boottime(), self._under_way.now()
        yield
        self.made.append((fault, under_way))
        lasts = f" for {fault.lasts_s:g} s" if fault.lasts_s else ""
        self._tell(f"{fault.at:7.2f}  {fault.kind} {fault.target}{lasts}: {under_way} messages under way")
        self._scribe.note(
            "fault", at=at, kind=fault.kind, target=fault.target, in_flight=under_way, lasts_s=fault.lasts_s
        )

    # -- processes

    def _process(self, fault: Fault, what: str, whom: str) -> None:
        pid = self._found(lambda: self._pid(whom, fault.target), lambda: self._pid(whom, ""))
        if what == "stop":
            self._stop(pid, fault)
            return
        with self._noted(fault):
            kill(pid)
        if whom == "driver":
            self._drivers.again(fault.target)

    def _pid(self, whom: str, target: str) -> int | None:
        if whom == "driver" and target:
            pid = self._drivers.pid(target)
            return pid if any(process.pid == pid for process in self._exits.living("driver")) else None
        living = self._exits.living(whom, self._places[target] if target else None)
        return living[0].pid if living else None

    @staticmethod
    def _found(find: Callable[[], int | None], otherwise: Callable[[], int | None]) -> int:
        deadline = time.monotonic() + _PATIENCE_S
        while (pid := find()) is None:
            if time.monotonic() > deadline:
                if (other := otherwise()) is None:
                    raise LookupError("nobody has that role")
                return other
            time.sleep(0.02)
        return pid

    def _stop(self, pid: int, fault: Fault) -> None:
        try:
            with self._noted(fault):
                stop(pid)
            time.sleep(fault.lasts_s)
        finally:
            wake(pid)

    # -- nodes

    def _node(self, fault: Fault) -> None:
        node = self._places[fault.target]
        if fault.kind == "stop raylet":
            self._stop(self._nodes.raylet_pid(node), fault)
            return
        self.lost_nodes.add(node)
        with self._noted(fault):
            if fault.kind == "kill raylet":
                self._nodes.kill_raylet(node)
            elif fault.kind == "leave":
                self._nodes.remove_node(node)
            else:
                if node in self._nodes.node_ids:
                    self._nodes.remove_node(node, graceful=False)
                self._places[fault.target] = self._on_main_thread(self._nodes.add_node)

    # -- what the cluster itself is asked to do

    def _asked(self, fault: Fault) -> None:
        with self._nodes_lock:  # it may be just joining
            node = self._places[fault.target]
        deadline = time.monotonic() + _PATIENCE_S
        with self._noted(fault):
            while True:
                try:
                    self._drain(node) if fault.kind == "drain" else self._cluster.undrain(node)
                    return
                except (ValueError, ConnectionError):  # the coordinator has not heard of it, or is away
                    if time.monotonic() > deadline:
                        raise

    def _drain(self, node: str) -> None:
        with contextlib.suppress(DrainTimeout):  # it goes on
            self._cluster.drain(node, timeout_s=_DRAIN_S)
