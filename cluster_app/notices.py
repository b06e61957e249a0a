"""Nodes that are about to be taken away: pre-empted, or ended by whoever runs the machines.

Decides from when on what still runs there is not waited for any longer. That such a node is emptied at once is
`coordinator_service`'s business, who tells of it the edge's. Pure: what is told, and how long is left, comes in.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

__all__ = ["Notices"]

# What is cut short has to be told to its senders, and the node's counts to another node, before the node ends.
_SHARE = 0.1
_LEAST_S, _MOST_S = 4.0, 6.0


class Notices:
    """What has been told so far of the nodes that are to go.

    :ivar nodes: those nodes.
    """

    def __init__(self) -> None:
        self.nodes: Collection[str] = frozenset()
        self._left: dict[str, float] = {}
        self._longest: dict[str, float] = {}

    def hear(self, left_s: Mapping[str, float | None]) -> dict[str, float | None]:
        """Which nodes are to go, and in how many seconds each; None where nobody says when.

        :returns: of those the ones not heard of before.
        """
        new = {node: left for node, left in left_s.items() if node not in self.nodes}
        self.nodes = frozenset(left_s)
        self._left = {node: math.inf if left is None else left for node, left in left_s.items()}
        # The notice that was given, from when it was first heard: a later word may only shorten or prolong it.
        self._longest = {node: max(left, self._longest.get(node, 0.0)) for node, left in self._left.items()}
        return new

    def due(self) -> list[str]:
        """The nodes that end so soon that nothing there is to be waited for."""
        return [
            node
            for node, left in self._left.items()
            if left <= min(_MOST_S, max(_LEAST_S, _SHARE * self._longest[node]))
        ]
