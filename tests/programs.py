"""Programs that are no Python packages, and what becomes of a test where one is missing."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["needs"]


def needs(program: str, package: str) -> str:
    """The path of a program of a Debian package. Without it the test is skipped, but fails where CI is set."""
    found = shutil.which(program)
    if found is None:
        why = f"{program} is not there: apt-get install --no-install-recommends {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return found
