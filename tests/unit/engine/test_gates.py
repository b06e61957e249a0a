"""Many wait for a lease that has ended: whoever of them is cancelled meanwhile takes no other along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster_app.annex_calls import Lent
from cluster_app.lent_lease import LentLease
from cluster_app.runner import Runner


def of_a_runner(loop: asyncio.AbstractEventLoop) -> tuple[Callable[[], Any], Callable[[], object]]:
    """A runner's gate, with what it needs of the runner, and how it opens."""
    gate = cast(
        Runner,
        SimpleNamespace(
            _loop=loop,
            _held=[],
            _now=lambda: 0.0,
            until=-1.0,
            paused=False,
            tenure=SimpleNamespace(lease_end=1.0),
        ),
    )
    return lambda: Runner.opened(gate), lambda: Runner.extend(gate)


def of_an_entitys_process(loop: asyncio.AbstractEventLoop) -> tuple[Callable[[], Any], Callable[[], object]]:
    """The gate of a process that was lent nothing yet, and how it opens."""
    lease = LentLease(loop, lambda: 0.0, lambda: None)
    return lease.opened, lambda: lease.lend(Lent(lease.mark(), 1.0))


@pytest.mark.parametrize("gate", [of_a_runner, of_an_entitys_process])
def test_a_cancelled_handler_leaves_the_others_waiting_for_the_lease(
    gate: Callable[[asyncio.AbstractEventLoop], tuple[Callable[[], Any], Callable[[], object]]],
) -> None:
    """Else the one that takes messages from the queue would end with it, and the runner would handle nothing more."""

    async def wait_and_cancel() -> list[bool]:
        opened, open_it = gate(asyncio.get_running_loop())

        async def wait() -> None:
            await opened()

        handler, queue = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        handler.cancel()
        await asyncio.wait([handler])
        open_it()
        await asyncio.wait([queue], timeout=5)
        return [handler.cancelled(), queue.cancelled(), queue.done()]

    assert asyncio.run(wait_and_cancel()) == [True, False, True]
