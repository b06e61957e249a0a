"""When a process was started: what tells it from one that has its pid after it."""

from __future__ import annotations

__all__ = ["process_start"]


def process_start(pid: int) -> int:
    """In clock ticks since the machine's boot; 0 when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            text = stat.read()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The second field is the program's name, in parentheses, and may hold spaces and parentheses itself.
    return int(text.rpartition(b")")[2].split()[19])
