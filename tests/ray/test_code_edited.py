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
        def sell(self, receipt: Receipt) -> tuple[Receipt, bool]:
            assert type(self.sold) is type(receipt)
            imported = getattr(sys.modules.get("shop"), "EditedShop", None) is type(self)
            return Receipt(receipt.price + pricing.fee()), imported

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
            try:
                receipt, imported = cluster.entity(EditedShop, shop).sell.remote(Receipt(1)).result(timeout_s=20)
            except Exception as error:
                print(shop, type(error.__cause__).__name__)
                continue
            assert type(receipt) is Receipt
            print(shop, receipt.price, "imported" if imported else "carried")
        if "end" in sys.argv:
            cluster.shutdown()
    ray.shutdown()
"""


def test_an_edited_file_is_never_served_stale(ray_instance: None, tmp_path: Path) -> None:
    """Only a helper's module was edited, and the runner has imported the old one: the new code is what runs.

    What was there goes on with the old code until it is let go, and with the argument classes of the old code.
    """
    namespace = f"tests-{uuid.uuid4().hex[:8]}"
    script = tmp_path / "script.py"
    write(tmp_path, pricing=PRICING.format(fee=1), shop=SHOP, script=SCRIPT)
    assert run(script, namespace, "a") == "a 2 imported\n"
    assert run(script, namespace, "a") == "a 2 imported\n"

    write(tmp_path, pricing=PRICING.format(fee=10))
    assert (
        run(script, namespace, "b", "a", "-a", "a") == "conflict\nb 11 carried\na 2 imported\na 11 carried\n"
    )

    write(tmp_path, pricing=PRICING.format(fee=1))
    assert run(script, namespace, "c", "end") == "conflict\nc 2 imported\nend 2 imported\n"
