"""Which entities of a runner get the most messages now.

Decides which messages are looked at. Small frames, and so all that reaches a quiet runner by frames, are counted in
full; of large frames and of messages within the runner about one in sixteen is, chosen evenly, and stands for the
rest. Two windows of ten seconds each, the one before and the current one, make a rate of the counts.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from itertools import repeat

from cluster_app.envelope import MessageFrame
from cluster_app.status import HotEntity
from observe.heavy_hitters import HeavyHitters

__all__ = ["SHARE", "HotEntities"]

SHARE = 16  # one large frame of so many is counted
_SMALL = 16  # messages; counting them costs less than one percent of a frame's own cost
_WINDOW_S = 10.0
_KEPT = 1_000  # addresses per count: an error of a thousandth of the messages at most
_SHOWN = 10

Key = tuple[str, str]


class _Window:
    """The counts of some seconds.

    :ivar each: messages that were all counted; `some` those that stand for `SHARE` of their like.
    """

    __slots__ = ("each", "since", "some")

    def __init__(self, since: float) -> None:
        self.since = since
        self.each: HeavyHitters[Key] = HeavyHitters(_KEPT)
        self.some: HeavyHitters[Key] = HeavyHitters(_KEPT)

    def counts(self) -> Counter[Key]:
        """About how many messages each address got, of those that are kept."""
        found = Counter({key: SHARE * count for key, count in self.some.most(len(self.some))})
        found.update(dict(self.each.most(len(self.each))))
        return found

    @property
    def error(self) -> int:
        """How much each of these counts may be too low, as far as the addresses that are kept go."""
        return self.each.error + SHARE * self.some.error


class HotEntities:
    """Told of every frame and every local message; everything else is on demand."""

    __slots__ = ("_before", "_current", "_gap", "_random")

    def __init__(self, now: float) -> None:
        self._before = self._current = _Window(now)
        self._random = random.Random()
        self._gap = 1

    def saw(self, frame: MessageFrame, now: float) -> None:
        """A frame of messages has come at `now`, in seconds."""
        count = len(frame.ids)
        if count == 1:
            self._window(now).each.add_one((frame.kinds[frame.kind[0]][0], frame.ids[0]))
            return
        if count <= _SMALL:
            self._window(now).each.add(_keys(frame), count)
            return
        self._gap -= 1
        if not self._gap:
            # One in sixteen on average, at no fixed distance: senders have rhythms of their own.
            self._gap = self._random.randrange(1, 2 * SHARE)
            self._window(now).some.add(_keys(frame), count)

    def saw_one(self, entity_type: str, entity_id: str, now: float) -> None:
        """One message within the runner, out of `SHARE`, has come."""
        self._window(now).some.add_one((entity_type, entity_id))

    def hottest(self, now: float) -> list[HotEntity]:
        """The ten entities with the most messages, the hottest first."""
        current = self._window(now)
        before = self._before
        counts = current.counts()
        error = current.error
        if before is not current:
            counts.update(before.counts())
            error += before.error
        elapsed_s = max(1.0, now - before.since)
        return [
            HotEntity(entity_type, entity_id, count / elapsed_s, error / elapsed_s)
            for (entity_type, entity_id), count in counts.most_common(_SHOWN)
        ]

    def _window(self, now: float) -> _Window:
        current = self._current
        if now - current.since >= _WINDOW_S:
            lately = now - current.since < 2 * _WINDOW_S
            self._before = current if lately else _Window(now - _WINDOW_S)
            self._current = _Window(now)
            return self._current
        return current


def _keys(frame: MessageFrame) -> Iterable[Key]:
    kinds = frame.kinds
    first = kinds[0][0] if kinds else ""
    if len(kinds) == 1 or all(name == first for name, _ in kinds):
        return zip(repeat(first), frame.ids, strict=False)
    return zip([kinds[kind][0] for kind in frame.kind], frame.ids, strict=True)
