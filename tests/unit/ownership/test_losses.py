"""What senders are told of lost runners, and what a lost runner is told of the grants that it had."""

from __future__ import annotations

import asyncio

import pytest

from cluster_app.config import ClusterConfig
from cluster_app.coordinator import Coordinator, RunnerEnded
from cluster_app.coordinator_service import CoordinatorService
from cluster_app.grants import Epoch
from cluster_app.kv import MemoryKeyValue
from cluster_app.routes import Loss
from cluster_app.tenure import Tenure
from observe.recorder import Recorder
from tests.unit.ownership.small_cluster import CONFIG, LEADERSHIP_S, OLD_LEASES_END, SHARDS, SmallCluster

TAKEN_S = CONFIG.lease_s + CONFIG.drift_s


def test_a_runner_whose_lease_ran_out_is_told_as_lost_when_no_later_term_can_give_it_back() -> None:
    """Not before its roster entry is gone: until then the next term would let it go on under the same epochs."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    one, two = cluster.runner("one"), cluster.runner("two")
    cluster.serve(coordinator, one, two)
    last = max(*one.grants.values(), *two.grants.values())
    silent_since = cluster.now
    while cluster.now < silent_since + TAKEN_S - 0.25:
        cluster.pass_time(0.25, coordinator, two)
    cluster.now = silent_since + TAKEN_S
    cluster.leaderships[coordinator].confirm(cluster.now)
    coordinator.tick(cluster.now)
    routes = coordinator.routes(-1, cluster.now)
    assert routes is not None and routes.lost == {}
    assert {owner for owner, _ in routes.owners.values()} == {"two"}
    cluster.write_roster(coordinator)
    routes = coordinator.routes(routes.version, cluster.now + 1.5)
    assert routes is not None and routes.lost == {"one": Loss(last, 1.5)}


def test_a_runner_that_is_proven_dead_is_told_as_lost_at_once() -> None:
    """A dead process answers nothing, whatever the roster says."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    one, two = cluster.runner("one"), cluster.runner("two")
    cluster.serve(coordinator, one, two)
    coordinator.proven_dead("one", cluster.now)
    routes = coordinator.routes(-1, cluster.now)
    assert routes is not None and routes.lost["one"].ago_s == 0.0
    assert routes.lost["one"].epoch >= max(one.grants.values())


def test_a_runner_that_let_its_shards_go_in_order_is_not_lost() -> None:
    """It answers what it ran before."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    one, two = cluster.runner("one"), cluster.runner("two")
    cluster.serve(coordinator, one, two)
    one.leave()
    cluster.pass_time(1.0, coordinator, one, two)
    routes = coordinator.routes(-1, cluster.now)
    assert routes is not None and routes.lost == {}
    assert {owner for owner, _ in routes.owners.values()} == {"two"}


def test_losses_are_told_for_a_minute() -> None:
    """Then every sender that waited has heard of them."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    one, two = cluster.runner("one"), cluster.runner("two")
    cluster.serve(coordinator, one, two)
    coordinator.proven_dead("one", cluster.now)
    cluster.pass_time(CONFIG.forget_s, coordinator, two)
    routes = coordinator.routes(-1, cluster.now)
    assert routes is not None and "one" in routes.lost
    cluster.pass_time(0.25, coordinator, two)
    routes = coordinator.routes(-1, cluster.now)
    assert routes is not None and routes.lost == {}


def test_a_runner_that_comes_back_knows_which_grants_are_over() -> None:
    """All that it had; those that it gets now are later."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    one, two = cluster.runner("one"), cluster.runner("two")
    cluster.serve(coordinator, one, two)
    had = max(one.grants.values())
    cluster.pass_time(TAKEN_S + 0.5, coordinator, two)
    cluster.serve(coordinator, one, two)
    assert had <= one.fenced
    assert one.grants and min(one.grants.values()) > one.fenced
    assert two.fenced < min(two.grants.values())


def test_a_runner_that_comes_back_in_a_later_term_knows_it_too() -> None:
    """The coordinator that took its shards is no more; the roster still tells."""
    cluster = SmallCluster()
    first = cluster.coordinator()
    one, two = cluster.runner("one"), cluster.runner("two")
    cluster.serve(first, one, two)
    had = max(one.grants.values())
    cluster.pass_time(TAKEN_S + 0.5, first, two)
    second = cluster.coordinator()
    cluster.serve(second, one, two)
    cluster.pass_time(OLD_LEASES_END, second, one, two)
    assert had <= one.fenced
    assert one.grants and min(one.grants.values()) > one.fenced


def test_a_runner_knows_up_to_which_grant_it_has_heard_of_its_own() -> None:
    """The latest that the coordinator had given to anybody when it answered; it never goes back."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    one, two = cluster.runner("one"), cluster.runner("two")
    assert one.known == Epoch(0, 0)
    cluster.serve(coordinator, one, two)
    assert one.known == two.known == max(*one.grants.values(), *two.grants.values())
    assert len(one.grants) + len(two.grants) == len(SHARDS)
    late = coordinator.renew(one.renewal(), cluster.now)._replace(granted=Epoch(1, 1))
    one.apply(late, cluster.now, cluster.now)
    assert one.known > Epoch(1, 1)


def on_a_lost_node() -> tuple[SmallCluster, Coordinator, Tenure, Tenure]:
    """Two runners that serve; the node of the first is given up."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    one, two = cluster.runner("one"), cluster.runner("two")
    cluster.serve(coordinator, one, two)
    coordinator.lose_nodes(["another node", "node-of-one"])
    return cluster, coordinator, one, two


def test_a_runner_on_a_lost_node_is_lent_no_more_and_keeps_what_it_has_until_its_lease_ends() -> None:
    """The loss of a node proves nothing about its processes: nobody else gets its shards before that."""
    cluster, coordinator, one, two = on_a_lost_node()
    lost_at, had = cluster.now, len(two.grants)
    with pytest.raises(RunnerEnded):
        coordinator.renew(one.renewal(), cluster.now)
    assert [view.healthy for view in coordinator.runners()] == [False, True]
    cluster.pass_time(TAKEN_S - 0.25, coordinator, two)
    assert not one.valid(cluster.now)
    assert len(two.grants) == had < len(SHARDS)
    cluster.now = lost_at + TAKEN_S
    cluster.serve(coordinator, two)
    assert two.grants.keys() == set(SHARDS)


def test_the_end_of_the_last_lease_of_a_lost_node_is_looked_for_at_that_very_moment() -> None:
    """As for one that falls silent; afterwards nobody has to look for it again."""
    cluster, coordinator, _, two = on_a_lost_node()
    ends_at = cluster.now + TAKEN_S
    cluster.pass_time(1.0, coordinator, two)
    assert coordinator.next_deadline() == ends_at
    cluster.pass_time(TAKEN_S, coordinator, two)
    following = coordinator.next_deadline()
    assert following is not None and following > cluster.now


def test_the_loss_of_a_node_is_heard_without_leadership_too() -> None:
    """It is a fact: once this coordinator leads again, it lends nothing there."""
    cluster = SmallCluster()
    coordinator = cluster.coordinator()
    one, two = cluster.runner("one"), cluster.runner("two")
    cluster.serve(coordinator, one, two)
    cluster.now += 2 * LEADERSHIP_S
    coordinator.lose_nodes(["node-of-one"])
    cluster.leaderships[coordinator].confirm(cluster.now)
    with pytest.raises(RunnerEnded):
        coordinator.renew(one.renewal(), cluster.now)
    coordinator.renew(two.renewal(), cluster.now)


def test_the_coordinator_at_work_hears_of_lost_nodes() -> None:
    """What staffing sees is told to the coordinator that answers runners."""

    async def main() -> None:
        loop, config = asyncio.get_running_loop(), ClusterConfig()
        service = CoordinatorService("lost", "one", MemoryKeyValue(), config, loop, lambda: 0.0, Recorder())
        runner = SmallCluster().runner("one")
        runner.apply(await service.renew(runner.renewal()), 0.0, 0.0)
        service.lose_nodes(["node-of-one"])
        with pytest.raises(RunnerEnded):
            await service.renew(runner.renewal())
        service.close()

    asyncio.run(main())
