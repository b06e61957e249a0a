"""The coordinators of a memory cluster: the one that is asked, and those that stand still while another one is.

Decides who leads when one is killed, stands still or goes on, and that a death which was seen is told until somebody
has heard it. What a coordinator does is `coordinator_service`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cluster_app.kv import KeyValueUnavailable
from cluster_app.memory_coordinator import MemoryCoordinator
from cluster_app.stepped_loop import SteppedLoop

__all__ = ["MemoryCoordinators"]

_AGAIN_S = 0.1  # after which the coordinator is told again what it could not take in


class MemoryCoordinators:
    """Everything here happens on the cluster's loop.

    :param numbers: tells its incarnations apart, and the cluster's runners as well.
    :param make: makes a coordinator of this incarnation, which claims the next term.
    :ivar asked: the one that is asked, alone in a list that runners share; empty before `lead`.
    :ivar stopped: those that stand still, or did, while another one is asked.
    """

    def __init__(
        self, loop: SteppedLoop, numbers: Iterator[int], make: Callable[[str], MemoryCoordinator]
    ) -> None:
        self.asked: list[MemoryCoordinator] = []
        self.stopped: list[MemoryCoordinator] = []
        self._loop = loop
        self._make = make
        self._numbers = numbers
        self._deaths: list[str] = []  # seen, and not yet told to a coordinator

    def lead(self) -> None:
        """Have a new coordinator lead."""
        self.asked[:] = [self._make(f"coordinator-{next(self._numbers)}")]
        self._tell_deaths()

    def answering(self) -> MemoryCoordinator:
        """The one that is asked; raises ConnectionError while it stands still."""
        if not self.asked[0].awake:
            raise ConnectionError("the coordinator does not answer")
        return self.asked[0]

    def proven_dead(self, runner_id: str) -> None:
        """A runner's process has ended, and its node has seen it."""
        self._deaths.append(runner_id)
        self._tell_deaths()

    def _tell_deaths(self) -> None:
        """The agents tell of a death until a coordinator has heard it."""
        while self._deaths and self.asked[0].awake:
            try:
                self.asked[0].proven_dead(self._deaths[0])
            except KeyValueUnavailable:
                self._loop.call_later(_AGAIN_S, self._tell_deaths)
                return
            del self._deaths[0]

    def kill(self) -> None:
        """End the one that is asked, as `kill -9` does; another one leads."""
        self.asked[0].kill()
        self.lead()

    def succeed(self) -> None:
        """Another coordinator is started, whatever the one before does or will do."""
        self.stopped.append(self.asked[0])
        self.lead()

    def wake(self) -> None:
        """All that stand still go on."""
        for coordinator in [*self.stopped, self.asked[0]]:
            coordinator.resume()
        self._tell_deaths()

    def close(self) -> None:
        """End all of them, and start none."""
        for coordinator in [*self.stopped, *self.asked]:
            coordinator.kill()
