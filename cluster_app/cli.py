"""The command line: ``cluster-app replay | status | top | entities | deactivate | drain | down | dashboards |
bench``.

It decides output streams and exit codes: 0 success, 1 failure, 2 a wrong command line, 130 Ctrl-C. Every error is
one line and a hint on standard error; ``CLUSTER_APP_TRACEBACK=1`` adds the traceback. What a program may read is on
standard output, and with ``--json`` nothing else is. What each command does is its own module's business.
"""

from __future__ import annotations

import os
import sys
import traceback

import typer

from cluster_app.commands.bench import bench
from cluster_app.commands.connection import one_line
from cluster_app.commands.dashboards import dashboards
from cluster_app.commands.drain import drain
from cluster_app.commands.entities import deactivate, entities
from cluster_app.commands.replay import replay
from cluster_app.commands.service import down, status
from cluster_app.commands.top import top
from cluster_app.replay.refusal import Refusal

__all__ = ["app", "main", "run"]

app = typer.Typer(
    name="cluster-app",
    help="Sharded entities on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (replay, status, top, entities, deactivate, drain, down, dashboards):
    app.command(command.__name__)(command)
app.add_typer(bench, name="bench")


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
            context = getattr(error, "ctx", None)  # of the command that was meant
            asked = "cluster-app" if context is None else context.command_path
            return _fail(format_message(), f"{asked} --help", getattr(error, "exit_code", 2))
        hint = getattr(error, "hint", "") or "CLUSTER_APP_TRACEBACK=1 shows where"
        return _fail(f"{type(error).__name__}: {one_line(error)}", hint, 1)
    return returned if isinstance(returned, int) else 0


def main() -> None:
    """The console script."""
    sys.exit(run())
