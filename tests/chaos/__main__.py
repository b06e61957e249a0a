"""``python -m tests.chaos --seed 1 --seconds 60``: random faults under a mixed load, and what the checker finds.

The seed replays the schedule of faults (kinds, roles, times), not the timing of processes. The exit code is 0 only if
the checker finds nothing, every kind of fault was made with messages under way, and enough messages of each method
ended well.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TextIO

from tests.chaos.fault_schedule import KINDS
from tests.chaos.guard import guarded
from tests.chaos.inside import PLANTS
from tests.chaos.run import Plan, Report, run

_SHOWN = 12  # violations in full


def main(arguments: list[str]) -> int:
    """Run and print. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="of the schedule; any if not given")
    parser.add_argument("--seconds", type=float, default=60.0, help="of faults and load")
    parser.add_argument("--lease-s", type=float, default=None, help="the runners' lease; 1 s if not given")
    parser.add_argument(
        "--plant", choices=PLANTS, default="", help="delete this from the engine: the run must fail"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a variable for all processes"
    )
    parser.add_argument("--keep", type=Path, default=None, help="keep the record in this folder")
    parser.add_argument("--schedule", action="store_true", help="print the schedule and make no fault")
    told = parser.parse_args(arguments)
    seed = random.randrange(1_000_000) if told.seed is None else told.seed
    # A new term finds leases to wait for only if they last longer than a coordinator takes to start.
    lease_s = told.lease_s or (5.0 if told.plant == "roster" else 1.0)
    extra = dict(variable.split("=", 1) for variable in told.set)
    try:
        plan = Plan(seed, told.seconds, lease_s, told.plant, extra)
        faults = plan.faults
    except ValueError as error:
        parser.error(str(error))
    planted = f", planted: {told.plant}" if told.plant else ""
    print(f"seed {seed}, {told.seconds:g} s, lease {lease_s:g} s{planted}", flush=True)
    if told.schedule:
        for fault in faults:
            print(f"{fault.at:7.2f}  {fault.kind:<17} {fault.target:<9} {fault.lasts_s or ''}")
        return 0
    out = _alone_on_output()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        try:
            report = run(plan, Path(folder), lambda line: print(line, file=out, flush=True))
        finally:
            if told.keep is not None:
                shutil.copytree(folder, told.keep, dirs_exist_ok=True)
    print(told_of(report), file=out, flush=True)
    return 0 if report.good else 1


def _alone_on_output() -> TextIO:
    """The standard output for this program alone: what Ray says of lost workers and nodes goes to the error output."""
    mine = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return mine


def told_of(report: Report) -> str:
    """A report, to be read."""
    lines = [f"{'fault':<18}{'made':>6}  messages under way at each"]
    for kind in KINDS:
        under_way = [str(number) for fault, number in report.made if fault.kind == kind]
        lines.append(f"{kind:<18}{len(under_way):>6}  {' '.join(under_way)}")
    lines += [f"not made: {missed}" for missed in report.missed]
    lines.append(f"{'messages':<18}{'ok':>6}  others")
    for (kind, method), fates in sorted(report.fates.items()):
        others = ", ".join(f"{reason} {number}" for reason, number in sorted(fates.items()) if reason != "ok")
        lines.append(f"{kind + '.' + method:<18}{fates['ok']:>6}  {others}")
    lines.append("seconds: " + ", ".join(f"{what} {seconds:.1f}" for what, seconds in report.took_s.items()))
    lines += [f"MEANS NOTHING: {want}" for want in report.wants]
    by_rule = Counter(violation.rule for violation in report.violations)
    lines += [f"BROKEN: {rule} ({number} times)" for rule, number in by_rule.items()]
    lines += [str(violation) for violation in report.violations[:_SHOWN]]
    lines.append(
        "the checker finds nothing" if not report.violations else f"{len(report.violations)} violations"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
