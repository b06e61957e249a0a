"""The error tree: what each class says, carries and promises, here and after a journey."""

from __future__ import annotations

import pickle

import pytest

import entities.errors as errors
from entities.address import EntityAddress
from entities.errors import ClusterError, HandlerError, MailboxFull, RunnerUnavailable, Timeout, describe
from observe.failure import REASONS, classify

KINDS: list[type[ClusterError]] = [
    kind
    for name in errors.__all__
    if isinstance(kind := getattr(errors, name), type) and kind is not ClusterError
]
NEVER_RAN = {
    "MailboxFull",
    "RunnerNotRegistered",
    "EntityNotAssignedToRunner",
    "MalformedMessage",
    "CallCycle",
    "ActivationFailed",
}


def test_the_reasons_are_the_labels() -> None:
    """One class per label, each counted under its own name."""
    assert {kind.reason for kind in KINDS} == set(REASONS)
    assert all(classify(kind("x")) == kind.__name__ for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_pickle_with_data_and_cause(kind: type[ClusterError]) -> None:
    """Plain pickle drops the cause; these do not."""
    error = kind(
        "why",
        address=EntityAddress("T", "x"),
        method="m",
        shard="default:3",
        runner="r1",
        may_have_run=True,
        retryable=True,
    )
    error.__cause__ = ValueError("the cause")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert back.__dict__ == error.__dict__
    assert str(back) == str(error)
    assert isinstance(back.__cause__, ValueError) and back.__cause__.args == ("the cause",)


@pytest.mark.parametrize("kind", KINDS)
def test_whether_it_may_have_run_follows_the_contract(kind: type[ClusterError]) -> None:
    """False is a promise; what is not in the table as "no" may have run unless it says otherwise."""
    assert kind().may_have_run is (kind.__name__ not in NEVER_RAN)
    assert kind(may_have_run=False).may_have_run is False


def test_the_text_is_made_of_the_data() -> None:
    """Whom it was for, what happened, where, and whether it may have run when that is not usual."""
    error = MailboxFull("full", scope="lane", address=EntityAddress("T", "x"), method="m", runner="r")
    assert str(error) == "T/x.m: the queue is full: full (runner r)"
    assert (error.scope, error.retryable) == ("lane", True)
    assert str(MailboxFull(may_have_run=True)) == "the queue is full; it may have run"
    assert str(RunnerUnavailable(shard="default:1")) == "the runner is unavailable (shard default:1)"


def test_a_timeout_is_a_built_in_timeout_too() -> None:
    """Code that catches TimeoutError catches it, also after a journey."""
    assert isinstance(pickle.loads(pickle.dumps(Timeout("x"))), TimeoutError)


def test_a_users_subclass_keeps_the_label() -> None:
    """Labels stay a closed set."""

    class Mine(HandlerError):
        pass

    assert classify(Mine()) == "HandlerError"


def test_describing_an_error_never_raises() -> None:
    """Not even when its own text does."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert describe(ValueError("x")) == "ValueError: x"
    assert describe(Broken()).startswith("Broken, ")
