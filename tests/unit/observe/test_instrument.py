"""instrument(): what it refuses, without Ray."""

from __future__ import annotations

import subprocess
import sys

import pytest

from observe.metrics import instrument


@pytest.mark.parametrize("given", [object(), "Counter", None, print, 7], ids=repr)
def test_what_is_no_handle_is_refused(given: object) -> None:
    """The error shows what was given."""
    with pytest.raises(TypeError, match="takes a handle of a Ray actor, not"):
        instrument(given)


def test_a_class_is_refused_by_name() -> None:
    """A plain class is no actor class."""

    class Counter:
        """No actor."""

    with pytest.raises(TypeError, match=r"not the class .*Counter"):
        instrument(Counter)


@pytest.mark.parametrize("label", [7, ["Counter"], b"Counter", object()], ids=repr)
def test_a_label_is_a_name_or_a_class(label: object) -> None:
    """Anything else would be counted under its repr."""
    with pytest.raises(TypeError, match="entity_type is a name or a class"):
        instrument(object(), label)  # type: ignore[arg-type]  # the fault


def test_refusing_loads_no_ray() -> None:
    """Where Ray is not loaded nothing can be a handle of it."""
    program = (
        "import sys\n"
        "from observe.metrics import instrument\n"
        "try:\n    instrument(object())\n"
        "except TypeError:\n    print(*{'ray', 'opentelemetry'} & set(sys.modules))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.split(), ran.stderr) == (0, [], "")
