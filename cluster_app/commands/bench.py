"""``cluster-app bench``: measurements of this machine, each against its peers.

It decides their options and how their figures are shown, not how anything is measured.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console

from cluster_app.commands.connection import Json

__all__ = ["bench"]

bench = typer.Typer(help="Measure this machine against its peers.", no_args_is_help=True)


@bench.command("pipelined")
def pipelined(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each side.")] = 5,
    messages: Annotated[int, typer.Option(min=1, help="Messages to entities per round.")] = 400_000,
    calls: Annotated[int, typer.Option(min=1, help="Calls to the raw actor per round.")] = 20_000,
    entities: Annotated[int, typer.Option(min=1, help="Entities the messages go to.")] = 1_000,
    in_flight: Annotated[
        int, typer.Option(min=1, help="Messages or calls in flight, on either side.")
    ] = 1_000,
    as_json: Json = False,
) -> None:
    """Messages to entities against raw Ray calls to one actor: both pipelined, in processes of their own."""
    from cluster_app.bench.pipelined import compare

    report = compare(
        rounds=rounds,
        messages=messages,
        calls=calls,
        entities=entities,
        in_flight=in_flight,
        told=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        Console().print(report.table())
