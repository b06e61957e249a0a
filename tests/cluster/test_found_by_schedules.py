"""Faults that random schedules have found, each in its least form."""

from __future__ import annotations

from cluster_app import ClusterConfig, Entity, entity, message
from cluster_app.testing import MemoryCluster
from tests.chaos.schedule import Step, violations


@entity(name="found.Target", max_idle_time=None)
class Target(Entity):
    @message(idempotent=True)
    def hit(self) -> int:
        return 1


def test_a_store_that_is_away_for_a_moment_does_not_stop_the_coordinator() -> None:
    """It could not write the roster in its tick, and never ticked again."""
    with MemoryCluster(runners=1, nodes=2, config=ClusterConfig(shards_per_group=6)) as cluster:
        target = cluster.entity(Target, "a")
        target.hit.remote().result(30)
        cluster._memory._kv.available = False
        for runner in cluster.status().runners:
            cluster.kill(runner.id, proven=False)
        cluster.clock.advance(6.0)  # their leases end, and the roster has to be written
        cluster._memory._kv.available = True
        reply = target.hit.remote()
        cluster.clock.advance(8.0)
        assert reply.result() == 1


def test_an_answer_that_went_astray_is_asked_for_again() -> None:
    """A repeated exchange took an answer that nobody heard: the lane waited for it for ever."""
    steps: list[Step] = [
        ("advance", 3.5),
        ("pause", 0),
        ("advance", 0.3),
        ("send", 1, 1, "pass_on", 1),
        ("send", 2, 2, "hit", 4),
        ("send", 1, 2, "hit_safely", 2),
        ("mishap", "repeated", 1),
        ("stop coordinator",),
        ("send", 0, 0, "hit", 1),
        ("advance", 0.01),
        ("advance", 0.3),
        ("advance", 3.5),
        ("pause", 2),
        ("send", 1, 2, "hit", 1),
        ("advance", 0.01),
        ("kill", 0, False),
        ("pause", 0),
        ("succeed",),
        ("send", 0, 2, "hit", 4),
        ("find store",),
        ("advance", 1.0),
        ("send", 1, 0, "hit_safely", 2),
        ("wake coordinators",),
        ("advance", 1.0),
        ("lose store",),
    ]
    assert violations(steps) == []


def test_a_process_that_is_about_to_be_late_is_looked_at_in_a_moment() -> None:
    """Its message's time was less than the clock can tell away: it was looked at again and again, at one moment."""
    steps: list[Step] = [
        ("resume",),
        ("advance", 0.01),
        ("send", 2, 1, "pass_on", 1),
        ("advance", 1.0),
        ("send", 1, 0, "hold_safely", 2),
        ("undrain",),
        ("mishap", "answer late", 1),
        ("send", 2, 0, "hold", 2),
        ("send", 1, 0, "hit", 1),
        ("advance", 0.3),
        ("send", 0, 0, "hold", 2),
        ("advance", 0.06),
        ("advance", 0.06),
        ("advance", 0.01),
        ("pause", 2),
        ("send", 2, 0, "hit_safely", 2),
        ("kill", 1, False),
        ("pause", 2),
        ("advance", 0.3),
        ("join", True),
    ]
    assert violations(steps) == []


def test_what_runs_again_for_a_lost_process_leaves_with_its_shard() -> None:
    """Its process was lost while its shard was handed over: it came to life again, and the shard left without it."""
    steps: list[Step] = [
        ("send", 2, 0, "hold", 2),
        ("pause", 1),
        ("kill", 2, False),
        ("kill entity",),
        ("advance", 0.06),
        ("advance", 0.01),
        ("drain node", 1),
        ("send", 0, 1, "hit in time", 3),
        ("send", 2, 2, "hit", 4),
        ("advance", 0.06),
        ("kill", 0, True),
        ("drain node", 0),
        ("send", 2, 1, "hit", 4),
        ("send", 2, 0, "hold_safely", 2),
        ("send", 1, 2, "leave", 1),
        ("pause", 1),
        ("send", 0, 2, "hit", 1),
        ("wake coordinators",),
        ("kill entity",),
        ("send", 2, 1, "pass_on", 1),
        ("mishap", "answer late", 1),
        ("send", 1, 1, "hit in time", 3),
        ("send", 2, 0, "hit_safely", 2),
    ]
    assert violations(steps) == []


def test_what_ran_with_a_lost_runner_is_not_said_not_to_have_run() -> None:
    """It was to run again elsewhere, and was cancelled before: `may_have_run` told of the second time alone."""
    steps: list[Step] = [
        ("kill", 1, True),
        ("advance", 0.06),
        ("advance", 0.06),
        ("send", 0, 0, "hold", 2),
        ("advance", 0.01),
        ("send", 1, 2, "hit", 1),
        ("send", 0, 2, "leave", 1),
        ("advance", 3.5),
        ("advance", 3.5),
        ("advance", 0.01),
        ("advance", 0.06),
        ("send", 2, 0, "hold_safely", 2),
        ("send", 2, 0, "hold", 2),
        ("mishap", "request lost", 1),
        ("advance", 0.01),
        ("kill", 1, True),
        ("cancel",),
        ("advance", 0.06),
    ]
    assert violations(steps) == []


def test_a_suspended_runner_brings_nothing_to_life() -> None:
    """A message came to a runner whose lease had ended: its entity began there while another one lived."""
    steps: list[Step] = [
        ("advance", 1.0),
        ("send", 0, 0, "hit", 4),
        ("kill", 1, False),
        ("send", 2, 2, "leave", 1),
        ("advance", 3.5),
        ("send", 1, 1, "hit in time", 3),
        ("pause", 0),
        ("send", 2, 2, "leave", 1),
        ("cancel",),
        ("send", 1, 0, "hold", 2),
        ("advance", 3.5),
        ("send", 1, 2, "hit", 1),
        ("advance", 0.06),
        ("mishap", "answer late", 3),
        ("advance", 0.01),
        ("advance", 0.06),
        ("advance", 0.01),
        ("send", 2, 0, "hold_safely", 2),
        ("send", 2, 0, "hold", 2),
        ("send", 2, 0, "hit", 1),
    ]
    assert violations(steps) == []


def test_what_was_sent_in_the_moment_of_a_death_may_have_run() -> None:
    """It had begun in the moment in which its runner died, and was sent again as one that could not have."""
    steps: list[Step] = [
        ("advance", 0.06),
        ("send", 2, 0, "hit", 1),
        ("advance", 0.06),
        ("mishap", "answer lost", 3),
        ("mishap", "answer lost", 3),
        ("send", 2, 1, "pass_on", 1),
        ("cancel",),
        ("kill", 2, True),
        ("cancel",),
        ("advance", 3.5),
        ("advance", 0.01),
        ("send", 1, 1, "hit in time", 3),
        ("send", 1, 2, "hit_safely", 2),
        ("send", 0, 1, "hit in time", 3),
        ("cancel",),
        ("kill coordinator",),
        ("advance", 0.3),
        ("send", 1, 2, "hit_safely", 2),
        ("send", 2, 1, "hit", 4),
        ("wake coordinators",),
    ]
    assert violations(steps) == []


def test_a_cancellation_that_overtakes_a_lanes_first_frames_loses_no_order() -> None:
    """The runner did not know the lane yet, so the sender gave it up: what was on its way ran after later ones."""
    steps: list[Step] = [
        ("send", 0, 1, "hit", 1),
        ("mishap", "request late", 3),
        ("send", 0, 0, "hit", 1),
        ("send", 0, 0, "hit", 1),
        ("send", 0, 0, "hit", 1),
        ("send", 0, 0, "hit", 1),
        ("send", 0, 0, "hit", 1),
        ("send", 0, 0, "hit", 1),
        ("send", 0, 1, "hit", 1),
        ("cancel",),
    ]
    assert violations(steps) == []


def test_what_was_cancelled_does_not_run_behind_what_came_after_it() -> None:
    """It never ran, and the answer that said so was lost: it was sent again. Chaos on real processes found it."""
    steps: list[Step] = [("mishap", "answer late", 1), ("send and cancel", 0, 2), ("cut off", 3.0)]
    assert violations(steps) == []


def test_what_ran_while_its_shard_was_given_back_is_not_run_again_behind_what_came_after_it() -> None:
    """Its sender was cut off until its lane was forgotten; by then the rest had gone to the next runner."""
    steps: list[Step] = [
        ("send and cancel", 0, 0),
        ("send and cancel", 2, 1),
        ("kill", 1, True),
        ("cut off", 3.0),
    ]
    assert violations(steps) == []


def test_an_entity_that_was_seen_off_is_counted_for_that_though_its_shard_is_lost_before_it_is_gone() -> None:
    """Its `on_deactivate` had ended as its runner's right to run did, and it was counted as lost."""
    steps: list[Step] = [
        ("send", 0, 0, "hit", 1),
        ("send", 1, 0, "hit_safely", 2),
        ("kill", 0, True),
        ("pause", 0),
        ("cut off", 3.0),
        ("advance", 0.3),
        ("join", True),
        ("pause", 1),
        ("cut off", 3.0),
        ("advance", 0.3),
    ]
    assert violations(steps) == []
