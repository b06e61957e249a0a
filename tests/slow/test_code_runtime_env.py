"""Jobs with a Ray `runtime_env`: files travel with Ray or with us, dependencies are the runners' or refused."""

from __future__ import annotations

import json
import os
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
STEP = """
    STEP = {more}
"""
TALLY = """
    import sys
    from cluster_app import Entity, entity, message
    from .step import STEP

    @entity(max_idle_time=None)
    class InstalledTally(Entity):
        def __init__(self):
            self.value = 0

        @message
        def add(self) -> tuple[int, bool]:
            self.value += STEP
            imported = getattr(sys.modules.get("acme.tally"), "InstalledTally", None) is type(self)
            return self.value, imported
"""
SCRIPT = """
    import json, os, sys
    sys.path.append(os.path.abspath("site-packages"))
    import ray
    from acme.tally import InstalledTally
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
            cluster.register(InstalledTally, replace="replace" in todo)
            value, imported = cluster.entity(InstalledTally, todo[0]).add.remote().result(timeout_s=20)
            print(value, "imported" if imported else "carried")
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


def folder(path: Path, more: int) -> Path:
    """A driver's script, a file beside it and a package installed for it; returns the script."""
    write(path, packed_shop=SHOP.format(more=more), script=SCRIPT)
    write(path / "site-packages" / "acme", __init__="", step=STEP.format(more=more), tally=TALLY)
    return path / "script.py"


@pytest.mark.timeout(120)  # five drivers, and a service whose environment Ray sets up
def test_a_job_with_other_files_ships_them_and_one_with_other_dependencies_is_refused(
    ray_instance: None, tmp_path: Path
) -> None:
    """The runners have the files, packages and variables of the job that started the service.

    The same files and the same installed package are imported there, others come with their code; another variable is
    a refusal that names it.
    """
    namespace = f"tests-{uuid.uuid4().hex[:8]}"
    one, two = folder(tmp_path / "one", 1), folder(tmp_path / "two", 2)
    installed = [str(one.parent / "site-packages"), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {"SHOP_REGION": "north", "PYTHONPATH": os.pathsep.join(installed)}
    north = json.dumps({"working_dir": ".", "env_vars": variables})
    south = json.dumps({"working_dir": ".", "env_vars": variables | {"SHOP_REGION": "south"}})

    assert run(one, namespace, north, "x") == "2 imported north\n1 imported\n"
    shop, tally, elsewhere, here = run(one, namespace, "{}", "x", "options").splitlines()
    assert (shop, tally) == ("2 imported north", "2 imported")
    assert elsewhere.startswith("RuntimeEnvMismatch") and "'Elsewhere'" in elsewhere and "pip" in elsewhere
    assert here == "Here registered"

    assert run(two, namespace, north, "y").startswith("TypeConflict")
    refused = run(two, namespace, south, "y", "replace")
    assert refused.startswith("RuntimeEnvMismatch") and "env_vars['SHOP_REGION']" in refused
    assert run(two, namespace, north, "y", "replace", "end") == "3 carried north\n2 carried\n"
