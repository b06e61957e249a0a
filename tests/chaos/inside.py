"""What a run of faults changes in the processes of a cluster: they are recorded, and some are broken on purpose.

Decides what is wrapped, nothing about who is told to do what. ``CHAOS_PLANT`` names the fault to be planted, which a
run must then find: ``fence`` (a runner whose lease has ended goes on, and tells), ``dedup`` (a frame that comes again
is taken again), ``roster`` (a new term grants without waiting for the runners of the one before).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from tests.chaos import processes

__all__ = ["PLANTS", "imported"]

PLANTS = ("fence", "dedup", "roster")

_FOREVER = float("inf")


def imported(module: ModuleType) -> None:
    """A module of the cluster has been imported in this process."""
    name = module.__name__
    plant = os.environ.get("CHAOS_PLANT", "")
    if name == "cluster_app.runner":
        _after(module.Runner, "__init__", _runner_begins)
        _after(module.Runner, "extend", _lease_renewed)
        if plant == "fence":
            _after(module.Runner, "extend", _never_suspended)
    elif name == "cluster_app.ray_reporter":
        _after(module.Reporter, "end", lambda reporter: processes.farewell())
    elif name == "cluster_app.annexed_entity":
        _after(module.AnnexedEntity, "__init__", _annex_begins)
    elif name == "cluster_app.coordinator_service":
        _after(module.CoordinatorService, "__init__", _coordinator_begins)
    elif name == "observe.node_agent":
        _after(module.NodeAgent, "__init__", _agent_begins)
    elif name == "cluster_app.inbound_lane" and plant == "dedup":
        module.InboundLane.offer = _taken_again(module.InboundLane.offer)
    elif name == "cluster_app.coordinator" and plant == "roster":
        _after(module.Coordinator, "__init__", _waits_for_nobody)


def _after(cls: Any, method: str, then: Callable[..., None]) -> None:
    """Have `then(self, *args)` called after the method."""
    before = getattr(cls, method)

    @functools.wraps(before)
    def both(self: Any, *args: Any, **kwargs: Any) -> Any:
        value = before(self, *args, **kwargs)
        then(self, *args)
        return value

    setattr(cls, method, both)


# -- who is who, and the leases


def _runner_begins(runner: Any, runner_id: str, node_id: str, *_: Any) -> None:
    processes.introduce("runner", runner_id, node_id)


def _annex_begins(_: Any, tenancy: Any, *__: Any) -> None:
    processes.introduce("entity", tenancy.process, _here(), runner=tenancy.process.partition("/")[0])


def _coordinator_begins(service: Any, namespace: str, incarnation: str, *_: Any) -> None:
    processes.introduce("coordinator", incarnation, _here(), term=service.term)


def _agent_begins(*_: Any) -> None:
    processes.introduce("agent", f"agent-{os.getpid()}", _here())


def _here() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _lease_renewed(runner: Any) -> None:
    until = runner.tenure.lease_end
    if until > getattr(runner, "lease_noted", -_FOREVER) and until > 0:
        runner.lease_noted = until
        processes.scribe().note("lease", runner=runner.runner_id, until=until)


# -- planted faults


def _never_suspended(runner: Any) -> None:
    if runner.tenure.lease_end > 0:
        runner.until = _FOREVER


def _taken_again(offer: Callable[..., Any]) -> Callable[..., Any]:
    def again(lane: Any, frame: Any, attachments: Any) -> Any:
        if frame.number < lane._next_frame:
            return [(frame, attachments)]
        return offer(lane, frame, attachments)

    return again


def _waits_for_nobody(coordinator: Any, *_: Any) -> None:
    coordinator._awaited.clear()
