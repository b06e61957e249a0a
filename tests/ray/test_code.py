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


def run(script: Path, *arguments: str) -> str:
    """What a script prints; fails unless it ends well."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=script.parent,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_classes_of_a_test_module_work(file_cluster: Cluster) -> None:
    """An entity of this module, with a dataclass of this module as argument and as reply."""
    carrier = file_cluster.entity(Carrier, "x")
    assert carrier.carry.remote(Parcel(2)).result(timeout_s=20) == Parcel(2)
    assert carrier.carry.remote(Parcel(3), Parcel(4, fragile=True)).result(timeout_s=10) == Parcel(9, True)


def test_classes_of_a_script_work(file_cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """Entities and dataclasses of `__main__` and of a file beside it travel by value, both ways."""
    (tmp_path / "beside_the_script.py").write_text(
        textwrap.dedent("""
            import dataclasses
            from cluster_app import Entity, entity, message

            @dataclasses.dataclass
            class Label:
                text: str

            def shout(text):
                return text.upper()

            @entity(max_idle_time=None)
            class LabelsBeside(Entity):
                @message
                def print(self, label: Label) -> Label:
                    return Label(shout(label.text))
        """)
    )
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import dataclasses, sys
            import ray
            from beside_the_script import Label, LabelsBeside
            from cluster_app import Entity, connect, entity, message

            @dataclasses.dataclass
            class Order:
                amount: int

            class Refused(Exception):
                pass

            @entity(max_idle_time=None)
            class ScriptShop(Entity):
                def __init__(self):
                    self.total = 0

                @message
                async def order(self, order: Order) -> Order:
                    if order.amount < 0:
                        raise Refused(order.amount)
                    self.total += order.amount
                    return Order(self.total)

            if __name__ == "__main__":
                # The classes of a later run of the script are others, with the same names.
                first_run = sys.argv[2] == "first"
                ray.init(log_to_driver=False)
                with connect(namespace=sys.argv[1]) as cluster:
                    shop = cluster.entity(ScriptShop, "x")
                    first = shop.order.remote(Order(2)).result(timeout_s=20)
                    second = shop.order.remote(Order(5)).result(timeout_s=20)
                    assert isinstance(second, Order) or not first_run
                    print(first, second)
                    refused = shop.order.remote(Order(-1))
                    try:
                        refused.result(timeout_s=20)
                    except Exception as error:
                        assert isinstance(error.__cause__, Refused) or not first_run
                        print(repr(error.__cause__))
                    label = cluster.entity(LabelsBeside, "x").print.remote(Label("loud")).result(timeout_s=20)
                    assert isinstance(label, Label) or not first_run
                    print(label)
                ray.shutdown()
        """)
    )
    counts = Counts(file_cluster)
    for time, total in (
        ("first", "Order(amount=2) Order(amount=7)"),
        ("second", "Order(amount=9) Order(amount=14)"),
    ):
        # The second run is another process with the same source: the same type, and the entity still lives.
        said = run(script, namespace, time)
        assert said == f"{total}\nRefused(-1)\nLabel(text='LOUD')\n"
    counts.refresh()
    assert counts.of("cluster_messages_sent_total", entity_type="ScriptShop") == 6
    assert counts.of("cluster_errors_total", entity_type="ScriptShop", type="HandlerError") == 2
    assert counts.of("cluster_messages_received_total", entity_type="LabelsBeside") == 2
    counts.check_invariants("ScriptShop")


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
