"""What a replay needs of a cluster: as little as its tests must fake.

It decides nothing. `cluster_app.connect` returns one that has more; a reference's declared messages are
attributes with ``.remote()`` and are looked up by name, so references are ``Any`` here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from observe.metrics import MetricsSnapshot

__all__ = ["ReplayCluster", "Reply", "Status"]


class Reply(Protocol):
    """A message's answer, now or later."""

    def done(self) -> bool:
        """Whether it is there."""
        ...

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the value, or raise what the message ended with; TimeoutError when the time is up."""
        ...


class Status(Protocol):
    """Who is alive."""

    @property
    def entities(self) -> dict[str, int]:
        """Live entities by type."""
        ...


class ReplayCluster(Protocol):
    """The cluster as a replay sees it."""

    def entity(self, entity_type: type[Any], entity_id: str, /) -> Any:
        """A reference to one entity."""
        ...

    def register(self, entity_type: type[Any]) -> None:
        """Make a type's code known; raises what speaks against it."""
        ...

    def wait_ready(self, reference: Any, /) -> object:
        """Return when this sender has room for one more message to that entity."""
        ...

    def states(self, entity_type: type[Any], /) -> Iterator[tuple[str, dict[str, Any]]]:
        """The id and the public attributes of every living entity of a type; no message is sent for it."""
        ...

    def metrics(self) -> MetricsSnapshot:
        """Flush every process, then read."""
        ...

    def status(self) -> Status:
        """Who is alive now."""
        ...
