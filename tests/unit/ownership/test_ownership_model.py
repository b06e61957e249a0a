"""A model of the whole grant protocol under everything a network, clocks and processes can do to it.

The real `Tenure`, `Coordinator`, `Leadership` and `Roster` run against a true time that none of them can see:
each process reads a clock of its own, off by any amount and fast or slow by up to 5 %, which `GUARD_S` and
`DRIFT_S` cover. Renewals and answers are delayed, lost, repeated and reordered; processes stop for a while or
die, with and without proof; coordinators of several terms are alive at once, each anywhere between claim,
reading, writing and confirming.

Safety, after every step: no two runners may serve one shard at the same true instant, and no runner serves a
shard under an epoch older than one that was already served. Liveness, at the end: once messages arrive again,
every shard is served by the runner that the shard map wants.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster_app.coordinator import Coordinator, CoordinatorConfig, RunnerEnded
from cluster_app.grants import Epoch, Lease, Renewal
from cluster_app.kv import MemoryKeyValue
from cluster_app.leadership import Leadership, NotLeading
from cluster_app.roster import Roster, RosterEntry, RosterWrite
from cluster_app.shard import ShardId, shards_of
from cluster_app.shard_map import assign
from cluster_app.tenure import Tenure

LEASE_S, GUARD_S, DRIFT_S, LEADERSHIP_S = 3.0, 0.1, 0.3, 1.0
SLOW, FAST = 0.95, 1.05
# What makes the figures above sound: the slowest runner's lease ends before the fastest coordinator stops
# waiting.
assert (LEASE_S - GUARD_S) / SLOW < (LEASE_S + DRIFT_S) / FAST
CONFIG = CoordinatorConfig(
    lease_s=LEASE_S, guard_s=GUARD_S, drift_s=DRIFT_S, shards_per_group=4, max_moving_shards=2, forget_s=20.0
)
SHARDS = shards_of("default", 4)
MOST_RUNNERS, MOST_COORDINATORS, MOST_MESSAGES = 4, 4, 12

index = st.integers(0, 11)
rates = st.sampled_from([1.0, SLOW, FAST])
offsets = st.sampled_from([0.0, -1000.0, 77.0])


@dataclass
class Clock:
    """A process's clock: what it shows at a true time."""

    offset: float
    rate: float

    def at(self, true_time: float) -> float:
        return self.offset + self.rate * true_time


@dataclass
class RunnerProcess:
    """A runner, and whether its process is alive."""

    tenure: Tenure
    clock: Clock
    asked: set[ShardId] = field(default_factory=set[ShardId])
    alive: bool = True


@dataclass
class CoordinatorProcess:
    """A coordinator at any point of its life: claimed, roster read, leading; and its roster round in three
    steps.
    """

    leadership: Leadership
    roster: Roster
    clock: Clock
    entries: dict[str, RosterEntry] | None = None
    core: Coordinator | None = None
    written: list[RosterWrite] = field(default_factory=list[RosterWrite])
    confirmed: list[RosterWrite] = field(default_factory=list[RosterWrite])


@dataclass(frozen=True)
class Request:
    """A renewal on its way."""

    runner: RunnerProcess
    coordinator: CoordinatorProcess
    renewal: Renewal
    sent_at: float


@dataclass(frozen=True)
class Answer:
    """A lease on its way."""

    runner: RunnerProcess
    lease: Lease
    sent_at: float


class Ownership(RuleBasedStateMachine):
    """The processes, the messages between them, and the true time."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.kv = MemoryKeyValue()
        self.runners: list[RunnerProcess] = []
        self.coordinators: list[CoordinatorProcess] = []
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.started = 0
        self.served: dict[ShardId, Epoch] = {}

    # -- processes

    @initialize(speeds=st.lists(rates, min_size=3, max_size=3))
    def two_runners_serve(self, speeds: list[float]) -> None:
        """Most histories worth looking at start from a cluster that works."""
        self.start_coordinator(speeds[0], offset=500.0)
        self.start_runner(speeds[1], offset=-30.0)
        self.start_runner(speeds[2], offset=4000.0)
        coordinator = self.coordinators[0]
        self.claim_and_read(coordinator)
        for _ in range(2):
            for runner in self.runners:
                self.exchange(runner, coordinator)
            self.roster_round(coordinator)
        for runner in self.runners:
            self.exchange(runner, coordinator)

    @precondition(lambda self: sum(r.alive for r in self.runners) < MOST_RUNNERS and self.started < 30)
    @rule(rate=rates, offset=offsets)
    def start_runner(self, rate: float, offset: float) -> None:
        self.started += 1
        tenure = Tenure(f"runner-{self.started}", f"node-{self.started}", guard_s=GUARD_S)
        self.runners.append(RunnerProcess(tenure, Clock(offset, rate)))

    @precondition(lambda self: len(self.coordinators) < MOST_COORDINATORS)
    @rule(rate=rates, offset=offsets)
    def start_coordinator(self, rate: float, offset: float) -> None:
        self.started += 1
        leadership = Leadership(self.kv, "model", LEADERSHIP_S, f"coordinator-{self.started}")
        self.coordinators.append(
            CoordinatorProcess(leadership, Roster(self.kv, "model"), Clock(offset, rate))
        )

    @precondition(lambda self: len(self.coordinators) > 1)
    @rule(which=index)
    def kill_coordinator(self, which: int) -> None:
        del self.coordinators[which % len(self.coordinators)]

    @precondition(lambda self: sum(r.alive for r in self.runners) > 1)
    @rule(which=index, told=st.booleans())
    def kill_runner(self, which: int, told: bool) -> None:
        """A process ends; with `told`, its node proves it to every coordinator that is there."""
        living = [runner for runner in self.runners if runner.alive]
        victim = living[which % len(living)]
        victim.alive = False
        if told:
            for coordinator in self.coordinators:
                if coordinator.core is not None:
                    coordinator.core.proven_dead(victim.tenure.runner_id, self.clock_of(coordinator))

    # -- a coordinator's own steps, one at a time, so that others can come between

    @precondition(lambda self: self.coordinators)
    @rule(which=index, step=st.sampled_from(["step up", "tick", "write", "confirm", "report", "round"]))
    def coordinator_step(self, which: int, step: str) -> None:
        process = self.coordinators[which % len(self.coordinators)]
        if step == "step up":
            self.one_step_up(process)
        elif step == "tick":
            self.tick(process)
        elif step == "write":
            self.write(process)
        elif step == "confirm":
            self.confirm(process)
        elif step == "report":
            self.report_written(process)
        else:
            self.roster_round(process)

    @precondition(lambda self: len(self.coordinators) < MOST_COORDINATORS)
    @rule(rate=rates, offset=offsets, absent=index, rounds=st.integers(0, 2), given_up=st.booleans())
    def take_over(self, rate: float, offset: float, absent: int, rounds: int, given_up: bool) -> None:
        """A new coordinator leads, the old ones know nothing of it, and one runner does not hear of it."""
        silent = self.runners[absent % len(self.runners)]
        self.new_term(rate, offset, [runner for runner in self.runners if runner is not silent], rounds)
        if given_up and len(self.coordinators) > 1:
            self.wait_until_it_acts(self.coordinators[-1], silent, self.coordinators[-2], 0.15)

    @precondition(lambda self: 0 < len(self.coordinators) < MOST_COORDINATORS)
    @rule(rate=rates, offset=offsets, which=index, joins=st.booleans())
    def take_over_while_an_answer_is_on_its_way(
        self, rate: float, offset: float, which: int, joins: bool
    ) -> None:
        """A runner's shards were granted to it anew by the old term; it hears of it under the new one."""
        late = self.runners[which % len(self.runners)]
        if not late.alive:
            return
        for shard in list(late.tenure.grants):
            late.tenure.released(shard)
        sent_at = late.clock.at(self.time)
        lease = self.answer(self.coordinators[-1], late.tenure.renewal())
        if joins and self.started < 30:
            self.start_runner(rate, offset)
        self.new_term(rate, offset, self.runners, 3)
        if lease is not None:
            self.apply(late, lease, sent_at)

    # -- messages

    @precondition(lambda self: len(self.requests) < MOST_MESSAGES and self.coordinators)
    @rule(which=index, to=index)
    def send_renewal(self, which: int, to: int) -> None:
        runner = self.runners[which % len(self.runners)]
        if runner.alive:
            coordinator = self.coordinators[to % len(self.coordinators)]
            sent_at = runner.clock.at(self.time)
            self.requests.append(Request(runner, coordinator, runner.tenure.renewal(), sent_at))

    @precondition(lambda self: self.requests)
    @rule(which=index, again=st.booleans())
    def deliver_renewal(self, which: int, again: bool) -> None:
        """Any renewal in flight arrives, in any order; with `again` a copy of it is still to come."""
        request = self.requests[which % len(self.requests)]
        if not again:
            self.requests.remove(request)
        if request.coordinator in self.coordinators:
            self.answer_in_flight(request.runner, request.coordinator, request.renewal, request.sent_at)

    @precondition(lambda self: self.coordinators)
    @rule(which=index, to=index)
    def renew_and_wait_for_the_answer(self, which: int, to: int) -> None:
        runner = self.runners[which % len(self.runners)]
        if runner.alive:
            coordinator = self.coordinators[to % len(self.coordinators)]
            sent_at = runner.clock.at(self.time)
            self.answer_in_flight(runner, coordinator, runner.tenure.renewal(), sent_at)

    @precondition(lambda self: self.answers)
    @rule(which=index, again=st.booleans())
    def deliver_answer(self, which: int, again: bool) -> None:
        answer = self.answers[which % len(self.answers)]
        if not again:
            self.answers.remove(answer)
        self.apply(answer.runner, answer.lease, answer.sent_at)

    @precondition(lambda self: self.requests or self.answers)
    @rule()
    def lose_everything_in_flight(self) -> None:
        self.requests.clear()
        self.answers.clear()

    @precondition(lambda self: self.coordinators)
    @rule(which=index, to=index)
    def renew_now(self, which: int, to: int) -> None:
        """A renewal and its answer without delay, as nearly always in life."""
        runner = self.runners[which % len(self.runners)]
        self.exchange(runner, self.coordinators[to % len(self.coordinators)])

    @precondition(lambda self: self.coordinators)
    @rule(to=index)
    def all_renew_now(self, to: int) -> None:
        for runner in self.runners:
            self.exchange(runner, self.coordinators[to % len(self.coordinators)])

    @rule(which=index, all_of_them=st.booleans())
    def let_go(self, which: int, all_of_them: bool) -> None:
        """A runner lets go what it was asked for, or, as one that leaves, everything."""
        runner = self.runners[which % len(self.runners)]
        if runner.alive:
            for shard in list(runner.tenure.grants) if all_of_them else runner.asked:
                runner.tenure.released(shard)
            runner.asked.clear()

    # -- time

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, LEADERSHIP_S / SLOW, LEASE_S / 2, LEASE_S]))
    def wait(self, seconds: float) -> None:
        self.time += seconds

    @precondition(lambda self: self.coordinators)
    @rule(which=index, to=index, other=index, step_s=st.sampled_from([0.15, 0.4]), at_once=st.booleans())
    def cut_off(self, which: int, to: int, other: int, step_s: float, at_once: bool) -> None:
        """One runner is cut off from a coordinator until that one acts on it; the rest of the cluster goes
        on.

        It may still reach another coordinator, that is cut off from the store, for as long as that one leads.
        """
        process = self.coordinators[to % len(self.coordinators)]
        silent = self.runners[which % len(self.runners)]
        if at_once:
            self.exchange(silent, process)
        self.wait_until_it_acts(process, silent, self.coordinators[other % len(self.coordinators)], step_s)

    # -- what must hold

    @invariant()
    def check(self) -> None:
        """No shard is served twice, or under an epoch older than one that was served."""
        for shard in SHARDS:
            serving = [
                (runner.tenure.runner_id, epoch)
                for runner in self.runners
                if runner.alive and (epoch := runner.tenure.serves(shard, runner.clock.at(self.time)))
            ]
            assert len(serving) <= 1, f"{shard} is served by {serving} at {self.time}"
            for runner_id, epoch in serving:
                newest = self.served.get(shard, epoch)
                assert epoch >= newest, f"{shard} is served by {runner_id} under {epoch} after {newest}"
                self.served[shard] = epoch

    def teardown(self) -> None:
        """When everything works again, every shard is served by the runner that should have it.

        A runner that was lost several times may have to wait for that, but not for ever.
        """
        self.lose_everything_in_flight()
        living = [runner for runner in self.runners if runner.alive]
        self.coordinators = [process for process in self.coordinators if process.core is not None][-1:]
        wanted = assign(SHARDS, {runner.tenure.runner_id: 1.0 for runner in living}) if living else {}
        most = CONFIG.lease_s * 2**4  # that a runner that comes and goes waits
        for _ in range(round((20 + most) / 0.25)):
            if self.serving(living) == wanted:
                break
            self.time += 0.25
            self.coordinators = [p for p in self.coordinators if not p.leadership.abdicated]
            if not self.coordinators:
                self.start_coordinator(1.0, 0.0)
            self.claim_and_read(self.coordinators[0])
            for runner in living:
                self.exchange(runner, self.coordinators[0])
                for shard in runner.asked:
                    runner.tenure.released(shard)
                runner.asked.clear()
            self.roster_round(self.coordinators[0])
            self.check()
        assert self.serving(living) == wanted

    def serving(self, living: list[RunnerProcess]) -> dict[ShardId, str]:
        """Who serves each shard now."""
        return {
            shard: runner.tenure.runner_id
            for runner in living
            for shard in SHARDS
            if runner.tenure.serves(shard, runner.clock.at(self.time))
        }

    # -- parts of the steps

    def new_term(self, rate: float, offset: float, hearing: list[RunnerProcess], rounds: int) -> None:
        self.start_coordinator(rate, offset)
        process = self.coordinators[-1]
        self.claim_and_read(process)
        for _ in range(rounds):
            for runner in hearing:
                self.exchange(runner, process)
            self.roster_round(process)

    def wait_until_it_acts(
        self,
        process: CoordinatorProcess,
        silent: RunnerProcess,
        elsewhere: CoordinatorProcess,
        step_s: float,
    ) -> None:
        others = [runner for runner in self.runners if runner is not silent]
        for _ in range(int((2 * LEASE_S + LEADERSHIP_S) / step_s)):
            for runner in others:
                self.exchange(runner, process)
            self.roster_round(process)
            if elsewhere is not process:
                self.exchange(silent, elsewhere)
            self.check()
            deadline = None if process.core is None else process.core.next_deadline()
            if deadline is None or process.leadership.abdicated:
                return
            # To the very moment at which the coordinator may act, where there is one, and not past it.
            left_s = (deadline - self.clock_of(process)) / process.clock.rate
            acts = 0 <= left_s <= step_s
            self.time += left_s + 1e-9 if acts else step_s
            if acts:
                self.roster_round(process)
                for runner in others:
                    self.exchange(runner, process)
                self.check()
                return

    def clock_of(self, process: CoordinatorProcess) -> float:
        return process.clock.at(self.time)

    def one_step_up(self, process: CoordinatorProcess) -> None:
        now = self.clock_of(process)
        if process.core is not None or process.leadership.abdicated:
            return
        if process.leadership.term is None:
            process.leadership.claim(now)
        elif process.entries is None:
            process.entries = process.roster.take_over(process.leadership.term)
        elif process.leadership.leads(now) or process.leadership.confirm(now):
            process.core = Coordinator(CONFIG, process.leadership, process.entries, now)
            process.core.add_group("default", now)

    def claim_and_read(self, process: CoordinatorProcess) -> None:
        for _ in range(3):
            self.one_step_up(process)

    def tick(self, process: CoordinatorProcess) -> None:
        if process.core is not None:
            with suppress(NotLeading):
                process.core.tick(self.clock_of(process))

    def write(self, process: CoordinatorProcess) -> None:
        if process.core is not None:
            changes = process.core.roster_writes()
            process.roster.write(changes)
            process.written += changes

    def confirm(self, process: CoordinatorProcess) -> None:
        if process.leadership.confirm(self.clock_of(process)):
            process.confirmed += process.written
        process.written = []

    def report_written(self, process: CoordinatorProcess) -> None:
        if process.core is not None:
            with suppress(NotLeading):
                process.core.roster_written(process.confirmed, self.clock_of(process))
                process.confirmed = []

    def roster_round(self, process: CoordinatorProcess) -> None:
        """What a coordinator does all the time: confirm, tick, write, confirm, go on."""
        self.confirm(process)
        self.tick(process)
        self.write(process)
        self.confirm(process)
        self.report_written(process)

    def answer(self, process: CoordinatorProcess, renewal: Renewal) -> Lease | None:
        if process.core is None:
            return None
        try:
            return process.core.renew(renewal, self.clock_of(process))
        except (NotLeading, RunnerEnded):
            return None

    def answer_in_flight(
        self, runner: RunnerProcess, process: CoordinatorProcess, renewal: Renewal, sent_at: float
    ) -> None:
        lease = self.answer(process, renewal)
        if lease is not None and len(self.answers) < MOST_MESSAGES:
            self.answers.append(Answer(runner, lease, sent_at))

    def apply(self, runner: RunnerProcess, lease: Lease, sent_at: float) -> None:
        if runner.alive:
            change = runner.tenure.apply(lease, sent_at, runner.clock.at(self.time))
            runner.asked = {shard for shard in runner.asked | change.to_release if runner.tenure.owns(shard)}

    def exchange(self, runner: RunnerProcess, process: CoordinatorProcess) -> None:
        """Renew; twice when the first answer only tells a new term."""
        for _ in range(2):
            if not runner.alive:
                return
            sent_at = runner.clock.at(self.time)
            term = runner.tenure.term
            lease = self.answer(process, runner.tenure.renewal())
            if lease is None:
                return
            self.apply(runner, lease, sent_at)
            if runner.tenure.term == term:
                return


TestOwnership = Ownership.TestCase
TestOwnership.settings = settings(
    max_examples=1000, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
