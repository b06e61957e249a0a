"""``python -m tests``: every room of tests in a process of its own, then counts and times by room.

A room is a folder under ``tests`` or a test module beside them. Quick rooms come first. All rooms run, even
when one has failed; a room that ran no test has failed. ``--slow`` runs the slow rooms instead: whole benchmarks,
several nodes, a notebook; collectors that are away. Other options are passed on to pytest.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parent
ROOMS = ("unit", "cluster", "typing", "ray", "telemetry")
SLOW_ROOMS = ["slow", "nodes", "outages", "chaos"]
_LINES_OF_WHY = 3
_LONGEST_WHY = 500


class Tally(NamedTuple):
    """What became of one room's tests, in tests, and how long it took, in seconds; and each that failed, with why."""

    passed: int
    failed: int
    skipped: int
    seconds: float
    failures: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether something ran and nothing failed."""
        return self.failed == 0 and self.passed > 0


def rooms() -> list[str]:
    """The folders in their order, then the modules beside them, as paths relative to this folder."""
    return [*ROOMS, *sorted(path.name for path in ROOT.glob("test_*.py"))]


def run(room: str, options: list[str]) -> Tally:
    """Run one room with pytest; its output goes to this process's own."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        started = time.monotonic()
        command = [sys.executable, "-m", "pytest", str(ROOT / room), f"--junitxml={report}", *options]
        code = subprocess.run(command, cwd=ROOT.parent).returncode
        seconds = time.monotonic() - started
        passed = failed = skipped = 0
        failures: tuple[str, ...] = ()
        if report.exists():
            tree = ElementTree.parse(report).getroot()
            failures = tuple(_failures(tree))
            for suite in tree.iter("testsuite"):
                total, bad, away = (
                    int(suite.get("tests", 0)),
                    int(suite.get("failures", 0)) + int(suite.get("errors", 0)),
                    int(suite.get("skipped", 0)),
                )
                # A test whose teardown failed too is reported twice, as a failure and as an error.
                passed, failed, skipped = passed + max(total - bad - away, 0), failed + bad, skipped + away
        # A crash of pytest itself, an empty room and the like count as one failure: they must not look green.
        return Tally(passed, failed or int(code != 0), skipped, seconds, failures)


def _failures(report: ElementTree.Element) -> Iterator[str]:
    """Each failed test's name and the first lines of why; what pytest printed of it may be far above by then."""
    for case in report.iter("testcase"):
        for bad in (*case.findall("failure"), *case.findall("error")):
            why = " / ".join((bad.get("message") or "").split("\n")[:_LINES_OF_WHY])
            yield f"{case.get('classname')}::{case.get('name')}: {why[:_LONGEST_WHY]}"


def main(options: list[str]) -> int:
    """Run all rooms and print the table. Returns the exit code."""
    tallies: dict[str, Tally] = {}
    slow = "--slow" in options
    options = [option for option in options if option != "--slow"]
    for room in SLOW_ROOMS if slow else rooms():
        print(f"\n== tests/{room}", flush=True)
        tallies[room] = run(room, options)
    print(f"\n{'room':<20}{'passed':>8}{'failed':>8}{'skipped':>8}{'seconds':>10}")
    for room, tally in tallies.items():
        print(f"{room:<20}{tally.passed:>8}{tally.failed:>8}{tally.skipped:>8}{tally.seconds:>10.1f}")
    for failure in itertools.chain.from_iterable(tally.failures for tally in tallies.values()):
        print(f"FAILED {failure}")
    passed, failed, skipped = map(
        sum, zip(*((t.passed, t.failed, t.skipped) for t in tallies.values()), strict=True)
    )
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if all(tally.ok for tally in tallies.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
