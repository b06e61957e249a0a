"""All benchmarks, in the order in which they are run and shown."""

from __future__ import annotations

from cluster_app.bench.benchmark import Benchmark
from cluster_app.bench.rows.closed_loop import CLOSED_LOOP
from cluster_app.bench.rows.entity_to_entity import ENTITY_TO_ENTITY
from cluster_app.bench.rows.hosted import HOSTED
from cluster_app.bench.rows.idle_entities import IDLE_ENTITIES
from cluster_app.bench.rows.instrument import INSTRUMENT
from cluster_app.bench.rows.new_entities import NEW_ENTITIES
from cluster_app.bench.rows.one_at_a_time import ONE_AT_A_TIME
from cluster_app.bench.rows.overhead import OVERHEAD
from cluster_app.bench.rows.pipelined import PIPELINED
from cluster_app.bench.rows.simulated import SIMULATED
from cluster_app.bench.rows.telemetry import TELEMETRY
from cluster_app.bench.rows.tracing import TRACING

__all__ = ["EVERY"]

EVERY: tuple[Benchmark, ...] = (
    PIPELINED,
    CLOSED_LOOP,
    ONE_AT_A_TIME,
    ENTITY_TO_ENTITY,
    OVERHEAD,
    TRACING,
    INSTRUMENT,
    NEW_ENTITIES,
    IDLE_ENTITIES,
    HOSTED,
    TELEMETRY,
    SIMULATED,
)
