"""Messages that are wrong in every way we could think of: each fails alone, with the right error."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from cluster_app import (
    ActivationFailed,
    Cluster,
    ClusterError,
    Entity,
    EntityResponse,
    HandlerError,
    MailboxFull,
    MalformedMessage,
    Timeout,
    entity,
    message,
)
from cluster_app.reference import OutgoingMessage
from cluster_app.testing import MemoryCluster

if TYPE_CHECKING:
    from tests.conftest import Counts


class OneWay(Exception):
    """Pickles, and cannot be read back: its `__init__` wants more than its args hold."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Mute(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Locked(Exception):
    """Holds what cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


def explode(kind: type[BaseException]) -> Any:
    """Raise `kind`; what `Bomb` does when it is read back."""
    raise kind("boom")


class Bomb:
    """Pickles well, and raises when it is read back."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return explode, (self.kind,)


class Sticky:
    """Raises when it is pickled."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        raise self.kind("stuck")


KINDS: dict[str, type[BaseException]] = {
    "ValueError": ValueError,
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "CancelledError": asyncio.CancelledError,
    "GeneratorExit": GeneratorExit,
    "RecursionError": RecursionError,
    "MemoryError": MemoryError,
}


@entity(name="poison.Taster")
class Taster(Entity):
    """Does whatever harm it is told to."""

    def __init__(self) -> None:
        self.tasted = 0

    @message
    def good(self, number: int) -> int:
        self.tasted += 1
        return number

    @message
    def swallow(self, content: Any, *, note: str = "") -> int:
        self.tasted += 1
        return len(content)

    @message
    def reply_with(self, what: str) -> Any:
        self.tasted += 1
        if what == "lock":
            return threading.Lock()
        if what == "generator":
            return (n for n in range(3))
        kind, _, name = what.partition(":")
        return (Bomb if kind == "bomb" else Sticky)(KINDS[name])

    @message
    def raise_now(self, what: str) -> int:
        self.tasted += 1
        raise self._made(what)

    @message
    async def raise_later(self, what: str) -> int:
        self.tasted += 1
        await asyncio.sleep(0)
        raise self._made(what)

    @message
    async def nest(self, what: str) -> Any:
        return await self.entity(Taster, f"nested-{self.address.id}").raise_now.remote(what)

    @message
    def many(self, size: int) -> bytes:
        return bytes(size)

    @message
    def times(self) -> int:
        return self.tasted

    @staticmethod
    def _made(what: str) -> BaseException:
        if what == "one-way":
            return OneWay(3, "one way")
        if what == "mute":
            return Mute()
        if what == "locked":
            return Locked()
        if what == "bomb":
            return ValueError(Bomb(SystemExit))
        if what == "full":
            return MailboxFull("mine")
        return KINDS[what]("raised")

    def undeclared(self) -> str:
        return "never"


def among_neighbours(
    taster: Taster, others: list[Taster], poisoned: Callable[[], EntityResponse[Any]]
) -> BaseException | None:
    """Send good messages before, between and after a poisoned one; check all of them, and return its error."""
    before = [taster.good.remote(n) for n in range(20)] + [other.good.remote(20) for other in others]
    bad = poisoned()
    after = [taster.good.remote(n) for n in range(20)] + [other.good.remote(20) for other in others]
    assert [reply.result(30) for reply in before] == [*range(20), *([20] * len(others))]
    assert [reply.result(30) for reply in after] == [*range(20), *([20] * len(others))]
    try:
        bad.result(30)
    except BaseException:
        return bad.exception()
    return None


class Table:
    """A taster, its neighbours, and what must have been counted at the end."""

    def __init__(self, cluster: Cluster, counts: Counts) -> None:
        run = uuid.uuid4().hex
        self.taster = cluster.entity(Taster, run)
        self.others = [cluster.entity(Taster, f"{run}-{n}") for n in range(5)]
        self._counts = counts

    def serve(self, poisoned: Callable[[], EntityResponse[Any]]) -> BaseException | None:
        """The poisoned message's error, its neighbours being fine."""
        return among_neighbours(self.taster, self.others, poisoned)

    def check(self, reason: str, *, received: int) -> None:
        """Exactly one error of that reason was counted, and of the 51 messages so many were received."""
        self._counts.refresh()
        labels = {"entity_type": "poison.Taster"}
        assert self._counts.of("cluster_messages_sent_total", **labels) == 51
        assert self._counts.of("cluster_messages_received_total", **labels) == received
        assert self._counts.of("cluster_errors_total", **labels) == 1
        assert self._counts.of("cluster_errors_total", **labels, type=reason) == 1
        self._counts.check_invariants("poison.Taster")


@pytest.fixture
def table(cluster: Cluster, counts: Counts) -> Table:
    """A taster among neighbours."""
    return Table(cluster, counts)


def test_an_argument_that_cannot_be_pickled_fails_alone(table: Table) -> None:
    """MalformedMessage, which says what pickling said, with the original as its cause; nothing was sent."""
    error = table.serve(lambda: table.taster.swallow.remote(threading.Lock()))
    assert isinstance(error, MalformedMessage)
    assert "cannot be pickled" in str(error)
    assert isinstance(error.__cause__, TypeError)
    assert error.may_have_run is False
    table.check("MalformedMessage", received=50)


@pytest.mark.parametrize("name", ["ValueError", "SystemExit", "KeyboardInterrupt", "CancelledError"])
def test_an_argument_that_cannot_be_read_back_fails_alone(table: Table, name: str) -> None:
    """MalformedMessage, whatever reading it raises: even SystemExit ends neither the runner nor the batch."""
    error = table.serve(lambda: table.taster.swallow.remote(Bomb(KINDS[name])))
    assert isinstance(error, MalformedMessage)
    assert "boom" in str(error)
    assert error.may_have_run is False
    table.check("MalformedMessage", received=50)


@pytest.mark.parametrize("what", ["lock", "generator", "sticky:ValueError", "sticky:SystemExit"])
def test_a_reply_that_cannot_be_pickled_fails_alone(table: Table, what: str) -> None:
    """MalformedMessage, and it says that the handler has run."""
    error = table.serve(lambda: table.taster.reply_with.remote(what))
    assert isinstance(error, MalformedMessage)
    assert "reply" in str(error)
    assert error.may_have_run is True
    table.check("MalformedMessage", received=51)


@pytest.mark.parametrize("name", ["ValueError", "SystemExit", "KeyboardInterrupt", "CancelledError"])
def test_a_reply_that_cannot_be_read_back_fails_alone(table: Table, name: str) -> None:
    """MalformedMessage at the sender, and the other replies in its frame arrive."""
    error = table.serve(lambda: table.taster.reply_with.remote(f"bomb:{name}"))
    assert isinstance(error, MalformedMessage)
    assert "boom" in str(error)
    assert error.may_have_run is True
    table.check("MalformedMessage", received=51)


@pytest.mark.parametrize("later", [False, True], ids=["at once", "after waiting"])
@pytest.mark.parametrize("name", sorted(KINDS))
def test_whatever_a_handler_raises_is_its_senders(table: Table, name: str, later: bool) -> None:
    """HandlerError with the original as its cause; SystemExit and the like end their message only."""
    taster = table.taster
    error = table.serve(lambda: (taster.raise_later if later else taster.raise_now).remote(name))
    assert isinstance(error, HandlerError)
    assert type(error.__cause__) is KINDS[name]
    assert error.__cause__ is not None and error.__cause__.args == ("raised",)
    assert error.may_have_run is True
    assert f"{name}: raised" in str(error)
    assert "_made" in error.traceback_text or "raise_" in error.traceback_text
    table.check("HandlerError", received=51)


@pytest.mark.parametrize("what", ["one-way", "mute", "locked", "bomb"])
def test_an_exception_that_does_not_travel_arrives_as_text(table: Table, what: str) -> None:
    """HandlerError with text and traceback and no cause, when the exception cannot be pickled or read back."""
    error = table.serve(lambda: table.taster.raise_later.remote(what))
    assert isinstance(error, HandlerError)
    names = {
        "one-way": "OneWay: one way",
        "mute": "Mute",
        "locked": "Locked: holds a lock",
        "bomb": "ValueError",
    }
    assert names[what] in str(error)
    assert "raise_later" in error.traceback_text
    if what in ("one-way", "locked", "bomb"):
        assert error.__cause__ is None
    table.check("HandlerError", received=51)


def test_a_cluster_error_raised_by_a_handler_is_a_handler_error(table: Table) -> None:
    """The sender cannot mistake an error of a handler's own for one of its message."""
    error = table.serve(lambda: table.taster.raise_now.remote("full"))
    assert isinstance(error, HandlerError)
    assert isinstance(error.__cause__, MailboxFull)
    assert error.__cause__.detail == "mine"
    table.check("HandlerError", received=51)


def test_a_nested_messages_error_left_unhandled_is_a_handler_error(cluster: Cluster) -> None:
    """A asks B, B raises: A's sender gets HandlerError, its cause B's HandlerError, and that one's B's exception."""
    with pytest.raises(HandlerError) as caught:
        cluster.entity(Taster, uuid.uuid4().hex).nest.remote("ValueError").result(30)
    nested = caught.value.__cause__
    assert isinstance(nested, HandlerError)
    assert nested.address is not None and nested.address.id.startswith("nested-")
    assert isinstance(nested.__cause__, ValueError)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, 2), {}), ((1,), {"number": 2}), ((1,), {"nonsense": 2}), ((), {"nonsense": 2})],
)
def test_arguments_that_do_not_bind_fail_alone(
    table: Table, args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    """MalformedMessage that shows the signature; the handler did not run."""
    good: Any = table.taster.good
    error = table.serve(lambda: good.remote(*args, **kwargs))
    assert isinstance(error, MalformedMessage)
    assert "(number: 'int')" in str(error)
    assert error.may_have_run is False
    table.check("MalformedMessage", received=50)
    assert table.taster.times.remote().result(30) == 40


@pytest.mark.parametrize(
    "name",
    ["__init__", "on_activate", "on_deactivate", "undeclared", "deactivate", "__class__", "no_such", ""],
)
def test_a_forged_method_is_never_called(table: Table, name: str) -> None:
    """A message that names what is not declared, forged past the reference's own check, is MalformedMessage."""
    forged = forge(table.taster, name)
    error = table.serve(forged.remote)
    assert isinstance(error, MalformedMessage)
    assert "not a declared message" in str(error)
    assert error.may_have_run is False
    table.check("MalformedMessage", received=50)


def forge(taster: Taster, name: str) -> OutgoingMessage:
    """A message of the taster's that says another method on the wire."""
    client = taster._client  # type: ignore[attr-defined]  # the reference behind the type
    genuine: OutgoingMessage = taster.times  # type: ignore[assignment]  # as above
    kind = type(genuine.kind)(genuine.kind.of, "times")
    kind.names = ("poison.Taster", name)
    client._counted.append(kind)
    client.types.register(genuine.kind.of.definition, False, lambda _: None)
    return OutgoingMessage(genuine.address, client, kind, genuine.slot, None)


def test_an_undeclared_method_is_no_attribute_of_a_reference(cluster: Cluster) -> None:
    """AttributeError at the sender, and nothing is sent; calling a message without .remote is a TypeError."""
    taster: Any = cluster.entity(Taster, "never")
    for name in ("undeclared", "on_activate", "tasted", "deactivate"):
        with pytest.raises(AttributeError, match="declared"):
            getattr(taster, name)
    with pytest.raises(TypeError, match="remote"):
        taster.good(1)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_deadline_in_the_past_is_a_timeout_at_once(table: Table, seconds: float) -> None:
    """Timeout, which did not run and is a TimeoutError too; no clock has to move for it."""
    error = table.serve(lambda: table.taster.good.options(timeout_s=seconds).remote(1))
    assert isinstance(error, Timeout)
    assert isinstance(error, TimeoutError)
    assert error.may_have_run is False
    table.check("Timeout", received=50)


def test_fifty_megabytes_travel_both_ways(table: Table) -> None:
    """A 50 MB argument and a 50 MB reply arrive whole, and their neighbours too."""
    size = 50_000_000
    assert table.serve(lambda: table.taster.swallow.remote(bytes(size))) is None
    big = table.taster.many.remote(size)
    small = table.taster.good.remote(1)
    assert len(big.result(30)) == size
    assert small.result(30) == 1


@entity(name="poison.Stillborn")
class Stillborn(Entity):
    """Fails to come to life the first times; which instance it is shows in a list that outlives them."""

    def __init__(self) -> None:
        attempts.append("born")
        if len(attempts) <= 2:
            raise KINDS["SystemExit" if len(attempts) == 1 else "ValueError"](f"attempt {len(attempts)}")

    @message
    def live(self) -> int:
        return len(attempts)


@entity(name="poison.Hesitant")
class Hesitant(Entity):
    """Fails in `on_activate` the first time, after waiting."""

    async def on_activate(self) -> None:
        hesitations.append("tried")
        await asyncio.sleep(0)
        if len(hesitations) == 1:
            raise RuntimeError("not yet")

    @message
    def live(self) -> int:
        return len(hesitations)


@entity(name="poison.Unmade")
class Unmade(Entity):
    """Fails before `__init__`."""

    def __new__(cls) -> Unmade:
        raise RuntimeError("no instance")

    @message
    def live(self) -> int:
        return 1


attempts: list[str] = []
hesitations: list[str] = []


def test_init_that_raises_is_activation_failed_and_a_later_message_tries_again(
    cluster: Cluster, counts: Counts
) -> None:
    """Each message meets a new attempt until one succeeds; only that one is an activation."""
    attempts.clear()
    stillborn = cluster.entity(Stillborn, uuid.uuid4().hex)
    for attempt, kind in ((1, SystemExit), (2, ValueError)):
        with pytest.raises(ActivationFailed, match=f"attempt {attempt}") as caught:
            stillborn.live.remote().result(30)
        assert type(caught.value.__cause__) is kind
        assert caught.value.may_have_run is False
    assert stillborn.live.remote().result(30) == 3
    counts.refresh()
    labels = {"entity_type": "poison.Stillborn"}
    assert counts.of("cluster_entity_activations_total", **labels) == 1
    assert counts.of("cluster_entity_activation_seconds", **labels, outcome="error") == 2
    assert counts.of("cluster_entity_activation_seconds", **labels, outcome="ok") == 1
    assert counts.of("cluster_errors_total", **labels, type="ActivationFailed") == 2
    counts.check_invariants("poison.Stillborn")


def test_on_activate_that_raises_ends_what_waits_and_a_later_message_tries_again(
    memory_cluster: MemoryCluster,
) -> None:
    """All five messages that waited for it end as ActivationFailed; the sixth is handled by a new instance."""
    hesitations.clear()
    hesitant = memory_cluster.entity(Hesitant, uuid.uuid4().hex)
    memory_cluster.register(Hesitant)
    replies = [hesitant.live.remote() for _ in range(5)]
    errors = []
    for reply in replies:
        with pytest.raises(ActivationFailed, match="not yet") as caught:
            reply.result(30)
        errors.append(caught.value)
    assert all(type(error.__cause__) is RuntimeError for error in errors)
    assert hesitant.live.remote().result(30) == 2
    metrics = memory_cluster.metrics()
    labels = {"entity_type": "poison.Hesitant"}
    assert metrics.value("cluster_entity_activations_total", **labels) == 1
    assert metrics.value("cluster_errors_total", **labels, type="ActivationFailed") == 5


def test_on_activate_that_raises_fails_its_message_and_not_the_next(cluster: Cluster) -> None:
    """On either transport: ActivationFailed once, then a new attempt succeeds."""
    hesitations.clear()
    hesitant = cluster.entity(Hesitant, uuid.uuid4().hex)
    with pytest.raises(ActivationFailed, match="not yet"):
        hesitant.live.remote().result(30)
    assert hesitant.live.remote().result(30) == 2


def test_new_that_raises_is_activation_failed_too(cluster: Cluster) -> None:
    """An entity whose `__new__` raises fails its own message, and the lane goes on."""
    with pytest.raises(ActivationFailed, match="no instance"):
        cluster.entity(Unmade, uuid.uuid4().hex).live.remote().result(30)
    assert cluster.entity(Taster, uuid.uuid4().hex).good.remote(5).result(30) == 5


def test_every_poison_at_once(cluster: Cluster, counts: Counts) -> None:
    """Forty poisoned messages mixed among two thousand good ones on every lane: each ends as it should."""
    run = uuid.uuid4().hex
    tasters = [cluster.entity(Taster, f"{run}-{n}") for n in range(10)]
    good, bad = [], []
    for number in range(2000):
        good.append(tasters[number % 10].good.remote(number))
        if number % 50 == 0:
            taster: Any = tasters[number // 50 % 10]
            which = number // 50 % 5
            if which == 0:
                bad.append(taster.swallow.remote(Bomb(KeyboardInterrupt)))
            elif which == 1:
                bad.append(taster.raise_now.remote("SystemExit"))
            elif which == 2:
                bad.append(taster.reply_with.remote("bomb:SystemExit"))
            elif which == 3:
                bad.append(taster.raise_later.remote("CancelledError"))
            else:
                bad.append(taster.good.remote())
    assert [reply.result(30) for reply in good] == list(range(2000))
    for reply in bad:
        with pytest.raises(ClusterError):
            reply.result(30)
    counts.refresh()
    labels = {"entity_type": "poison.Taster"}
    assert counts.of("cluster_messages_sent_total", **labels) == 2040
    assert counts.of("cluster_messages_received_total", **labels) == 2024
    assert counts.of("cluster_errors_total", **labels, type="MalformedMessage") == 24
    assert counts.of("cluster_errors_total", **labels, type="HandlerError") == 16
    counts.check_invariants("poison.Taster")
