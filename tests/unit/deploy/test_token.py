"""The commands of `deploy/README.md` that make the token."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.source import ROOT


def test_the_token_is_made_for_its_owners_eyes(tmp_path: Path) -> None:
    """The token is random, and only its owner may read it, also where everybody's files are open."""
    readme = (ROOT / "deploy" / "README.md").read_text()
    (commands,) = re.findall(r"<!-- runs: here -->\n```bash\n(.*?)```", readme, re.DOTALL)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    ran = subprocess.run(
        ["bash", "-euc", f"umask 000\n{commands}"],
        env=environment | {"HOME": str(tmp_path), "PATH": path},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    token = tmp_path / ".ray" / "auth_token"
    assert len(token.read_text()) >= 32
    assert token.stat().st_mode & 0o777 == 0o600 and token.parent.stat().st_mode & 0o777 == 0o700
