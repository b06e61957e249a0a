"""Where the shards are, as a sender has been told, and when it asks anew.

Decides which answers of a coordinator count: none of an older version, so of one that stood still, and leads no more.
What becomes of messages is `routing`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cluster_app.directory import Directory
from cluster_app.grants import Epoch
from cluster_app.routes import Loss, Routes
from cluster_app.shard import ShardId
from cluster_app.timetable import Timetable

__all__ = ["KnownRoutes"]

_ASK_AGAIN_S = 0.05  # at first; then less and less often
_MOST_ASK_AGAIN_S = 0.5


class KnownRoutes:
    """The routes of one sender.

    :param told: hears the answer to each question, on any thread, and hands it to `heard` under the sender's lock.
    :ivar gone: the runners that serve nothing any more, whatever the routes say.
    """

    def __init__(
        self,
        directory: Directory,
        timetable: Timetable,
        told: Callable[[Routes | BaseException | None], None],
    ) -> None:
        self.gone: set[str] = set()
        self._directory = directory
        self._timetable = timetable
        self._told = told
        self._routes = Routes(-1, {})
        self._asking = False
        self._ask_at = float("-inf")
        self._ask_wait_s = 0.0

    def owner(self, shard: ShardId) -> tuple[str, Epoch] | None:
        """Who was granted a shard, as far as was told, and under which epoch."""
        return self._routes.owners.get(shard)

    def ask(self, now: float) -> None:
        """Ask for what has changed, unless that is under way; if it is too soon for that, have it done in time."""
        if self._asking:
            return
        if now >= self._ask_at:
            self._asking = True
            self._directory.routes(self._routes.version, self._told)
        else:
            self._timetable.wake_at(self._ask_at)

    def heard(self, routes: Routes | BaseException | None) -> Mapping[str, Loss] | None:
        """Take in an answer.

        :returns: the runners lost of late, if it tells anything new; None if nobody answered.
        """
        self._asking = False
        if isinstance(routes, Routes) and routes.version < self._routes.version:
            routes = ConnectionError("a coordinator that stood still and leads no more")
        if isinstance(routes, BaseException):  # no coordinator just now; another one comes
            self._ask_wait_s = self._timetable.back_off(self._ask_wait_s, _ASK_AGAIN_S, _MOST_ASK_AGAIN_S)
            self._ask_at = self._timetable.now() + self._ask_wait_s
            return None
        self._ask_wait_s = 0.0
        if routes is None or routes.version <= self._routes.version:
            return {}
        self._routes = self._routes.after(routes)
        if self.gone:
            self.gone &= {owner for owner, _ in self._routes.owners.values()}
        return routes.lost
