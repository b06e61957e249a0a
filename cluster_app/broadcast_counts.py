"""How broadcasts are counted at their sender: everything by targets, nothing by the shards they travel to."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from cluster_app.sending import MessageKind
from observe.instruments import cluster
from observe.recorder import Recorder

__all__ = ["BroadcastCounts", "BroadcastKind"]


class BroadcastCounts:
    """What the broadcasts to one type have come to since the last flush, by targets."""

    def __init__(self, entity_type: str) -> None:
        self._entity_type = entity_type
        self._lock = threading.Lock()  # replies settle on any thread
        self._took: dict[str, list[tuple[float, int]]] = {"ok": [], "error": []}
        self._errors: dict[str, int] = {}

    def settled(self, took_s: float, delivered: int, errors: Mapping[str, int]) -> None:
        """So many targets have ended, after so many seconds."""
        with self._lock:
            if delivered:
                self._took["ok"].append((took_s, delivered))
            for reason, count in errors.items():
                self._took["error"].append((took_s, count))
                self._errors[reason] = self._errors.get(reason, 0) + count

    def flush(self, recorder: Recorder) -> None:
        """Move the counts into the recorder, whose lock the caller holds."""
        labels = {"entity_type": self._entity_type, "operation": "broadcast"}
        with self._lock:
            for outcome, settled in self._took.items():
                for took_s, count in settled:
                    recorder.counter(cluster.messages_sent, **labels).value += count
                    latency = recorder.histogram(cluster.message_latency, **labels, outcome=outcome)
                    latency.record_many([took_s] * count)
                settled.clear()
            for reason, count in self._errors.items():
                recorder.counter(cluster.errors, **labels, type=reason).value += count
            self._errors.clear()


class BroadcastKind(MessageKind):
    """The messages to shards that one method's broadcasts are made of. How they end is not counted, the targets are."""

    __slots__ = ()

    def flush(self, recorder: Recorder) -> None:
        """Count only what was sent again."""
        self.sent = 0
        self.took_ok.clear()
        self.took_error.clear()
        self.errors.clear()
        super().flush(recorder)
