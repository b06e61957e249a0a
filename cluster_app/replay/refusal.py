"""Why a run cannot go on, in one line, with a hint on what to do.

It decides how a command fails: the text, the hint and the exit code. It prints nothing.
"""

from __future__ import annotations

__all__ = ["Refusal"]


class Refusal(Exception):
    """A command cannot do what it was asked.

    :ivar hint: what to do about it; may be empty.
    :ivar exit_code: 1, or 2 when the command line itself is wrong.
    """

    def __init__(self, problem: str, *, hint: str = "", exit_code: int = 1) -> None:
        super().__init__(problem)
        self.hint = hint
        self.exit_code = exit_code
