"""Make the named files end with exactly one newline, for pre-commit; exit with 1 if one had to be changed."""

import sys
from pathlib import Path


def mend(path: Path) -> bool:
    """Return whether the file had to be changed. An empty file stays empty."""
    before = path.read_bytes()
    body = before.rstrip(b"\r\n")
    after = body + b"\n" if body else b""
    if after == before:
        return False
    path.write_bytes(after)
    return True


if __name__ == "__main__":
    changed = [name for name in sys.argv[1:] if mend(Path(name))]
    for name in changed:
        print(f"mended the end of {name}")
    sys.exit(1 if changed else 0)
