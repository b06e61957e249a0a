"""A runner ends with its node's raylet, at once.

Ray ends a worker whose raylet has died within a second, whatever it does. Ending at once is what lets the node's agent,
which has that second too, see the end and tell it: a proof, where else the runner's lease would have to run out.
"""

from __future__ import annotations

import os
import select
import threading

__all__ = ["end_with_raylet"]


def end_with_raylet() -> None:
    """End this process as soon as its raylet has ended."""
    pid = int(os.environ.get("RAY_RAYLET_PID") or os.getppid())
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(1)

    def watch() -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll()
        os._exit(1)

    # A thread: the event loop may be held up by a handler.
    threading.Thread(target=watch, name="cluster-app-raylet", daemon=True).start()
