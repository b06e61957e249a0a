"""One Ray of three nodes for the cases that leave it as it was; the others start one of their own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.nodes.several_nodes import SeveralNodes, several_nodes


@pytest.fixture(scope="session")
def nodes() -> Iterator[SeveralNodes]:
    """Three nodes, this process a driver on the first."""
    with several_nodes(3) as nodes:
        yield nodes


@pytest.fixture
def namespace() -> str:
    """The namespace of the test's own cluster."""
    return f"nodes-{uuid.uuid4().hex[:8]}"
