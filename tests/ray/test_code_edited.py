"""Code in a folder that the runners can import from, edited while they live."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.ray.scripts import run, write

pytestmark = pytest.mark.ray

PRICING = """
    def fee() -> int:
        return {fee}
"""
SHOP = """
    import dataclasses
    import sys
    import pricing
    from cluster_app import Entity, entity, message

    @dataclasses.dataclass
    class Receipt:
        price: int

    @entity(max_idle_time=None)
    class EditedShop(Entity):
        def __init__(self):
            self.sold = Receipt(0)

        @message
        def sell(self, receipt: Receipt) -> tuple[Receipt, str]:
            imported = getattr(sys.modules.get("shop"), "EditedShop", None) is type(self)
            came_as = "imported" if imported else "carried"
            arguments = "its own" if type(receipt) is Receipt else "newer"
            return Receipt(receipt.price + pricing.fee()), f"{came_as}, argument of {arguments} class"

        @message
        def leave(self) -> None:
            self.deactivate()
"""
SCRIPT = """
    import sys
    import ray
    from shop import EditedShop, Receipt
    from cluster_app import TypeConflict, connect

    ray.init(log_to_driver=False)
    with connect(namespace=sys.argv[1]) as cluster:
        try:
            cluster.register(EditedShop)
        except TypeConflict:
            print("conflict")
            cluster.register(EditedShop, replace=True)
        for shop in sys.argv[2:]:
            if shop.startswith("-"):
                cluster.entity(EditedShop, shop[1:]).leave.remote().result(timeout_s=20)
                continue
            receipt, how = cluster.entity(EditedShop, shop).sell.remote(Receipt(1)).result(timeout_s=20)
            assert type(receipt) is Receipt
            print(shop, receipt.price, how)
        if "end" in sys.argv:
            cluster.shutdown()
    ray.shutdown()
"""


def test_an_edited_file_is_never_served_stale(ray_instance: None, tmp_path: Path) -> None:
    """Only a helper's module was edited, and the runner has imported the old one: the new code is what runs.

    What lives goes on with the old code until it is let go; the arguments it is sent are of the new code's classes, and
    what it replies with is of the driver's own.
    """
    namespace = f"tests-{uuid.uuid4().hex[:8]}"
    script = tmp_path / "script.py"
    write(tmp_path, pricing=PRICING.format(fee=1), shop=SHOP, script=SCRIPT)
    imported, carried = "imported, argument of its own class", "carried, argument of its own class"
    assert run(script, namespace, "a") == f"a 2 {imported}\n"
    assert run(script, namespace, "a") == f"a 2 {imported}\n"

    write(tmp_path, pricing=PRICING.format(fee=10))
    assert run(script, namespace, "b", "a", "-a", "a").splitlines() == [
        "conflict",
        f"b 11 {carried}",
        "a 2 imported, argument of newer class",
        f"a 11 {carried}",
    ]

    write(tmp_path, pricing=PRICING.format(fee=1))
    assert run(script, namespace, "c", "end").splitlines() == [
        "conflict",
        f"c 2 {imported}",
        f"end 2 {imported}",
    ]
