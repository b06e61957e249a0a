"""Entities: plain Python objects with declared messages, and the host that keeps them alive.

Knows neither Ray nor OpenTelemetry. What a user writes is in `declaration` and `entity`; `catalog` has examples.
"""

from entities.address import EntityAddress
from entities.declaration import entity, message
from entities.entity_class import Entity
from entities.errors import (
    ActivationFailed,
    AlreadyProcessingMessage,
    CallCycle,
    Cancelled,
    ClusterError,
    EntityNotAssignedToRunner,
    HandlerError,
    MailboxFull,
    MalformedMessage,
    PersistenceError,
    RunnerNotRegistered,
    RunnerUnavailable,
    Timeout,
    Unknown,
)
from entities.response import EntityResponse

__all__ = [
    "ActivationFailed",
    "AlreadyProcessingMessage",
    "CallCycle",
    "Cancelled",
    "ClusterError",
    "Entity",
    "EntityAddress",
    "EntityNotAssignedToRunner",
    "EntityResponse",
    "HandlerError",
    "MailboxFull",
    "MalformedMessage",
    "PersistenceError",
    "RunnerNotRegistered",
    "RunnerUnavailable",
    "Timeout",
    "Unknown",
    "entity",
    "message",
]
