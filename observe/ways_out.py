"""All ways out of a node for one signal: as many as the standard variables name, none when they name none.

Decides that a variable of no use is told in one line and that everything else goes on; and how long all of them
together may take. Loads OpenTelemetry and gRPC only if anything is to leave.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from observe.export_status import ExportStatus

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from observe.way_out import WayOut

__all__ = ["Node", "WaysOut", "exporter_class"]

logger = logging.getLogger(__name__)

Way = TypeVar("Way", bound="WayOut")


class Node(NamedTuple):
    """Whose telemetry it is.

    :ivar version: of this package.
    :ivar namespace: of its cluster, where there are others.
    """

    node_id: str
    session: str
    version: str
    namespace: str | None = None


class WaysOut(Generic[Way]):
    """The exporters of one signal.

    :param unusable: variables that are of no use, each with why. They are taken out of the environment, so that the
        SDK, which reads it too, does not stumble over them.
    """

    def __init__(self, unusable: Mapping[str, str], environ: MutableMapping[str, str]) -> None:
        for name, why in unusable.items():
            logger.error("%s cannot be used: %s", name, why)
            environ.pop(name, None)
        self._running: list[Way] = []

    def _begin(
        self,
        exporters: tuple[str, ...],
        node: Node,
        way: Callable[[str, Resource, Callable[[], str | None]], Way],
    ) -> None:
        """Start one for each of these entry points.

        :param way: makes one of a name, a resource, and what tells what exporters have logged in the calling thread.
        """
        if not exporters:
            return
        from observe.exporter_log import ExporterLog
        from observe.resource import node_resource

        log = ExporterLog()
        log.attach()
        resource = node_resource(node.node_id, node.session, namespace=node.namespace)
        for name in exporters:
            made = way(name, resource, log.take)
            made.start()
            self._running.append(made)

    @property
    def status(self) -> list[ExportStatus]:
        """How each of them goes."""
        return [way.status for way in self._running]

    def flush(self, within_s: float) -> None:
        """Have each export all it has, and wait until it has, in that time at most."""
        deadline = time.monotonic() + within_s
        for way in self._running:
            way.flush(max(0.0, deadline - time.monotonic()))

    def close(self, within_s: float) -> None:
        """Have each export for the last time and end, in that time at most."""
        for way in self._running:
            way.begin_to_close()
        deadline = time.monotonic() + within_s
        for way in self._running:
            way.close(max(0.0, deadline - time.monotonic()))


def exporter_class(group: str, variable: str, name: str) -> Any:
    """What an entry point leads to. Raises ValueError, which names the variable, for one that is not there."""
    from opentelemetry.util._importlib_metadata import entry_points

    from observe.exporter_log import hear_repeats

    found = next(iter(entry_points(group=group, name=name)), None)
    if found is None:
        known = ", ".join(sorted({point.name for point in entry_points(group=group)}))
        raise ValueError(f"{variable}: no exporter is called {name!r}; there are: {known}")
    loaded = found.load()
    hear_repeats()
    return loaded
