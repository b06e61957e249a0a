"""Hearing of SIGTERM in a process of Ray's.

Decides how, not what follows. Python lets only the main thread set a signal's handler, and an async actor has none of
its code there: Ray's own handler, set before, ends the process within a quarter of a second. What any thread may set
is where `faulthandler` writes for a signal; so it writes into a pipe, and whoever reads knows.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import threading
from collections.abc import Callable

__all__ = ["hear_sigterm"]

_ONE_S = 0.1  # what is written within so long is of one signal: it comes in pieces


def hear_sigterm(told: Callable[[int], object]) -> None:
    """Have SIGTERM tell this instead of ending the process: how many there were so far, on a thread of its own.

    Two within a tenth of a second are one.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # never to stand in a signal's handler, should nobody read
    # The main thread gets it, as long as that does not block it; the others' stacks need not be looked at.
    faulthandler.register(signal.SIGTERM, file=writing, all_threads=False, chain=False)
    threading.Thread(target=_hear, args=(reading, told), name="cluster-app-sigterm", daemon=True).start()


def _hear(reading: int, told: Callable[[int], object]) -> None:
    times = 0
    while os.read(reading, 65536):
        while select.select([reading], [], [], _ONE_S)[0]:
            os.read(reading, 65536)
        times += 1
        told(times)
