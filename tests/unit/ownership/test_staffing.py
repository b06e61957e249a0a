"""Which nodes have an agent and runners: each rule told as a story on a stepped clock, and all of them under chance."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cluster_app.runner_record import RunnerView
from cluster_app.staffing import Command, Look, Staffing

IDLE_S = 60.0


@dataclass
class Node:
    """A node as the test has it: what runs there, and what lives there."""

    agent: bool = False
    runners: list[str] = field(default_factory=list)
    entities: int = 0
    busy: float = 0.0
    empty_since: float = 0.0
    reporting: int = 0


class World:
    """Nodes on which commands are carried out at once; the first is the head."""

    def __init__(self, nodes: int = 2, runners_per_node: int = 1, idle_node_s: float | None = IDLE_S) -> None:
        self.now = 1000.0
        self.nodes = {f"node-{number}": Node() for number in range(nodes)}
        self.head = "node-0"
        self.drained: set[str] = set()
        self.draining: set[str] = set()
        self.groups: dict[str, set[str]] = {}
        self.ending: set[str] = set()  # those of the drained that are about to be taken away
        self.started = 0
        self.staffing = Staffing(
            runners_per_node, idle_node_s=idle_node_s, crowded_entities=1000, crowded_busy=0.7
        )

    def view(self, node_id: str, runner_id: str) -> RunnerView:
        """A runner as the coordinator knows it; entities are spread evenly."""
        node = self.nodes[node_id]
        out = runner_id in self.draining or node_id in self.drained
        idle_s = 0.0 if node.entities else self.now - node.empty_since
        entities = node.entities // len(node.runners)
        return RunnerView(runner_id, node_id, 7, True, 0, out, entities, idle_s, node.busy)

    def look(self) -> list[Command]:
        """One look and its commands, carried out."""
        views = {
            name: self.view(node_id, name) for node_id, node in self.nodes.items() for name in node.runners
        }
        commands = self.staffing.look(
            Look(
                self.now,
                self.head,
                tuple(self.nodes),
                {name for name, node in self.nodes.items() if node.agent},
                {name: tuple(node.runners) for name, node in self.nodes.items()},
                views,
                self.drained,
                self.groups,
                self.ending,
            )
        )
        for command in commands:
            self.carry_out(command)
        return commands

    def carry_out(self, command: Command) -> None:
        """Do it, as quickly as the edge never does."""
        node = self.nodes[command.node_id]
        if command.what == "agent":
            assert not node.agent
            node.agent = True
        elif command.what == "runner":
            assert node.agent
            self.started += 1
            node.runners.append(f"runner-{self.started}")
            node.empty_since = self.now
        elif command.what == "empty":
            if node.reporting:
                self.staffing.in_use(command.node_id, self.now)
            else:
                node.runners.clear()
        elif not node.reporting:
            assert not node.runners
            node.agent = False

    def pass_time(self, seconds: float) -> list[Command]:
        """Look once a second for so long; what was commanded."""
        commands = []
        for _ in range(round(seconds)):
            self.now += 1.0
            commands += self.look()
        return commands

    @property
    def staffed(self) -> list[str]:
        """The nodes with both an agent and a runner."""
        return [name for name, node in self.nodes.items() if node.agent and node.runners]


def given_up(world: World) -> World:
    """The world after its idle worker nodes were given up."""
    world.pass_time(IDLE_S + 5)
    assert world.staffed == ["node-0"]
    return world


def test_every_node_gets_an_agent_then_its_runners() -> None:
    """Once: looking again when all is there asks for nothing."""
    world = World(nodes=2, runners_per_node=2)
    assert world.look() == [
        Command("agent", "node-0"),
        Command("runner", "node-0"),
        Command("runner", "node-0"),
        Command("agent", "node-1"),
        Command("runner", "node-1"),
        Command("runner", "node-1"),
    ]
    assert world.look() == []


def test_what_died_is_started_again() -> None:
    """A runner, an agent, a whole new node."""
    world = World()
    world.look()
    world.nodes["node-1"].runners.clear()
    assert world.look() == [Command("runner", "node-1")]
    world.nodes["node-0"].agent = False
    assert world.look() == [Command("agent", "node-0")]
    world.nodes["node-2"] = Node()
    assert world.look() == [Command("agent", "node-2"), Command("runner", "node-2")]


def test_a_worker_node_without_entities_is_given_up_after_its_time() -> None:
    """First its runner is emptied, then its agent goes; the head stays, and it is not started again."""
    world = World()
    world.look()
    assert world.pass_time(IDLE_S - 1) == []
    assert world.pass_time(2) == [Command("empty", "node-1"), Command("retire", "node-1")]
    assert world.staffed == ["node-0"]
    assert world.pass_time(10 * IDLE_S) == []


def test_entities_keep_their_node() -> None:
    """For as long as one lives, and `idle_node_s` longer."""
    world = World()
    world.look()
    world.nodes["node-1"].entities = 1
    assert world.pass_time(5 * IDLE_S) == []
    world.nodes["node-1"].entities, world.nodes["node-1"].empty_since = 0, world.now
    assert world.pass_time(IDLE_S - 1) == []
    assert world.pass_time(3) == [Command("empty", "node-1"), Command("retire", "node-1")]


def test_never_means_never() -> None:
    """With None nothing is given up."""
    world = World(idle_node_s=None)
    world.look()
    assert world.pass_time(3600) == []


def test_a_process_that_reports_there_keeps_its_node() -> None:
    """It is asked again only after another `idle_node_s`."""
    world = World()
    world.look()
    world.nodes["node-1"].reporting = 1
    commands = world.pass_time(10 * IDLE_S)
    assert set(commands) == {Command("empty", "node-1")}
    assert 9 <= len(commands) <= 10
    world.nodes["node-1"].reporting = 0
    given_up(world)


def test_an_order_to_empty_that_was_lost_is_given_again() -> None:
    """A runner that stays on a node that is given up is told at the next look."""
    world = given_up(World())
    world.nodes["node-1"].runners.append("runner-99")
    assert world.pass_time(2) == [Command("empty", "node-1")]


def test_a_process_that_wants_to_report_gets_the_node_back() -> None:
    """Agent and runners, for at least `idle_node_s`."""
    world = given_up(World())
    world.staffing.want("node-1")
    assert world.look() == [Command("agent", "node-1"), Command("runner", "node-1")]
    assert world.pass_time(IDLE_S - 1) == []
    given_up(world)


def test_many_entities_bring_a_node_back_after_a_while() -> None:
    """Not a moment's crowd, not before it was away for its time, and one node at a time."""
    world = given_up(World(nodes=3))
    world.nodes["node-0"].entities = 1000
    assert world.pass_time(IDLE_S - 10) == []
    world.nodes["node-0"].entities = 999
    world.pass_time(10)
    world.nodes["node-0"].entities = 2001
    assert world.pass_time(4) == []
    assert world.pass_time(3) == [Command("agent", "node-1"), Command("runner", "node-1")]
    world.nodes["node-1"].entities = 1000  # its share
    assert world.pass_time(7) == [Command("agent", "node-2"), Command("runner", "node-2")]


def test_busy_runners_bring_a_node_back_if_it_could_help() -> None:
    """Not when one entity is all there is: it would stay where it is."""
    world = given_up(World())
    world.nodes["node-0"].busy, world.nodes["node-0"].entities = 0.9, 2
    assert world.pass_time(5 * IDLE_S) == []
    world.nodes["node-0"].entities = 3
    assert world.pass_time(7) == [Command("agent", "node-1"), Command("runner", "node-1")]


def test_a_node_that_was_of_no_use_stays_away_longer_each_time() -> None:
    """Load that it cannot share brings it back ever more rarely; entities on it end that."""
    world = World()
    world.look()
    world.nodes["node-0"].busy, world.nodes["node-0"].entities = 0.9, 100
    commands = world.pass_time(40 * IDLE_S)
    assert commands.count(Command("runner", "node-1")) == 5  # away for 1, 2, 4, 8 and 16 times `idle_node_s`
    world.pass_time(100 * IDLE_S)
    world.staffing.want("node-1")
    world.look()
    world.nodes["node-1"].entities = 1
    world.pass_time(2)
    world.nodes["node-1"].entities, world.nodes["node-1"].empty_since = 0, world.now
    world.pass_time(2 * IDLE_S + 20)
    assert world.staffed == ["node-0", "node-1"]


def test_a_drained_node_is_kept_without_runners() -> None:
    """Its agent goes as well, unless somebody reports; the head's stays. Taken back, it is staffed."""
    world = World()
    world.look()
    world.drained.add("node-1")
    assert world.pass_time(5) == []  # its runners end by themselves
    world.nodes["node-1"].runners.clear()
    assert world.pass_time(2) == [Command("retire", "node-1")]
    world.staffing.want("node-1")
    world.nodes["node-1"].reporting = 1
    assert world.look() == [Command("agent", "node-1")]
    assert world.pass_time(30)[:1] == [Command("retire", "node-1")]  # refused, as somebody reports
    assert world.nodes["node-1"].agent
    world.drained.clear()
    assert world.look() == [Command("runner", "node-1")]
    world.drained.add("node-0")
    world.nodes["node-0"].runners.clear()
    assert world.pass_time(30) == []


def test_nothing_is_started_on_a_node_that_is_about_to_be_taken_away() -> None:
    """Neither an agent that somebody wants, nor the head's own; what is there ends as on a drained node."""
    world = World()
    world.look()
    world.drained.add("node-1")
    world.ending.add("node-1")
    world.nodes["node-1"].runners.clear()
    assert world.pass_time(2) == [Command("retire", "node-1")]
    world.staffing.want("node-1")
    assert world.pass_time(30) == []
    world.drained.add("node-0")
    world.ending.add("node-0")
    world.nodes["node-0"].runners.clear()
    world.nodes["node-0"].agent = False
    assert world.pass_time(30) == []
    world.ending.remove("node-0")  # what was to end it has changed its mind
    assert world.look() == [Command("agent", "node-0")]


def test_the_last_node_for_runners_is_never_given_up() -> None:
    """With the head drained a worker stays, idle or not; one that was given up is taken back."""
    world = given_up(World())
    world.drained.add("node-0")
    world.nodes["node-0"].runners.clear()
    assert world.look() == [Command("agent", "node-1"), Command("runner", "node-1")]
    assert world.pass_time(10 * IDLE_S) == []


def test_the_last_node_for_a_pinned_group_is_never_given_up() -> None:
    """Nobody else could serve it: of two such nodes one goes; with the other drained, the one comes back."""
    world = World(nodes=4)
    world.groups = {"node-1": {"gpu"}, "node-2": {"gpu"}}
    world.pass_time(IDLE_S + 5)
    assert world.staffed == ["node-0", "node-2"]
    assert world.pass_time(10 * IDLE_S) == []
    world.drained.add("node-2")
    world.nodes["node-2"].runners.clear()
    world.pass_time(5)
    assert world.staffed == ["node-0", "node-1"]


def test_a_draining_runner_is_replaced_when_it_has_ended() -> None:
    """Before that only if nobody else could take its shards."""
    world = World(nodes=1, runners_per_node=2)
    world.look()
    first, second = world.nodes["node-0"].runners
    world.draining.add(first)
    assert world.look() == []
    world.nodes["node-0"].runners.remove(first)
    assert world.look() == [Command("runner", "node-0")]
    world.draining |= set(world.nodes["node-0"].runners)
    assert world.look() == [Command("runner", "node-0")] * 2
    assert world.look() == []
    assert second in world.nodes["node-0"].runners


class Chance(RuleBasedStateMachine):
    """Nodes, load, drains and deaths by chance; what must hold whatever happens."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(nodes=3)
        self.world.look()

    @rule(which=st.integers(0, 2), entities=st.sampled_from([0, 1, 5000]), busy=st.sampled_from([0.0, 1.0]))
    def load(self, which: int, entities: int, busy: float) -> None:
        node = self.world.nodes[f"node-{which}"]
        if node.runners:
            if node.entities and not entities:
                node.empty_since = self.world.now
            node.entities, node.busy = entities, busy

    @rule(seconds=st.integers(1, 150))
    def wait(self, seconds: int) -> None:
        busy_nodes = {name for name, node in self.world.nodes.items() if node.entities and node.runners}
        for command in self.world.pass_time(seconds):
            if command.what == "empty":
                assert command.node_id not in busy_nodes
                assert command.node_id != self.world.head

    @rule(which=st.integers(0, 2))
    def kill_runner(self, which: int) -> None:
        node = self.world.nodes[f"node-{which}"]
        node.runners.clear()
        node.entities = 0

    @rule(which=st.integers(0, 2), reporting=st.integers(0, 1))
    def connect(self, which: int, reporting: int) -> None:
        self.world.nodes[f"node-{which}"].reporting = reporting
        if reporting:
            self.world.staffing.want(f"node-{which}")
            self.world.look()
            self.world.look()
            assert self.world.nodes[f"node-{which}"].agent

    @precondition(lambda self: len(self.world.drained) < 2)
    @rule(which=st.integers(0, 2))
    def drain(self, which: int) -> None:
        self.world.drained.add(f"node-{which}")
        node = self.world.nodes[f"node-{which}"]
        node.runners.clear()
        node.entities = 0

    @rule()
    def undrain(self) -> None:
        self.world.drained.clear()

    @invariant()
    def somebody_can_serve_after_a_look(self) -> None:
        self.world.look()
        self.world.look()
        assert self.world.nodes[self.world.head].agent
        assert set(self.world.staffed) - self.world.drained
        for name, node in self.world.nodes.items():
            assert len(node.runners) <= 1
            assert node.agent or not node.runners
            if name in self.world.drained:
                assert not node.runners


TestChance = Chance.TestCase
TestChance.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
