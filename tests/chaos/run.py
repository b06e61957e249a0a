"""One run: a Ray of three nodes, a load on it, the faults of a schedule, the record of it, and what the checker says.

Decides the order of things, and when a run has shown anything: each kind of fault was made, with messages under way,
and enough messages of each method ended well.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cluster_app import Cluster, ClusterConfig
from tests.chaos.broadcasts import to_all
from tests.chaos.checker import Violation, check
from tests.chaos.drivers import Drivers
from tests.chaos.exits import Exits
from tests.chaos.fault_schedule import DRIVERS, KINDS, Fault, schedule
from tests.chaos.faults import Faults
from tests.chaos.history import FileScribe, History, boottime
from tests.chaos.processes import FOLDER
from tests.chaos.under_way import UnderWay
from tests.chaos.workload import BROADCASTS, MIX, SINGLETONS
from tests.exact_metrics import exact_metrics
from tests.nodes.several_nodes import several_nodes

__all__ = ["Plan", "Report", "run"]

_ROOT = Path(__file__).parents[2]
_READY_S = 60.0
_LAST_REPLY_S = 30.0
# Of each method, for each second of the run: the rarest has 1.5 % of what the drivers send.
_LEAST_PER_S = 0.1
_LEAST_BROADCASTS_PER_S = (
    0.04  # that failed nowhere, of each method: the rarest is sent a third of a time a second
)


@dataclass(frozen=True)
class Plan:
    """What a run is to be.

    :ivar plant: the fault that is planted in the cluster's own code; empty for none.
    :ivar extra: variables of all processes' environment, such as Ray's own faults.
    """

    seed: int
    seconds: float
    lease_s: float = 1.0
    plant: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> ClusterConfig:
        """The cluster's figures: short, so that much happens in a minute."""
        return ClusterConfig(
            lease_s=self.lease_s,
            message_timeout_s=8.0,
            lane_silence_s=2.5,  # a driver may stand still for longer
            report_s=0.5,
            idle_node_s=None,
        )

    @property
    def faults(self) -> list[Fault]:
        """When which fault is made."""
        return schedule(self.seed, self.seconds, self.lease_s)


@dataclass
class Report:
    """What a run has shown.

    :ivar made: the faults that were made, each with the messages under way.
    :ivar missed: what could not be made, each with the reason.
    :ivar fates: by (type, method), how many messages ended how; broadcasts apart, and "ok" where they failed nowhere.
    :ivar took_s: seconds of each part of the run.
    """

    plan: Plan
    made: list[tuple[Fault, int]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    fates: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    took_s: dict[str, float] = field(default_factory=dict)

    @property
    def wants(self) -> list[str]:
        """What kept the run from showing anything."""
        under_way = Counter({kind: 0 for kind in KINDS})
        for fault, number in self.made:
            under_way[fault.kind] += number
        wants = [f"no {kind!r} with messages under way" for kind in KINDS if not under_way[kind]]
        least = _LEAST_PER_S * self.plan.seconds
        for kind, method in MIX:
            ok = self.fates.get((kind.__name__, method), Counter())["ok"]
            if ok < least and method != "refuse":
                wants.append(f"only {ok} {kind.__name__}.{method} ended well, and {least:g} are wanted")
        least = _LEAST_BROADCASTS_PER_S * self.plan.seconds
        for kind, method in BROADCASTS:
            ok = self.fates.get((kind.__name__, f"{method} to all"), Counter())["ok"]
            if ok < least:
                wants.append(
                    f"only {ok} broadcasts of {kind.__name__}.{method} failed nowhere, not {least:g}"
                )
        return wants + self.failed

    @property
    def good(self) -> bool:
        """Whether all promises were kept, and that means something."""
        return not self.violations and not self.wants


def run(plan: Plan, folder: Path, tell: Callable[[str], None] = lambda line: None) -> Report:
    """Do it all, and leave nothing running; the record stays in the folder.

    :param tell: hears of each fault when it is made.
    """
    report = Report(plan)
    with _environment(plan, folder):
        history = _live(plan, folder, report, tell)
    with _timed(report, "check"):
        report.violations = check(history)
        report.fates = _fates(history)
    return report


@contextlib.contextmanager
def _environment(plan: Plan, folder: Path) -> Iterator[None]:
    before = dict(os.environ)
    os.environ |= {
        "PYTHONPATH": os.pathsep.join([str(_ROOT / "tests" / "chaos" / "hooks"), str(_ROOT)]),
        FOLDER: str(folder),
        "CHAOS_PLANT": plan.plant,
        **plan.extra,
    }
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ |= before


def _live(plan: Plan, folder: Path, report: Report, tell: Callable[[str], None]) -> History:
    scribe = FileScribe(folder, "main")
    exits = Exits(folder)
    under_way = UnderWay(folder, exits.has_ended)
    with _timed(report, "start"), contextlib.ExitStack() as stack:
        with _timed(report, "nodes"):
            nodes = stack.enter_context(several_nodes(3))
        with _timed(report, "cluster"):
            cluster = stack.enter_context(nodes.cluster(plan.config))
        with _timed(report, "settled"):
            nodes.settled(cluster)
        # Not before: a runner that is just starting and does not say that it has the code is sent a copy of it, and
        # that has a record of its own.
        for kept in SINGLETONS:
            _answered(partial(cluster.singleton, kept))
        for kind, _ in MIX:
            _answered(partial(cluster.register, kind))
        drivers = Drivers(DRIVERS, nodes.address, plan.seed, folder)
        stack.callback(drivers.kill)
        _until(
            lambda: len(exits.living("driver")) == len(DRIVERS) and under_way.now() and under_way.sent > 200
        )
        faults = Faults(nodes, cluster, drivers, exits, under_way, scribe, tell)
        keep = stack.pop_all()
    with keep:
        with _timed(report, "faults"):
            _make(plan, faults)
        with _timed(report, "last replies"):
            drivers.end(_LAST_REPLY_S)
            if not _until(lambda: not under_way.now(), _LAST_REPLY_S):
                report.failed.append(f"messages without a fate: {under_way.by_sender()}")
        _count(cluster, scribe)
        report.failed += drivers.failed
        report.made, report.missed = faults.made, faults.missed
        exits.note(scribe, faults.lost_nodes)
        scribe.note("end")
        history = History.read(folder)  # what comes now is the end of the cluster, and no part of it
        began = time.monotonic()
    report.took_s["end"] = time.monotonic() - began
    return history


def _make(plan: Plan, faults: Faults) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(32, "faults") as hands:
        for fault in plan.faults:
            faults.work_until(began + fault.at)
            hands.submit(faults.make, fault)
        faults.work_until(began + plan.seconds)
        faults.close()


def _count(cluster: Cluster, scribe: FileScribe) -> None:
    """Write down the cluster's metrics."""
    at = boottime()
    for point in exact_metrics(cluster):
        scribe.note("counts", at=at, name=point.name, labels=dict(point.labels), value=point.value)


def _fates(history: History) -> dict[tuple[str, str], Counter[str]]:
    sent = {history.events[m]["token"]: history.events[m] for m in history.of("sent")}
    found: dict[tuple[str, str], Counter[str]] = {}
    for moment in history.of("fate"):
        event = history.events[moment]
        message = sent.get(event["token"])
        if message is not None:
            method, fate = message["method"], "ok" if event["ok"] else event["reason"]
            if to_all(message):
                method += " to all"
                fate = "in part" if event.get("failed") else fate
            found.setdefault((message["type"], method), Counter())[fate] += 1
    return found


def _until(condition: Callable[[], object], within_s: float = _READY_S) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _answered(ask: Callable[[], object]) -> None:
    """Ask again as long as no coordinator answers: on a busy machine it takes its time to start."""
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            ask()
            return
        except ConnectionError:
            if time.monotonic() > deadline:
                raise


@contextlib.contextmanager
def _timed(report: Report, what: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        report.took_s[what] = time.monotonic() - began
