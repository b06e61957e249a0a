"""What plain Python objects weigh: the user's own share of an entity. As a program it prints one JSON line.

It decides that an object is weighed as the entity is: by the memory of a process that holds a great many, in a list.
"""

from __future__ import annotations

import json
import sys

import psutil

__all__ = ["Plain", "main", "measure"]


class Plain:
    """The user's object without the entity: one int."""

    def __init__(self) -> None:
        self.value = 0

    def increment(self, by: int) -> None:
        """Add `by`."""
        self.value += by


def measure(objects: int) -> dict[str, float]:
    """Make and use so many, and hold them."""
    process = psutil.Process()
    before = process.memory_info().rss
    held = [Plain() for _ in range(objects)]
    for plain in held:
        plain.increment(1)
    after = process.memory_info().rss
    return {"objects": len(held), "bytes_each": (after - before) / objects}


def main(arguments: list[str]) -> None:
    """Measure with the JSON object in the first argument."""
    print(json.dumps(measure(json.loads(arguments[0])["objects"])))


if __name__ == "__main__":
    main(sys.argv[1:])
