"""How a command reaches its cluster: options, connecting, and what goes to standard output meanwhile.

It decides which commands may start a service and which only look at one that runs, and what is told when there is
none.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Annotated

import typer
from pydantic import ValidationError

import cluster_app
from cluster_app.cluster import Cluster
from cluster_app.replay.refusal import Refusal
from cluster_app.silent_service import SilentService

__all__ = ["Address", "Json", "Namespace", "joined", "one_line", "quiet_stdout", "started"]

CONNECT_S = 5.0

Address = Annotated[
    str | None,
    typer.Option(help="Ray to join, as for ray.init. Without: RAY_ADDRESS, or one that runs here."),
]
Namespace = Annotated[str, typer.Option(help="The cluster's name on that Ray.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


@contextmanager
def started(address: str | None, namespace: str) -> Iterator[Cluster]:
    """A connection for a block; Ray and the service are started if they are not there."""
    _quiet_ray()
    # Seconds pass when a Ray has to be started.
    print(f"connecting to cluster {namespace}", file=sys.stderr, flush=True)
    with _told_as_refusal(address, namespace):
        connection = cluster_app.connect(address, namespace=namespace)
    with connection as cluster:
        yield cluster


@contextmanager
def joined(address: str | None, namespace: str) -> Iterator[Cluster]:
    """A connection to a service that runs. Raises Refusal when there is none, and starts nothing."""
    _quiet_ray()
    with _told_as_refusal(address, namespace):
        connection = _join(address, namespace=namespace)
    if connection is None:
        raise Refusal(
            f"no cluster runs in namespace {namespace} of this Ray",
            hint="cluster_app.connect() starts one; --namespace and --address name another",
        )
    with connection as cluster:
        yield cluster


def _quiet_ray() -> None:
    # That it connects is told by whatever comes next; its warnings stay. Its own setting is per process and per call.
    logging.getLogger("ray._private.worker").setLevel(logging.WARNING)


def _join(address: str | None, *, namespace: str) -> Cluster | None:
    from cluster_app.ray_connect import join

    return join(address, namespace=namespace)


@contextmanager
def _told_as_refusal(address: str | None, namespace: str) -> Iterator[None]:
    variable = os.environ.get("RAY_ADDRESS", "")
    try:
        _knock(address or variable)
        yield
    except SilentService as silent:
        raise Refusal(
            f"the cluster in namespace {namespace} is there and does not answer: {one_line(silent)}",
            hint="ray list actors shows whether its coordinator lives",
        ) from silent
    except OSError as error:  # a ConnectionError is one
        if address not in (None, "auto"):
            where = f"at {address}"
        else:
            where = f"at {variable}, which RAY_ADDRESS names" if variable not in ("", "auto") else "here"
        raise Refusal(
            f"no Ray can be reached {where}: {one_line(error)}",
            hint="give --address, or start one: ray start --head",
        ) from error
    except ValidationError as invalid:
        raise Refusal(
            "; ".join(
                _wrong_variable(wrong["loc"], wrong["input"], wrong["msg"]) for wrong in invalid.errors()
            ),
            hint="README has all variables and what they may be, under Configuration",
        ) from invalid


def _wrong_variable(field: tuple[int | str, ...], given: object, why: str) -> str:
    """What is wrong with a figure that a variable sets; of no single one where it is wrong beside another."""
    return f"CLUSTER_APP_{str(field[0]).upper()}={given}: {why}" if field else why


def _knock(address: str) -> None:
    """Raise OSError if nobody listens there: Ray itself tries for more than a minute, and logs each attempt."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()


@contextmanager
def quiet_stdout(wanted: bool) -> Iterator[None]:
    """Send what libraries print on standard output to standard error: a program reads ours."""
    if not wanted:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def one_line(error: BaseException) -> str:
    """The first line of an error's text that says something, or its name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
