"""Sees to it that a run leaves no process behind, whatever happens to it.

Decides nothing about the run, which goes on in a child of this process. Whoever loses its parent there becomes a child
of this one, so all of them are found when the run has ended; those that stand still too. Is this process killed
itself, the run is told to end, and cleans up behind itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable

import psutil

__all__ = ["guarded"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ENDS_WITHIN_S = 20.0


def guarded(work: Callable[[], int]) -> int:
    """Do the work in a child process, and end all that it leaves; returns its exit code. Call it before any thread."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    mine = os.getpid()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() == mine:
                code = work()
        except KeyboardInterrupt:
            code = 130
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells the child as well
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, signal.SIGTERM))
    try:
        _, status = os.waitpid(child, 0)
    finally:
        _end_all()
    return os.waitstatus_to_exitcode(status)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _end_all() -> None:
    """Until nobody is left: a process may have started another one just before it was killed."""
    while left := psutil.Process().children(recursive=True):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=_ENDS_WITHIN_S)
