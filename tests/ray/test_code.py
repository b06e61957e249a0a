"""How code reaches runners: classes of scripts, of modules beside them and of installed ones; and conflicts."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cluster_app import Cluster, Entity, RunnerNotRegistered, TypeConflict, entity, message
from tests.conftest import Counts
from tests.ray.driver_process import environment
from tests.ray.scripts import run, write

pytestmark = pytest.mark.ray


@dataclasses.dataclass(frozen=True)
class Parcel:
    """An argument of a class that the cluster does not know."""

    weight: int
    fragile: bool = False


@entity(max_idle_time=None)
class Carrier(Entity):
    def __init__(self) -> None:
        self.carried: list[Parcel] = []

    @message
    def carry(self, parcel: Parcel, *others: Parcel) -> Parcel:
        self.carried += [parcel, *others]
        return Parcel(sum(each.weight for each in self.carried), any(each.fragile for each in self.carried))


@entity(name="PricedByWeight", max_idle_time=None)
class Priced(Entity):
    @message
    def price(self) -> int:
        return 1

    @message
    def leave(self) -> None:
        self.deactivate()


@entity(name="PricedByWeight", max_idle_time=None)
class PricedOtherwise(Entity):
    @message
    def price(self) -> int:
        return 2

    @message
    def leave(self) -> None:
        self.deactivate()


def test_classes_of_a_test_module_work(file_cluster: Cluster) -> None:
    """An entity of this module, with a dataclass of this module as argument and as reply."""
    carrier = file_cluster.entity(Carrier, "x")
    assert carrier.carry.remote(Parcel(2)).result(timeout_s=20) == Parcel(2)
    assert carrier.carry.remote(Parcel(3), Parcel(4, fragile=True)).result(timeout_s=10) == Parcel(9, True)


def test_classes_of_a_script_work(file_cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """Entities, arguments, replies and exceptions of `__main__` and of files beside it travel by value, both ways.

    The second run is another process with the same source: the same types, whose entities still live, and what they
    reply with, made of classes that the first run sent, is of the second run's own classes.
    """
    write(
        tmp_path,
        goods="""
            import dataclasses
            import enum
            from typing import NamedTuple
            from cluster_app import Entity, message

            class Size(enum.Enum):
                SMALL = "S"
                BIG = "B"

            class Place(NamedTuple):
                row: int

            @dataclasses.dataclass
            class Label:
                text: str
                size: Size = Size.BIG

            class Broken(Exception):
                def __init__(self, label):
                    super().__init__(label)

            class Kept(Entity):
                def __init__(self):
                    self.labels = []

                @message
                def known(self) -> list[Label]:
                    return self.labels

            def shout(text):
                return text.upper()
        """,
        labels="""
            import goods
            from cluster_app import entity, message

            @entity(max_idle_time=None)
            class LabelsBeside(goods.Kept):
                @message
                def print(self, label: goods.Label, place: goods.Place) -> tuple[goods.Label, goods.Place]:
                    if label.size is goods.Size.SMALL:
                        raise goods.Broken(label)
                    # One class in every message, so that values of earlier ones compare.
                    assert all(type(label) is type(other) for other in self.labels)
                    self.labels.append(label)
                    return goods.Label(goods.shout(label.text)), goods.Place(place.row + 1)
        """,
        late="""
            import dataclasses

            @dataclasses.dataclass
            class Latecomer:
                number: int
        """,
        script="""
            import dataclasses, sys
            import pydantic
            import ray
            from goods import Broken, Label, Place, Size
            from labels import LabelsBeside
            from cluster_app import Entity, HandlerError, connect, entity, message

            @dataclasses.dataclass
            class Order:
                amount: int

            class Bill(pydantic.BaseModel):
                total: int

            class Refused(Exception):
                pass

            @entity(max_idle_time=None)
            class ScriptLedger(Entity):
                @message
                def book(self, order: Order) -> Order:
                    assert type(order) is Order
                    return Order(order.amount * 100)

            @entity(max_idle_time=None)
            class ScriptShop(Entity):
                def __init__(self):
                    self.orders = []

                @message
                async def order(self, order: Order) -> Bill:
                    if order.amount < 0:
                        raise Refused(order.amount)
                    self.orders.append(order)
                    return Bill(total=sum(each.amount for each in self.orders))

                @message
                def first(self) -> Order:
                    return self.orders[0]

                @message
                async def booked(self) -> Order:
                    # A type that no driver has registered: this runner does.
                    return await self.entity(ScriptLedger, "x").book.remote(self.orders[0])

                @message
                def echo(self, value: object) -> object:
                    return value

            def cause(reply):
                try:
                    reply.result(timeout_s=20)
                except HandlerError as error:
                    return error.__cause__

            if __name__ == "__main__":
                ray.init(log_to_driver=False)
                with connect(namespace=sys.argv[1]) as cluster:
                    shop = cluster.entity(ScriptShop, "x")
                    bills = [shop.order.remote(Order(amount)).result(timeout_s=20) for amount in (2, 5)]
                    assert all(type(bill) is Bill for bill in bills)
                    print([bill.total for bill in bills])
                    assert shop.first.remote().result(timeout_s=20) == Order(2)
                    assert shop.booked.remote().result(timeout_s=20) == Order(200)
                    assert type(cause(shop.order.remote(Order(-1)))) is Refused

                    labels = cluster.entity(LabelsBeside, "x")
                    printed = labels.print.remote(Label("loud"), Place(1)).result(timeout_s=20)
                    assert printed == (Label("LOUD"), Place(2))
                    assert (type(printed[0]), type(printed[1])) == (Label, Place)
                    assert printed[0].size is Size.BIG
                    broken = cause(labels.print.remote(Label("x", Size.SMALL), Place(1)))
                    assert type(broken) is Broken and broken.args == (Label("x", Size.SMALL),)
                    print(len(labels.known.remote().result(timeout_s=20)))
                    ((_, state),) = cluster.states(LabelsBeside)
                    assert all(type(label) is Label for label in state["labels"])

                    from late import Latecomer
                    assert shop.echo.remote(Latecomer(1)).result(timeout_s=20) == Latecomer(1)
                ray.shutdown()
        """,
    )
    counts = Counts(file_cluster)
    assert run(tmp_path / "script.py", namespace) == "[2, 7]\n1\n"
    assert run(tmp_path / "script.py", namespace) == "[9, 14]\n2\n"
    counts.refresh()
    assert counts.of("cluster_messages_sent_total", entity_type="ScriptShop") == 12
    assert counts.of("cluster_messages_received_total", entity_type="ScriptLedger") == 2
    assert counts.of("cluster_errors_total", entity_type="ScriptShop", type="HandlerError") == 2
    assert counts.of("cluster_messages_received_total", entity_type="LabelsBeside") == 6
    counts.check_invariants("ScriptShop")


def test_two_scripts_with_one_name_conflict(file_cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """A script does not replace another's type, nor its own after an edit, unless it says so."""
    text = """
        import sys
        import ray
        from cluster_app import Entity, RunnerNotRegistered, TypeConflict, connect, entity, message

        @entity(max_idle_time=None)
        class Contested(Entity):
            @message
            def answer(self) -> int:
                return {answer}

        ray.init(log_to_driver=False)
        with connect(namespace=sys.argv[1]) as cluster:
            if "replace" in sys.argv:
                cluster.register(Contested, replace=True)
            try:
                print(cluster.entity(Contested, sys.argv[2]).answer.remote().result(timeout_s=20))
            except RunnerNotRegistered as error:
                print(type(error.__cause__).__name__)
        ray.shutdown()
    """
    write(tmp_path, first=text.format(answer=1), second=text.format(answer=2))
    assert run(tmp_path / "first.py", namespace, "a") == "1\n"
    assert run(tmp_path / "second.py", namespace, "b") == "TypeConflict\n"
    assert run(tmp_path / "second.py", namespace, "b", "replace") == "2\n"


def test_what_cannot_reach_a_runner_is_refused_with_the_reason(
    file_cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    """Code that cannot be pickled, and code that imports what the runners do not have."""
    write(tmp_path / "site-packages", installed_here_only="answer = 42")
    write(
        tmp_path,
        script="""
            import sys, threading
            sys.path.append("site-packages")
            import ray
            import installed_here_only
            from cluster_app import Entity, connect, entity, message

            lock = threading.Lock()

            @entity()
            class Locked(Entity):
                @message
                def answer(self):
                    with lock:
                        return 1

            @entity()
            class Dependent(Entity):
                @message
                def answer(self):
                    return installed_here_only.answer

            ray.init(log_to_driver=False)
            with connect(namespace=sys.argv[1]) as cluster:
                for kind in (Locked, Dependent):
                    try:
                        cluster.register(kind)
                    except Exception as error:
                        print(type(error).__name__, error)
            ray.shutdown()
        """,
    )
    locked, dependent = run(tmp_path / "script.py", namespace).splitlines()
    assert locked.startswith("TypeError") and "'Locked'" in locked and "lock" in locked
    assert dependent.startswith("ImportError") and "'Dependent'" in dependent
    assert "No module named 'installed_here_only'" in dependent


def test_other_code_under_a_taken_name_is_a_conflict_unless_it_replaces(file_cluster: Cluster) -> None:
    """`register` and messages are refused with the names; with `replace=True` new activations run the new code."""
    counts = Counts(file_cluster)
    old = file_cluster.entity(Priced, "x")
    assert old.price.remote().result(timeout_s=20) == 1

    with pytest.raises(TypeConflict) as caught:
        file_cluster.register(PricedOtherwise)
    assert "PricedByWeight" in str(caught.value)
    assert f"{__name__}.Priced " in str(caught.value)
    assert "replace=True" in str(caught.value)
    refused = file_cluster.entity(PricedOtherwise, "x").price.remote()
    with pytest.raises(RunnerNotRegistered) as refusal:
        refused.result(timeout_s=10)
    assert isinstance(refusal.value.__cause__, TypeConflict)
    assert not refusal.value.retryable
    assert old.price.remote().result(timeout_s=10) == 1

    file_cluster.register(PricedOtherwise, replace=True)
    new = file_cluster.entity(PricedOtherwise, "x")
    assert (
        new.price.remote().result(timeout_s=10) == 1
    )  # the living entity runs the code it was activated with
    assert file_cluster.entity(PricedOtherwise, "y").price.remote().result(timeout_s=10) == 2
    new.leave.remote().result(timeout_s=10)
    assert new.price.remote().result(timeout_s=10) == 2
    counts.refresh()
    of = {"entity_type": "PricedByWeight"}
    assert counts.of("cluster_messages_sent_total", **of) == 7
    assert counts.of("cluster_errors_total", **of, type="RunnerNotRegistered") == 1
    assert counts.of("cluster_entity_activations_total", **of) == 3
    assert counts.of("cluster_entity_deactivations_total", **of, reason="explicit") == 1
    counts.check_invariants("PricedByWeight")


def test_a_redefinition_at_a_prompt_replaces_by_itself(file_cluster: Cluster, namespace: str) -> None:
    """A class of `__main__` defined anew with other code is what the next activation runs."""
    source = textwrap.dedent("""
        import sys
        import ray
        from cluster_app import Entity, connect, entity, message

        ray.init(log_to_driver=False)
        with connect(namespace=sys.argv[1]) as cluster:
            for n in (1, 2):
                cell = f'''
        @entity(max_idle_time=None)
        class PromptAnswer(Entity):
            @message
            def answer(self) -> int:
                return {n}
        '''
                exec(cell)
                print(cluster.entity(PromptAnswer, f"cell-{n}").answer.remote().result(timeout_s=20))
        ray.shutdown()
    """)
    done = subprocess.run(
        [sys.executable, "-c", source, namespace], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n2\n"
