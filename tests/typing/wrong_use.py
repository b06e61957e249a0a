"""Wrong use of the public API: both type checkers object to every line marked `error`, and to no other."""

from __future__ import annotations

import cluster_app
from cluster_app import Entity, EntityResponse, entity, message


@entity(max_idle_time=5.0)
class Account(Entity):
    """An account to misuse."""

    @message
    async def pay_in(self, amount: int, *, note: str = "") -> int:
        """A coroutine."""
        return amount

    @message(idempotent=True)
    def owner(self, upper: bool = False) -> str:
        """A plain function."""
        return "ada"

    @message(blocking=True)
    def print(self, copies: int = 1) -> list[str]:
        """A function for a thread."""
        return ["page"] * copies

    def audit(self) -> int:
        """Not declared: cannot be called from outside."""
        return 0


class Savings(Account):
    """Overrides what it must not change."""

    @message
    async def pay_in(self, amount: str) -> str:  # error
        """Other types than the message it overrides."""
        return amount


@entity(max_idle_time="soon")  # error
class Idle(Entity):
    """An option of the wrong type."""


@entity(max_idle=5.0)  # error
class Misspelt(Entity):
    """An option that there is not."""


@entity(hosting="thread")  # error
class Threaded(Entity):
    """A way of hosting that there is not."""


@entity(hosting="actor", num_gpus="all")  # error
class Greedy(Entity):
    """A demand that is no amount."""


class NotAnEntity:
    """Lacks the base class."""


def send(cluster: cluster_app.Cluster) -> None:
    """One mistake a line."""
    account = cluster.entity(Account, "ada")
    account.pay_in.remote("five")  # error
    account.pay_in.remote()  # error
    account.pay_in.remote(5, 6)  # error
    account.pay_in.remote(5, memo="gift")  # error
    account.pay_in.options(timeout_s="soon").remote(5)  # error
    account.pay_in.options(timeout=5).remote(5)  # error
    account.owner.remote(upper=1.5)  # error
    account.print.remote("two")  # error
    pages: int = account.print.remote().result()  # error
    account.pay_out.remote(5)  # error
    account.audit.remote()  # error
    count: str = account.pay_in.remote(5).result()  # error
    name: int = account.owner.remote().result()  # error
    reply: EntityResponse[str] = account.pay_in.remote(5)  # error
    account.pay_in.remote(5).result(timeout_s="soon")  # error
    cluster.entity(NotAnEntity, "ada")  # error
    cluster.entity(Account, 7)  # error
    cluster.entity(Account)  # error
    print(count, name, reply, pages)


async def inside() -> None:
    """A plain call is checked as well."""
    account = Account()
    await account.pay_in("five")  # error
    text: str = await account.pay_in(5)  # error
    print(text)
