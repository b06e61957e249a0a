"""What a sender says to a runner in memory, beside the runner's own answer to it."""

from __future__ import annotations

from cluster_app.exchange import Request, Told
from cluster_app.memory_runner import MemoryRunner

__all__ = ["overheard"]


def overheard(memory: MemoryRunner) -> list[Request]:
    """The requests that reach this runner from now on, as they come."""
    requests: list[Request] = []
    carry = memory.exchange

    def heard(request: Request, told: Told) -> None:
        requests.append(request)
        carry(request, told)

    memory.exchange = heard  # type: ignore[method-assign]  # to see what a sender says
    return requests
