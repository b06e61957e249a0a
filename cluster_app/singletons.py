"""Singletons: objects of which the cluster keeps exactly one.

A singleton is the entity of its type with a fixed id, so the grant of its shard makes it the only one. Decides, on each
runner, that those whose shard it is granted live there: started at once, without a message, and again whenever they are
gone. Which types are singletons the coordinator remembers; at most one at a time is the grants' promise.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from cluster_app.grants import Epoch
from cluster_app.registration import answer_to
from cluster_app.shard import ShardId, shard_number
from cluster_app.timetable import EARLY_S
from entities.activation import Activation, Phase
from entities.activator import Activator
from entities.declaration import EntityDefinition
from entities.errors import ActivationFailed
from entities.live_table import LiveTable
from entities.response import RUNNER_THREADS

if TYPE_CHECKING:
    from cluster_app.client import Client

__all__ = ["SINGLETON_ID", "Singletons", "ask_to_keep"]

SINGLETON_ID = "singleton"

_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 30.0
_ASK_AGAIN_S = 0.1

logger = logging.getLogger(__name__)


class Singletons:
    """The singletons of one runner. Everything here happens on its event loop.

    :param granted: under which epoch an entity of a shard may be started now; None if it may not.
    :param fetch: has the host take in the code of a registered type.
    :param shards: shards of a group.
    """

    def __init__(
        self,
        live: LiveTable,
        activator: Activator,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        granted: Callable[[ShardId], Epoch | None],
        fetch: Callable[[str], Awaitable[None]],
        shards: int,
    ) -> None:
        self._live = live
        self._activator = activator
        self._loop = loop
        self._now = now
        self._granted = granted
        self._fetch = fetch
        self._shards = shards
        self._homes: dict[str, ShardId] = {}
        self._fetching: dict[str, asyncio.Task[None]] = {}
        # What did not come to life: when it is tried again, and after how many seconds.
        self._put_off: dict[str, tuple[float, float]] = {}
        self._ended = False
        live.left = self._left

    def told(self, groups: Mapping[str, str]) -> None:
        """The coordinator says which types are singletons, each with its shard group."""
        self._homes = {
            name: ShardId(group, shard_number(name, SINGLETON_ID, self._shards))
            for name, group in groups.items()
        }

    def look(self) -> None:
        """Start what should live here and does not. Called whenever that may have changed; costs little."""
        if self._ended:
            return
        for name, shard in self._homes.items():
            epoch = self._granted(shard)
            if epoch is None:
                self._put_off.pop(name, None)  # whoever is granted it next begins anew
                continue
            activation = self._living(name)
            if activation is not None:
                activation.keep_until = math.inf
                if activation.phase is Phase.ACTIVE:
                    self._put_off.pop(name, None)
            elif name not in self._put_off or self._now() + EARLY_S >= self._put_off[name][0]:
                self._start(name, shard, epoch)

    def living(self) -> int:
        """How many singletons live here."""
        return sum(self._living(name) is not None for name in self._homes)

    def end(self) -> None:
        """The runner shuts down: start nothing more."""
        self._ended = True
        for task in self._fetching.values():
            task.cancel()

    def _living(self, name: str) -> Activation | None:
        hosted = self._live.hosted(name)
        return None if hosted is None else hosted.live.get(SINGLETON_ID)

    def _start(self, name: str, shard: ShardId, epoch: Epoch) -> None:
        hosted = self._live.hosted(name)
        if hosted is None:
            if name not in self._fetching:
                self._fetching[name] = self._loop.create_task(self._fetched(name))
            return
        try:
            activation = self._activator.activate(hosted, SINGLETON_ID, shard.number, epoch, self._now())
        except ActivationFailed as failed:
            self._try_later(name, failed.__cause__ or failed)
        else:
            activation.keep_until = math.inf

    async def _fetched(self, name: str) -> None:
        try:
            await self._fetch(name)
        except Exception as raised:  # the import of the user's module, for one
            self._try_later(name, raised)
        else:
            if self._live.hosted(name) is None:
                self._try_later(name, LookupError(f"the code of {name} cannot be had"))
        del self._fetching[name]
        self.look()

    def _left(self, activation: Activation, error: BaseException | None) -> None:
        name = activation.hosted.definition.name
        if activation.entity_id != SINGLETON_ID or name not in self._homes or self._ended:
            return
        if error is not None:
            self._try_later(name, error)
        # Later: what waited in its mailbox may bring the next one to life, and a shard that leaves is gone by then.
        self._loop.call_soon(self.look)

    def _try_later(self, name: str, error: BaseException) -> None:
        _, before_s = self._put_off.get(name, (0.0, 0.0))
        wait_s = min(_LAST_RETRY_S, before_s * 2 or _FIRST_RETRY_S)
        self._put_off[name] = (self._now() + wait_s, wait_s)
        logger.error("singleton %s did not come to life; next try in %.0f s", name, wait_s, exc_info=error)
        self._loop.call_later(wait_s, self.look)


def ask_to_keep(client: Client, definition: EntityDefinition) -> None:
    """Have the cluster keep exactly one entity of this type.

    Blocks until the coordinator has taken it in, through its restarts. In a handler, where nothing may block, it goes
    on by itself after this has returned, and a refusal is logged.

    :raises TypeConflict: the type's name is taken by other code.
    :raises ConnectionError: no coordinator answered within the default message timeout.
    """
    if threading.get_ident() in RUNNER_THREADS:
        until = client.now() + client.default_timeout_s
        _go_on_asking(client, definition, asyncio.get_running_loop(), until)
        return
    deadline = time.monotonic() + client.default_timeout_s
    keep = partial(client.types.keep, definition)
    while (refusal := answer_to(keep, deadline - time.monotonic())) is not None:
        if not isinstance(refusal, ConnectionError) or time.monotonic() >= deadline:
            raise refusal
        time.sleep(_ASK_AGAIN_S)


def _go_on_asking(
    client: Client, definition: EntityDefinition, loop: asyncio.AbstractEventLoop, until: float
) -> None:
    again = partial(_go_on_asking, client, definition, loop, until)

    def told(refusal: BaseException | None) -> None:
        if isinstance(refusal, ConnectionError) and client.now() < until:
            loop.call_soon_threadsafe(loop.call_later, _ASK_AGAIN_S, again)
        elif refusal is not None:
            logger.error("%s does not become a singleton: %s", definition.name, refusal)

    client.types.keep(definition, told)
