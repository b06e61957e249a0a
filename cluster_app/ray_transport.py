"""The Ray lane: exchanges as calls of a runner actor's methods, and the coordinator as clients see it."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from cluster_app import own_modules
from cluster_app.code import Conditions, TypeConflict, check_runtime_env, ship
from cluster_app.exchange import Answer, Connection, Parcel, Request, RunnerGone, Told
from cluster_app.ray_calls import COORDINATOR, as_exchange_error, call, find_actor, wait_for
from cluster_app.routes import Routes, read_routes
from entities.declaration import EntityDefinition

__all__ = ["RayDirectory", "RayTransport", "read_request", "write_answer"]

_REGISTER_S = 20  # the first registration may have to wait for the first runner


def _write_request(request: Request) -> tuple[Any, ...]:
    parcel = request.parcel
    if parcel is None or not parcel.attachments:
        return (pickle.dumps(tuple(request), protocol=5),)
    bare = request._replace(parcel=parcel._replace(attachments=()))
    # Inside a list they stay references, and Ray knows that the runner holds them.
    return pickle.dumps(tuple(bare), protocol=5), list(parcel.attachments)


def read_request(data: bytes, attachments: list[Any] | None) -> Request:
    """A request as it came out of a call's arguments."""
    request = Request(*pickle.loads(data))
    if attachments and request.parcel is not None:
        request = request._replace(parcel=request.parcel._replace(attachments=tuple(attachments)))
    return request


def write_answer(answer: Answer) -> Any:
    """An answer as a call's return value."""
    if not any(parcel.attachments for parcel in answer.parcels):
        return pickle.dumps(tuple(answer), protocol=5)
    bare = answer._replace(parcels=tuple(parcel._replace(attachments=()) for parcel in answer.parcels))
    return pickle.dumps(tuple(bare), protocol=5), [list(parcel.attachments) for parcel in answer.parcels]


def _read_answer(value: Any) -> Answer:
    if isinstance(value, bytes):
        return Answer(*pickle.loads(value))
    data, attachments = value
    answer = Answer(*pickle.loads(data))
    return answer._replace(
        parcels=tuple(
            Parcel(parcel.number, parcel.data, tuple(mine))
            for parcel, mine in zip(answer.parcels, attachments, strict=True)
        )
    )


class _RunnerConnection:
    """Requests wait until the actor is found: that blocks, and the caller may be the thread that must not."""

    def __init__(self, find: Callable[[], Any], worker: ThreadPoolExecutor) -> None:
        self._find = find
        self._exchange: Any = None
        self._waiting: list[tuple[Request, Told]] | None = []
        self._finding = threading.Lock()
        worker.submit(self._found)

    def _found(self) -> None:
        handle = self._find()
        with self._finding:
            self._exchange = handle.exchange if handle is not None else None
            waiting, self._waiting = self._waiting or [], None
        for request, told in waiting:
            self._call(request, told)

    def exchange(self, request: Request, told: Told) -> None:
        if self._waiting is not None:
            with self._finding:
                if self._waiting is not None:
                    self._waiting.append((request, told))
                    return
        self._call(request, told)

    def _call(self, request: Request, told: Told) -> None:
        if self._exchange is None:
            threading.Thread(target=told, args=(RunnerGone("no such actor"),), daemon=True).start()
            return

        def heard(value: Any) -> None:
            if isinstance(value, BaseException):
                told(as_exchange_error(value))
                return
            try:
                answer: Answer | BaseException = _read_answer(value)
            except Exception as raised:
                answer = RunnerGone(f"its answer cannot be read: {raised}")
            told(answer)

        call(self._exchange, *_write_request(request), told=heard)


class RayTransport:
    """Finds runners by their id, which is their actor's name."""

    eager = False

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="cluster-app-transport")

    def connect(self, runner_id: str) -> Connection:
        """The way to that runner."""
        return _RunnerConnection(lambda: find_actor(runner_id, self._namespace), self._worker)

    def close(self) -> None:
        """Look for no more runners."""
        self._worker.shutdown(wait=False, cancel_futures=True)


class RayDirectory:
    """The coordinator, found anew whenever it does not answer.

    :param host: given by a runner for its own: has it host a type that is registered, and blocks until it does.
    """

    def __init__(self, namespace: str, *, host: Callable[[str], None] | None = None) -> None:
        self._namespace = namespace
        self._host = host
        if host is None:
            own_modules.begin()
        self._known: Any = None
        # Calls that block go here: finding an actor, pickling and registering code.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="cluster-app-directory")

    def _coordinator(self) -> Any:
        if self._known is None:
            self._known = find_actor(COORDINATOR, self._namespace)
        if self._known is None:
            raise ConnectionError(f"no coordinator in namespace {self._namespace!r}")
        return self._known

    def routes(self, known_version: int, told: Callable[[Routes | BaseException | None], None]) -> None:
        """Where the shards are; the coordinator holds the question while it has nothing new."""

        def heard(value: Any) -> None:
            if isinstance(value, BaseException):
                self._known = None
                told(value)
            else:
                told(None if value is None else read_routes(value))

        def ask() -> None:
            try:
                call(self._coordinator().routes, known_version, told=heard)
            except BaseException as raised:
                heard(raised)

        self._submit(ask)

    def register(
        self, definition: EntityDefinition, replace: bool, told: Callable[[BaseException | None], None]
    ) -> None:
        """Ship a type's code: by reference if the runners have it, else by value."""

        def ask() -> None:
            try:
                told(self._register(definition, replace))
            except BaseException as raised:
                told(raised)

        self._submit(ask)

    def _register(self, definition: EntityDefinition, replace: bool) -> BaseException | None:
        try:
            coordinator = self._coordinator()
            asked = own_modules.to_ask(definition.cls)
            conditions = Conditions(
                *wait_for(coordinator.conditions.remote(definition.name, asked), _REGISTER_S)
            )
            if self._host is not None and conditions.digest:
                # Code that runs here was shipped here: whatever has the name now is what it means.
                self._host(definition.name)
                return None
            if conditions.digest != definition.digest:
                job: Any = ray.get_runtime_context().runtime_env
                check_runtime_env(definition, dict(job), conditions.runtime_env)
            shipped = ship(definition, asked, conditions.lacking)
            why = wait_for(coordinator.register.remote(shipped, replace), _REGISTER_S)
            if why is not None:
                return ImportError(why)
            if self._host is not None:
                self._host(definition.name)  # messages to the entities of this very runner take no lane
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, TypeConflict):
                return TypeConflict(*cause.args)
            self._known = None
            return ConnectionError(str(error))
        except (RayError, TimeoutError) as error:
            self._known = None
            return ConnectionError(str(error))
        return None

    def keep(self, name: str, told: Callable[[BaseException | None], None]) -> None:
        """Have the cluster keep exactly one entity of a registered type."""

        def ask() -> None:
            try:
                wait_for(self._coordinator().keep.remote(name), 10)
            except RayTaskError as error:
                self._known = None
                told(error.cause if isinstance(error.cause, LookupError) else ConnectionError(str(error)))
            except (RayError, TimeoutError) as error:
                self._known = None
                told(ConnectionError(str(error)))
            except BaseException as raised:
                told(raised)
            else:
                told(None)

        self._submit(ask)

    def _submit(self, work: Callable[[], None]) -> None:
        try:
            self._worker.submit(work)
        except RuntimeError:
            return  # closed: nobody waits for this any more

    def close(self) -> None:
        """Stop asking."""
        self._worker.shutdown(wait=False, cancel_futures=True)
