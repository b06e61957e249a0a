"""Writes down each lease of each runner, from within the runner.

Decides when: on the runner's loop, once an answer has taken effect and before anything can happen under it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster_app.grants import Lease
from cluster_app.runner import Runner
from tests.chaos.history import Scribe

__all__ = ["note_lease", "record_leases"]


@contextmanager
def record_leases(note: Callable[[Runner], object]) -> Iterator[None]:
    """Until the context ends, each answer that gives a runner of this process a lease is told to `note`."""
    apply = Runner.apply

    def applied(self: Runner, lease: Lease, sent_at: float) -> bool:
        at_once = apply(self, lease, sent_at)
        # An answer that was refused, or came too late, has given nothing.
        if self.tenure.lease_end > self._now():
            note(self)
        return at_once

    Runner.apply = applied  # type: ignore[method-assign]  # the runner has no hook for this: only tests want it
    try:
        yield
    finally:
        Runner.apply = apply  # type: ignore[method-assign]  # as above


def note_lease(scribe: Scribe, runner: Runner) -> None:
    """Write down the lease of a runner in a process of its own."""
    scribe.note("lease", runner=runner.runner_id, until=runner.tenure.lease_end)
