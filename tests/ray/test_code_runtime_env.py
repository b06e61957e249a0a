"""Jobs with a Ray `runtime_env`: files travel with Ray or with us, dependencies are the runners' or refused."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.ray.scripts import run, write

pytestmark = pytest.mark.ray

SHOP = """
    import dataclasses, os, sys
    from cluster_app import Entity, entity, message

    @dataclasses.dataclass
    class Offer:
        price: int

    @entity(max_idle_time=None)
    class PackedShop(Entity):
        @message
        def offer(self, offer: Offer) -> tuple[Offer, bool, str]:
            imported = getattr(sys.modules.get("packed_shop"), "PackedShop", None) is type(self)
            return Offer(offer.price + {more}), imported, os.environ.get("SHOP_REGION", "")
"""
SCRIPT = """
    import json, sys
    import ray
    from cluster_app import Entity, connect, entity, message
    from packed_shop import Offer, PackedShop

    @entity(name="Elsewhere", runtime_env={"pip": ["something"]})
    class Elsewhere(Entity):
        @message
        def answer(self): ...

    @entity(name="Here", runtime_env={"env_vars": {"SHOP_REGION": "north"}})
    class Here(Entity):
        @message
        def answer(self): ...

    namespace, environment, *todo = sys.argv[1:]
    ray.init(log_to_driver=False, runtime_env=json.loads(environment))
    with connect(namespace=namespace) as cluster:
        try:
            cluster.register(PackedShop, replace="replace" in todo)
            reply = cluster.entity(PackedShop, todo[0]).offer.remote(Offer(1))
            offer, imported, region = reply.result(timeout_s=20)
            assert type(offer) is Offer
            print(offer.price, "imported" if imported else "carried", region)
        except Exception as error:
            print(type(error).__name__, error)
        for kind in (Elsewhere, Here) if "options" in todo else ():
            try:
                cluster.register(kind)
                print(kind.__name__, "registered")
            except Exception as error:
                print(type(error).__name__, error)
        if "end" in todo:
            cluster.shutdown()
    ray.shutdown()
"""


@pytest.mark.timeout(120)  # five drivers, and a service whose environment Ray sets up
def test_a_job_with_other_files_ships_them_and_one_with_other_dependencies_is_refused(
    ray_instance: None, tmp_path: Path
) -> None:
    """The runners have the files and variables of the job that started the service.

    The same files are imported there, others come with the code; another variable is a refusal that names it.
    """
    namespace = f"tests-{uuid.uuid4().hex[:8]}"
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, packed_shop=SHOP.format(more=1), script=SCRIPT)
    write(two, packed_shop=SHOP.format(more=2), script=SCRIPT)
    script = "script.py"
    north = '{"working_dir": ".", "env_vars": {"SHOP_REGION": "north"}}'
    south = '{"working_dir": ".", "env_vars": {"SHOP_REGION": "south"}}'

    assert run(one / script, namespace, north, "x") == "2 imported north\n"
    shop, elsewhere, here = run(one / script, namespace, "{}", "x", "options").splitlines()
    assert shop == "2 imported north"
    assert elsewhere.startswith("RuntimeEnvMismatch") and "'Elsewhere'" in elsewhere and "pip" in elsewhere
    assert here == "Here registered"

    assert run(two / script, namespace, north, "y").startswith("TypeConflict")
    refused = run(two / script, namespace, south, "y", "replace")
    assert refused.startswith("RuntimeEnvMismatch") and "env_vars['SHOP_REGION']" in refused
    assert run(two / script, namespace, north, "y", "replace", "end") == "3 carried north\n"
