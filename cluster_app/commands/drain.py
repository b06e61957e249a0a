"""``cluster-app drain``: empty a node or one runner of a running cluster, or let a drained node serve again.

It decides what is told of a drain. How shards move is the cluster's business.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cluster_app.commands.connection import Address, Json, Namespace, joined, quiet_stdout
from cluster_app.drain import DrainRefused, DrainTimeout
from cluster_app.replay.refusal import Refusal

__all__ = ["drain"]


def drain(
    target: Annotated[str, typer.Argument(help="A node's or runner's id, or the beginning of just one.")],
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=0.001, help="Seconds to wait; the drain itself goes on.")
    ] = 60.0,
    undo: Annotated[bool, typer.Option("--undo", help="Let a drained node have runners again.")] = False,
    address: Address = None,
    namespace: Namespace = "cluster_app",
    as_json: Json = False,
) -> None:
    """Move all shards off a node or runner, with no message failing; its runners end, a runner alone is replaced."""
    with quiet_stdout(as_json), joined(address, namespace) as cluster:
        try:
            if undo:
                cluster.undrain(target)
                told, line = {"target": target, "undone": True}, f"{target} may have runners again"
            else:
                result = cluster.drain(target, timeout_s=timeout_s)
                told = result.as_dict()
                runners = ", ".join(result.runners) or "no runner was there"
                line = f"{result.target}: {result.shards} shards moved in {result.seconds:.2f} s ({runners})"
        except (ValueError, DrainRefused) as refused:
            raise Refusal(str(refused), hint="cluster-app status lists nodes and runners") from refused
        except DrainTimeout as late:
            raise Refusal(str(late), hint="a longer --timeout-s waits on; --undo gives a node back") from late
    print(json.dumps(told) if as_json else line)
