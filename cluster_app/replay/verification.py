"""Whether the cluster's totals are the file's: before, after, and the plain computation between them.

It decides what agrees. Entities outlive the driver that fed them, so a cluster may hold totals of an earlier
replay: what must equal the file is the growth during this one. That holds as long as nobody else feeds the
same entities meanwhile, and no totals are lost with a process that dies; either shows as a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cluster_app.replay.flight_totals import FlightTotals

__all__ = ["Address", "differences"]

Address = tuple[str, str]  # type name, id


def differences(
    expected: FlightTotals,
    before: Mapping[Address, Mapping[str, Any]],
    after: Iterable[tuple[Address, Mapping[str, Any]]],
    fed: Iterable[Address],
) -> list[str]:
    """What disagrees, one line each, sorted; empty when all is well.

    `before` has the states of those that were there already, `after` those of all that are there now, and `fed` the
    addresses that a message was sent to.
    """
    found: list[str] = []
    wanted = expected.entities.union(fed)
    seen: set[Address] = set()
    for (kind, entity_id), state in after:
        if (kind, entity_id) not in wanted:
            continue
        seen.add((kind, entity_id))
        earlier = before.get((kind, entity_id), {})
        for name, value in state.items():
            if isinstance(value, str):
                told: object = value
                # A plane that did not fly in this file keeps what an earlier one left.
                due: object = expected.latest.get((kind, entity_id, name), earlier.get(name, ""))
            else:
                told = value - earlier.get(name, 0)
                due = expected.sums[kind, entity_id, name]
            if told != due:
                found.append(f"{kind} {entity_id} {name}: the cluster has {told!r}, the file {due!r}")
    for kind, entity_id in wanted - seen:
        missing = (
            "the file has it, the cluster does not"
            if (kind, entity_id) in expected.entities
            else "fed, and not there any more"
        )
        found.append(f"{kind} {entity_id}: {missing}")
    return sorted(found)
