"""Ctrl-C for a command that runs until it comes.

Python raises KeyboardInterrupt wherever the main thread is just then. In an object's destructor, or a callback of
compiled code such as Ray's, it is printed and forgotten, and the command would go on.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["heard_ctrl_c"]


@contextlib.contextmanager
def heard_ctrl_c() -> Iterator[Callable[[], None]]:
    """What the block calls now and then: it raises KeyboardInterrupt if Ctrl-C has come, whatever became of that.

    At a prompt that handles Ctrl-C in its own way, and in another thread than the main one, it changes nothing.
    """
    came = False

    def heard(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield check
        return
    signal.signal(signal.SIGINT, heard)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, usual)
