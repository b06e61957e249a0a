"""A real Prometheus over a live Ray: values are the cluster's own, and each shipped query finds what it asks for."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import accumulate
from typing import Any

import pytest
import ray

from cluster_app import Cluster, ClusterConfig, EntityResponse, entity
from observe.instruments import LATENCY_EDGES_S
from observe.metrics import MetricsSnapshot
from observe.metrics import cluster as instruments
from tests.slow.happenings import CONFIG, ERRORS, ApartClerk, Clerk, come_and_go, happen
from tests.slow.prometheus import Prometheus, Sample, service_discovery
from tests.slow.queries import comparisons_as_values, panel_queries, rule_files, rule_queries, selectors

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

SETTLED_S = 30.0
MAY_HAPPEN = {"ray_cluster_redeliveries_total"}
"""Series of a busy machine, by type and reason: a runner whose lease runs out for a moment refuses what it is sent."""
Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


@entity(max_idle_time=None)
class TimedClerk(Clerk):
    pass


@entity(max_idle_time=None)
class SteadyClerk(Clerk):
    pass


@entity(max_idle_time=None)
class ManyClerk(Clerk):
    pass


@pytest.fixture(scope="module")
def config() -> ClusterConfig:
    """Two runners on the one node there is, so that shards have where to go."""
    return CONFIG


@pytest.fixture(scope="module")
def prometheus(ray_instance: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Scrapes this session's Ray, and evaluates the project's rules for Ray's names."""
    folder = tmp_path_factory.mktemp("prometheus")
    with Prometheus(folder, service_discovery(), rule_files()) as server:
        yield server


@pytest.fixture(scope="module")
def eventful(prometheus: Prometheus, file_cluster: Cluster) -> Cluster:
    """A cluster on which all has happened that a metric counts; some of it after it had been scraped."""
    file_cluster.entity(Clerk, "desk-0").work.remote(1).result(timeout_s=30)
    come_and_go(file_cluster)
    # A rate needs two values, and a series that begins with its first count has only the second.
    prometheus.until(
        lambda: len(prometheus.query("ray_cluster_entity_deactivations_total")) == 4, within_s=SETTLED_S
    )
    happen(file_cluster)
    return file_cluster


def expected(metrics: MetricsSnapshot) -> Values:
    """Every series that a node's page must show for what the cluster has counted."""
    values: Values = {}
    for point in metrics:
        labels = frozenset(point.labels.items())
        name = f"ray_{point.name}"
        if point.histogram is None:
            values[name, labels] = point.value
            continue
        view = point.histogram
        edges = (*(str(edge) for edge in view.bounds), "+Inf")
        for edge, count in zip(edges, accumulate(view.bucket_counts), strict=True):
            values[f"{name}_bucket", labels | {("le", edge)}] = count
        values[f"{name}_sum", labels], values[f"{name}_count", labels] = view.sum, view.count
    return values


def shown(prometheus: Prometheus) -> Values:
    """Every series of ours that Prometheus has now, by our own labels; none that a rule made of them."""
    ours = {label for instrument in instruments for label in instrument.labels} | {"le"}
    values: Values = {}
    for labels, value in prometheus.query('{__name__=~"ray_cluster_[a-z_]+"}'):
        # An empty label is one that another series of the name has: for Prometheus it is none.
        key = (labels["__name__"], frozenset(item for item in labels.items() if item[0] in ours))
        assert key not in values, f"twice: {labels}"
        values[key] = value
    return values


def equal(name: str, shown: float, counted: float) -> bool:
    """To the unit; a sum of floats to its last bit, which is that of the order in which it was added up."""
    return math.isclose(shown, counted, rel_tol=1e-12) if name.endswith("_sum") else shown == counted


def agree(prometheus: Prometheus, cluster: Cluster) -> MetricsSnapshot:
    """Wait until Prometheus shows the cluster's own figures, all of them and nothing else."""
    found: list[MetricsSnapshot] = []

    def same() -> bool:
        metrics = cluster.metrics()
        found.append(metrics)
        try:
            values, own = shown(prometheus), expected(metrics)
        except AssertionError:
            return False  # an agent that has ended is shown beside its successor for a while
        return values.keys() == own.keys() and all(equal(key[0], values[key], own[key]) for key in own)

    prometheus.until(same, within_s=SETTLED_S)
    return found[-1]


def test_every_value_is_the_clusters_own(prometheus: Prometheus, eventful: Cluster) -> None:
    """Counters, gauges, buckets and sums of all that has happened: each metric is there, and exact."""
    metrics = agree(prometheus, eventful)
    assert metrics.names() == sorted(instrument.name for instrument in instruments)
    errors = {sample.labels["type"] for sample in prometheus.query("ray_cluster_errors_total > 0")}
    assert errors == {kind.reason for kind in ERRORS}
    reasons = {
        sample.labels["reason"] for sample in prometheus.query("ray_cluster_entity_deactivations_total > 0")
    }
    assert {"idle", "explicit", "failed", "handoff"} <= reasons
    assert prometheus.value("sum(ray_cluster_redeliveries_total)")
    assert prometheus.value("sum(ray_cluster_slow_handlers_total)")


def test_quantiles_are_the_drivers_own_to_a_bucket(prometheus: Prometheus, eventful: Cluster) -> None:
    """What `histogram_quantile` makes of the buckets lies in the bucket of what the sender measured itself."""
    clerk = eventful.entity(TimedClerk, "primed")
    clerk.rest.remote(0.0).result(timeout_s=30)
    count = 'ray_cluster_message_latency_seconds_count{entity_type="TimedClerk"}'
    prometheus.until(lambda: prometheus.value(count) == 1, within_s=SETTLED_S)

    seconds = [0.02] * 40 + [0.2] * 15 + [0.7] * 5
    took: list[float] = []
    replies: list[EntityResponse[None]] = []
    for number, rest in enumerate(seconds):
        clerk, sent_at = eventful.entity(TimedClerk, f"desk-{number}"), time.perf_counter()
        replies.append(clerk.rest.remote(rest))
        replies[-1].add_done_callback(partial(note, took, sent_at))
    for reply in replies:
        reply.result(timeout_s=30)
    prometheus.until(lambda: prometheus.value(count) == 1 + len(seconds), within_s=SETTLED_S)

    took.sort()
    for quantile in (0.5, 0.8, 0.98):
        told = prometheus.value(
            f"histogram_quantile({quantile}, sum by (le) "
            f'(rate(ray_cluster_message_latency_seconds_bucket{{entity_type="TimedClerk"}}[2m])))'
        )
        measured = took[math.ceil(quantile * len(took)) - 1]
        assert told is not None and bucket(told) == bucket(measured), (quantile, told, measured)


def note(took: list[float], sent_at: float, _: object) -> None:
    """A reply is there."""
    took.append(time.perf_counter() - sent_at)


def bucket(seconds: float) -> int:
    """The latency bucket of a value, whose upper edge is inclusive."""
    return sum(edge < seconds for edge in LATENCY_EDGES_S)


def test_series_do_not_grow_with_entities(prometheus: Prometheus, eventful: Cluster) -> None:
    """5,000 entities on runners and 40 with processes of their own come and go: no series more than for one of each."""
    visit(eventful, ManyClerk, 1)
    visit(eventful, ApartClerk, 1)
    before = set(shown_when_settled(prometheus, eventful))
    visit(eventful, ManyClerk, 5000)
    for first in range(0, 40, 5):
        visit(eventful, ApartClerk, 5, first)
    after = shown_when_settled(prometheus, eventful)
    assert set(after) - before <= {key for key in after if key[0] in MAY_HAPPEN}
    came = "ray_cluster_entity_activations_total"
    assert after[came, frozenset({("entity_type", "ManyClerk")})] == 5001
    assert after[came, frozenset({("entity_type", "ApartClerk")})] >= 41


def visit(cluster: Cluster, kind: type[Clerk], number: int, first: int = 0) -> None:
    """So many entities live, answer and are let go."""
    clerks = [cluster.entity(kind, f"one-{n}") for n in range(first, first + number)]
    for reply in [clerk.go.remote() for clerk in clerks]:
        reply.result(timeout_s=60)


def shown_when_settled(prometheus: Prometheus, cluster: Cluster) -> Values:
    """What Prometheus shows once it is what the cluster has counted, with nobody alive of those who come and go."""

    def gone() -> bool:
        alive = cluster.metrics()
        return not any(
            alive.value("cluster_entities", entity_type=name) for name in ("ManyClerk", "ApartClerk")
        )

    prometheus.until(gone, within_s=SETTLED_S)
    return expected(agree(prometheus, cluster))


def test_after_an_agents_kill_the_values_are_right_again(
    prometheus: Prometheus, eventful: Cluster, namespace: str
) -> None:
    """Killed under load: its series go, its successor's are the whole totals, and no rate counts anything twice."""
    clerk = eventful.entity(SteadyClerk, "desk")
    clerk.work.remote(0).result(timeout_s=30)
    sent = 'ray_cluster_messages_sent_total{entity_type="SteadyClerk"}'
    prometheus.until(lambda: prometheus.value(sent) == 1, within_s=SETTLED_S)
    agents = workers(prometheus.query(sent))
    stop = threading.Event()
    total = [1]

    def load() -> None:
        while not stop.is_set():
            clerk.work.remote(total[0]).result(timeout_s=30)
            total[0] += 1

    loading = threading.Thread(target=load)
    loading.start()
    try:
        prometheus.until(lambda: (prometheus.value(f"sum({sent})") or 0) > 100, within_s=SETTLED_S)
        os.kill(agent_pid(eventful, namespace), signal.SIGKILL)
        prometheus.until(
            lambda: bool(workers(prometheus.query(sent))) and not agents & workers(prometheus.query(sent)),
            within_s=SETTLED_S,
        )
        at_takeover = prometheus.value(f"sum({sent})") or 0
        prometheus.until(lambda: (prometheus.value(f"sum({sent})") or 0) > at_takeover, within_s=SETTLED_S)
    finally:
        stop.set()
        loading.join()
    metrics = agree(prometheus, eventful)
    assert metrics.value("cluster_messages_sent_total", entity_type="SteadyClerk") == total[0]
    assert prometheus.value(f"sum({sent})") == total[0]
    assert prometheus.value("sum(ray_cluster_runners)") == 2
    series = prometheus.scraped(f"{sent}[5m]")
    assert len(series) == 2
    assert all(
        values == sorted(values) for values in series
    )  # no reset, which a rate would take for a restart
    assert at_takeover > 100
    assert sum(values[-1] - values[0] for values in series) <= total[0] - 1


def workers(samples: list[Sample]) -> set[str]:
    """The processes that samples come from."""
    return {sample.labels["WorkerId"] for sample in samples}


def agent_pid(cluster: Cluster, namespace: str) -> int:
    """The process of the node's agent."""
    agent: Any = ray.get_actor(f"agent-{cluster.status().runners[0].node_id}", namespace=namespace)
    pid: int = ray.get(agent.pid.remote(), timeout=20)
    return pid


def test_every_panel_has_data(prometheus: Prometheus, eventful: Cluster) -> None:
    """Each query of the dashboards finds values where all has happened, so none needs the zero it falls back to."""
    queries = panel_queries()
    assert queries
    agree(prometheus, eventful)
    empty = [
        query
        for query in queries
        if not any(math.isfinite(sample.value) for sample in prometheus.query(query.without_zero))
    ]
    assert empty == []


def test_every_rule_finds_what_it_asks_about(prometheus: Prometheus, eventful: Cluster) -> None:
    """Each alert and recording rule is evaluated without an error, and every series that it looks at is there."""
    queries = rule_queries()
    assert queries
    agree(prometheus, eventful)
    prometheus.until(
        lambda: all(rule["health"] != "unknown" for rule in prometheus.rules()), within_s=SETTLED_S
    )
    rules = prometheus.rules()
    assert [rule["lastError"] for rule in rules if rule["health"] != "ok"] == []
    assert Counter(rule["name"] for rule in rules).total() == len(queries)
    blind = [
        (query.where, selector)
        for query in queries
        for selector in selectors(query.text)
        if not prometheus.query(selector)
    ]
    assert blind == []
    for query in queries:
        assert all(
            not math.isnan(sample.value) for sample in prometheus.query(comparisons_as_values(query.text))
        ), query


def test_an_empty_panel_and_a_blind_rule_are_found(prometheus: Prometheus, eventful: Cluster) -> None:
    """The two tests above can fail: a metric that is not there gives nothing, and a wrong query is refused."""
    assert prometheus.query("ray_cluster_made_up_total") == []
    assert prometheus.query("sum(rate(ray_cluster_made_up_total[5m])) or vector(0)")[0].value == 0
    assert selectors('sum(rate(ray_cluster_made_up_total{type="x"}[5m])) > 1') == [
        'ray_cluster_made_up_total{type="x"}'
    ]
    with pytest.raises(ValueError, match="parse error"):
        prometheus.query("sum(")
