"""A whole cluster in memory, for tests: the same API and the same protocol, no Ray, and time that you step.

Knows no Ray, and of OpenTelemetry only what is current. Handlers, timers and timeouts follow the stepped clock:
``asyncio.sleep(10)`` in a handler ends when the test has called ``cluster.clock.advance(10)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster_app.cluster import Cluster
from cluster_app.config import ClusterConfig
from cluster_app.memory_backend import MemoryBackend
from cluster_app.memory_runner import MemoryRunner
from cluster_app.memory_staff import standings
from cluster_app.stepped_loop import SteppedClock, SteppedLoop
from entities.log_address import carry_addresses
from entities.stall_watch import StallWatch
from observe.span_batch import read
from observe.spans import Span

__all__ = ["MemoryCluster"]


class MemoryCluster(Cluster):
    """A cluster in this process.

    :param runners: on each node.
    :param nodes: how many nodes there are at first, named ``node-1``, ``node-2`` and so on; or what each has, as
        `ClusterConfig.groups` asks for it: text is a label, a number is an amount of a resource. Nodes that are
        only counted, and those that join later, have whatever is asked.
    :ivar clock: time stands still until `clock.advance(seconds)`; only `drain` moves it as well, while it waits. So an
        `on_deactivate` that sleeps is cut short by `shutdown`, which on Ray gives it 4 s.
    """

    def __init__(
        self,
        runners: int = 2,
        config: ClusterConfig | None = None,
        *,
        nodes: int | Sequence[Mapping[str, str | float]] = 1,
    ) -> None:
        count = nodes if isinstance(nodes, int) else len(nodes)
        if runners < 1 or count < 1:
            raise ValueError(f"MemoryCluster(runners={runners}, nodes={nodes}): at least 1 of each")
        config = (config or ClusterConfig()).model_copy(update={"runners_per_node": runners})
        self._loop = SteppedLoop()
        self.clock = SteppedClock(self._loop)
        self._memory = MemoryBackend(config, self._loop, standings(config, nodes))
        self._loop.call(self._memory.start(runners, count))
        watch = StallWatch(self._loop, self._loop.thread.ident or 0)
        watch.start()
        self._memory.closing += [watch.end, carry_addresses()]
        super().__init__(self._memory.client, self._memory, config)

    def join(self, node_id: str | None = None) -> str:
        """Start one more runner; it gets its share of the shards.

        :param node_id: on which node; None: on a new one.
        :returns: the runner's id.
        :raises ValueError: no such node, or it is drained.
        """
        return self._loop.call(self._memory.join(node_id))

    def kill(self, runner_id: str, *, proven: bool = True) -> None:
        """End a runner at once, as `kill -9` does; another one is started in its place.

        :param proven: its node has seen the process end, so its shards move at once. False: nobody has, as when the
            node is lost with it; they move when its lease has ended, after ``lease_s`` and a little.
        :raises KeyError: no such runner.
        """
        self._loop.call(self._memory.kill(runner_id, proven))

    def pause(self, runner_id: str) -> None:
        """Let a runner stand still, as a stopped process does."""
        self._loop.call(self._memory.each(runner_id, MemoryRunner.pause))

    def resume(self, runner_id: str) -> None:
        """Let a paused runner go on."""
        self._loop.call(self._memory.each(runner_id, MemoryRunner.resume))

    def kill_entity(self, target: Any) -> None:
        """End the process of an entity with ``hosting="actor"`` at once, as `kill -9` does.

        :param target: a reference to it, its address, or its address as text.
        :raises KeyError: no such entity lives in a process of its own.
        """
        self._loop.call(self._memory.kill_entity(str(target)))

    def spans(self) -> list[Span]:
        """The spans that have ended so far, of messages that are part of a trace: the last 20,000, by their end.

        Times are those of `clock`, in nanoseconds.
        """
        self._loop.call(self._loop.quiet())
        return [
            span
            for part in self._memory.traces.spans.waiting().parts
            for span in read(part)
            if isinstance(span, Span)
        ]

    def kill_coordinator(self) -> None:
        """End the coordinator at once; another one claims the next term."""
        self._loop.call(self._memory.kill_coordinator())
