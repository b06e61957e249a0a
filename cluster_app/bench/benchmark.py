"""A benchmark: its name, its sizes, and how it is measured.

It decides how many of a thing is many: each size has a full figure and one for a quick run, which shows that all
works and measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cluster_app.bench.report import Report
from cluster_app.bench.rounds import Stage

__all__ = ["Benchmark", "Size"]


class Size(NamedTuple):
    """How many of something.

    :ivar name: in JSON, and with dashes on the command line.
    :ivar full: what is measured.
    :ivar quick: what is run to see that it works.
    :ivar help: what it counts.
    :ivar least: fewer make no figure.
    """

    name: str
    full: int
    quick: int
    help: str
    least: int = 1


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What `cluster-app bench NAME` runs.

    :ivar what: one line of help.
    :ivar measure: runs it with a figure for each size. Raises ChildFailed.
    """

    name: str
    what: str
    sizes: tuple[Size, ...]
    measure: Callable[[Mapping[str, int], Stage], Report]

    def asked(self, *, quick: bool, given: Mapping[str, int | None]) -> dict[str, int]:
        """A figure for each size: the given one, or its own."""
        return {
            size.name: given_one
            if (given_one := given.get(size.name)) is not None
            else (size.quick if quick else size.full)
            for size in self.sizes
        }
