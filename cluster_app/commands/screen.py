"""Where a command prints its tables."""

from __future__ import annotations

from rich.console import Console

__all__ = ["screen"]

_WIDE = 140  # columns


def screen() -> Console:
    """Standard output; where it is no terminal, which would say how wide it is, ids are still to be read whole."""
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    return console
