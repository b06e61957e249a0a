"""What every unit test runs under: no Ray, ever."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


def _refuse(*args: object, **kwargs: object) -> None:
    raise AssertionError("a unit test must not start or join Ray: it belongs in tests/ray")


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make `ray.init` raise where Ray is loaded, and fail a test after which Ray runs all the same."""
    ray = sys.modules.get("ray")
    # Ray starts itself at the first remote call through this very attribute: so that raises too.
    if ray is not None:
        monkeypatch.setattr(ray, "init", _refuse)
    yield
    # The test may have been the one to import Ray.
    ray = sys.modules.get("ray")
    assert ray is None or not ray.is_initialized(), "this unit test started Ray: it belongs in tests/ray"
