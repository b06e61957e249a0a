"""Makes sure that `entities` and `observe` are this distribution's.

Those names are short, and a user's own folder or module of the same name is likely. Found in its place it would fail
somewhere deep inside, so it is looked for first.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

__all__ = ["check_floors"]


def check_floors() -> None:
    """Raise ImportError when another package stands in for one of ours; nothing of it is run."""
    home = Path(__file__).resolve().parent.parent
    for name in ("entities", "observe"):
        spec = importlib.util.find_spec(name)
        origin = None if spec is None else spec.origin
        if origin is None:
            raise ImportError(
                f"cluster-app's package {name!r} is not at {home / name}: install cluster-app again"
            )
        module = Path(origin).resolve()
        found = module.parent if module.name == "__init__.py" else module
        if found != home / name:
            raise ImportError(
                f"{found} hides cluster-app's own package {name!r} at {home / name}: rename that, or move it "
                "into a package of yours, so that it no longer stands at the top of sys.path"
            )
