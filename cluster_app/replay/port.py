"""What a replay needs of a cluster: as little as its tests must fake.

It decides nothing. `cluster_app.connect` returns one that has more; a reference's declared messages are
attributes with ``.remote()`` and are looked up by name, so references are ``Any`` here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

__all__ = ["Histogram", "Reading", "ReplayCluster", "Reply", "Status"]


class Reply(Protocol):
    """A message's answer, now or later. A callback gets the reply itself, once it is done."""

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the value, or raise what the message ended with."""
        ...

    def add_done_callback(self, callback: Callable[[Any], object], /) -> object:
        """Call back with this reply when it is done; at once if it is."""
        ...


class Histogram(Protocol):
    """A histogram as it was read: `bucket_counts` has one more than `bounds`, each bucket counted by itself."""

    @property
    def bounds(self) -> Sequence[float]:
        """The upper edges, ascending."""
        ...

    @property
    def bucket_counts(self) -> Sequence[int]:
        """The values per bucket; the last one is for those above the highest edge."""
        ...


class Reading(Protocol):
    """The cluster's metrics at one moment."""

    def value(self, name: str, /, **labels: Any) -> float:
        """The sum over the matching points."""
        ...

    def histogram(self, name: str, /, **labels: Any) -> Histogram:
        """The sum over the matching points, bucket by bucket."""
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

    def wait_ready(self, reference: Any, /) -> object:
        """Return when this sender has room for one more message to that entity."""
        ...

    def metrics(self) -> Reading:
        """Flush every process, then read."""
        ...

    def status(self) -> Status:
        """Who is alive now."""
        ...
