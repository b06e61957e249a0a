"""A notebook: cells run one by one by a real kernel."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from cluster_app import Cluster
from tests.ray.driver_process import environment

pytestmark = pytest.mark.ray

RunCell = Callable[[str], str]


def _cell_runner(client: BlockingKernelClient) -> RunCell:
    def run(cell: str) -> str:
        printed: list[str] = []

        def heard(told: dict[str, Any]) -> None:
            if told["msg_type"] == "stream" and told["content"]["name"] == "stdout":
                printed.append(told["content"]["text"])

        ended = client.execute_interactive(textwrap.dedent(cell), output_hook=heard, timeout=40)
        assert ended["content"]["status"] == "ok", "\n".join(ended["content"]["traceback"])
        return "".join(printed)

    return run


@pytest.fixture
def run_cell(file_cluster: Cluster) -> Iterator[RunCell]:
    """Runs a cell in a kernel of the test's own and returns what it prints."""
    manager = KernelManager()
    manager.start_kernel(env=environment())
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=40)
        yield _cell_runner(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
        manager.cleanup_resources()


TYPES = """
    @dataclasses.dataclass
    class Note:
        text: str

    @entity(max_idle_time=None)
    class Notebook(Entity):
        def __init__(self):
            self.notes = []

        @message
        def write(self, note: Note) -> list[Note]:
            assert not self.notes or type(note) is type(self.notes[0])
            self.notes.append(note)
            return [Note(shout(each.text)) for each in self.notes]
"""


def test_cells_work_and_a_redefined_one_replaces_by_itself(run_cell: RunCell, namespace: str) -> None:
    """The same cell run again is the same code; with other text, new activations run it, and what lives does not."""
    run_cell(f"""
        import dataclasses, ray
        from cluster_app import Entity, connect, entity, message
        ray.init(log_to_driver=False)
        cluster = connect(namespace={namespace!r})

        def shout(text):
            return text.upper()
    """)
    run_cell(TYPES)
    write = """
        notes = cluster.entity(Notebook, {id!r}).write.remote(Note({text!r})).result(timeout_s=20)
        assert all(type(note) is Note for note in notes)
        print([note.text for note in notes])
    """
    assert run_cell(write.format(id="a", text="one")) == "['ONE']\n"
    run_cell(TYPES)  # as it was: the same types, and so the entity's notes are of the new cell's class
    assert run_cell(write.format(id="a", text="two")) == "['ONE', 'TWO']\n"

    run_cell(TYPES.replace("shout(each.text)", 'each.text + "!"'))
    assert run_cell(write.format(id="b", text="three")) == "['three!']\n"
    assert run_cell(write.format(id="a", text="four")) == "['ONE', 'TWO', 'FOUR']\n"

    # A helper of another cell has changed: so has the class that mentions it, once its own cell is run again.
    run_cell("def shout(text):\n    return text.title()")
    run_cell(TYPES)
    assert run_cell(write.format(id="c", text="five")) == "['Five']\n"
    run_cell("cluster.close()")
