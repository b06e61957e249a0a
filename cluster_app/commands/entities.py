"""``cluster-app entities`` and ``cluster-app deactivate``: the living of a type, and the end of one of them.

It decides what is printed of them. Types are told by name: their code need not be at hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from cluster_app.commands.connection import Address, Json, Namespace, joined, quiet_stdout
from cluster_app.replay.refusal import Refusal
from cluster_app.unknown_type import UnknownType
from entities.address import EntityAddress, check_entity_id

__all__ = ["deactivate", "entities"]

TypeName = Annotated[str, typer.Argument(metavar="TYPE", help="Name of a registered entity type.")]


def entities(
    entity_type: TypeName,
    limit: Annotated[int | None, typer.Option(min=0, help="Tell this many ids at most.")] = None,
    address: Address = None,
    namespace: Namespace = "cluster_app",
    as_json: Json = False,
) -> None:
    """List the ids of the living entities of a type, one a line, sorted as far as they are told."""
    with quiet_stdout(as_json), joined(address, namespace) as cluster, _named_types():
        ids = sorted(cluster.live(entity_type, limit=limit))
    if as_json:
        print(json.dumps({"type": entity_type, "ids": ids}))
    else:
        for entity_id in ids:
            print(entity_id)


def deactivate(
    entity_type: TypeName,
    entity_id: Annotated[str, typer.Argument(metavar="ID", help="The entity's id.")],
    address: Address = None,
    namespace: Namespace = "cluster_app",
    as_json: Json = False,
) -> None:
    """Let one entity go, with what it holds in memory. One that does not live is not started for it."""
    try:
        target = EntityAddress(entity_type, check_entity_id(entity_id))
    except ValueError as wrong:
        raise Refusal(str(wrong), hint="cluster-app entities TYPE lists ids", exit_code=2) from wrong
    with quiet_stdout(as_json), joined(address, namespace) as cluster, _named_types():
        lived = cluster.deactivate(target)
    if as_json:
        print(json.dumps({"type": entity_type, "id": entity_id, "deactivated": lived}))
    else:
        print(f"{target} is let go" if lived else f"{target} did not live")


@contextmanager
def _named_types() -> Iterator[None]:
    try:
        yield
    except UnknownType as unknown:
        raise Refusal(
            f"no entity type {unknown.name} is registered",
            hint=f"registered: {', '.join(unknown.known) or 'none'}",
        ) from unknown
