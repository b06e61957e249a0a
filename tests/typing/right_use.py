"""Right use of the public API. Both type checkers find nothing to say about this file; it is never run."""

from __future__ import annotations

from typing import assert_type

import cluster_app
from cluster_app import Entity, EntityResponse, entity, message
from entities.catalog import Counter


@entity(hosting="actor", num_cpus=1, num_gpus=0.5, resources={"memory": 1e9}, runtime_env={"env_vars": {}})
class Model(Entity):
    """Every demand of a process of its own."""


@entity(max_idle_time=5.0, mailbox_capacity=16)
class Account(Entity):
    """Every shape a message may have."""

    def __init__(self) -> None:
        self.balance = 0

    async def on_activate(self) -> None:
        """The optional hook at the start."""

    async def on_deactivate(self, reason: str) -> None:
        """The optional hook at the end."""

    @message
    async def pay_in(self, amount: int, *, note: str = "") -> int:
        """A coroutine; inside the entity a message is a plain method."""
        self.balance += amount
        assert_type(self.read(), int)
        assert_type(await self.pay_in(1), int)
        return self.balance

    @message
    def read(self) -> int:
        """A plain function."""
        return self.balance

    @message(idempotent=True)
    async def owner(self) -> str | None:
        """A declaration with options."""
        return self.address.id

    @message(idempotent=True)
    def archive(self, path: str) -> None:
        """A function that gives nothing back."""

    @message(blocking=True)
    def print(self, copies: int = 1) -> list[str]:
        """A function that runs on a thread, and waits for replies there."""
        assert_type(self.entity(Account, "bob").read.remote().result(), int)
        return ["page"] * copies

    @message(idempotent=True, blocking=True)
    def scan(self) -> bytes:
        """Both options."""
        return b""

    @message
    async def pass_on(self, to: str, amount: int) -> int:
        """An entity asks another."""
        reply = self.entity(Account, to).pay_in.remote(amount)
        assert_type(reply, EntityResponse[int])
        return await reply


class Savings(Account):
    """A message may be overridden, also as the other kind of function with the same result."""

    @message
    async def pay_in(self, amount: int, *, note: str = "") -> int:
        """Calls the one above."""
        return await super().pay_in(amount * 2, note=note)


def from_a_thread() -> None:
    """Send from ordinary code."""
    with cluster_app.connect() as cluster:
        account = cluster.entity(Account, "ada")
        assert_type(account, Account)
        assert_type(account.pay_in.remote(5), EntityResponse[int])
        assert_type(account.pay_in.remote(5, note="gift"), EntityResponse[int])
        assert_type(account.pay_in.options(timeout_s=0.5).remote(amount=5), EntityResponse[int])
        assert_type(account.read.remote(), EntityResponse[int])
        assert_type(account.owner.remote(), EntityResponse[str | None])
        assert_type(account.archive.remote("/tmp/a"), EntityResponse[None])
        assert_type(account.print.remote(2), EntityResponse[list[str]])
        assert_type(account.scan.options(timeout_s=2).remote().result(), bytes)
        assert_type(account.read.remote().result(), int)
        assert_type(account.read.remote().result(timeout_s=5), int)
        assert_type(account.read.remote().done(), bool)
        assert_type(cluster.entity(Savings, "ada").pay_in.remote(5), EntityResponse[int])
        assert_type(cluster.entity(Counter, "c").increment.remote(2).result(), int)
        assert_type(cluster.singleton(Account), Account)
        cluster.register(Account)
        cluster.wait_ready(account)


async def from_a_coroutine() -> None:
    """Send from asyncio code."""
    async with cluster_app.connect() as cluster:
        account = cluster.entity(Account, "ada")
        await cluster.ready(account)
        assert_type(await account.pay_in.remote(5), int)
        assert_type(await account.owner.remote(), str | None)


async def tested_plainly() -> None:
    """An entity is an object: its messages can be called on it."""
    account = Account()
    assert_type(account.read(), int)
    assert_type(await account.pay_in(2), int)
