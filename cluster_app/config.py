"""The figures a cluster is run with.

Decides defaults and what is a sound value. Every field can be set as ``CLUSTER_APP_<FIELD>`` in the environment.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cluster_app.node_rule import NodeRule
from cluster_app.shard import check_group

__all__ = ["ClusterConfig"]


class ClusterConfig(BaseSettings):
    """One frozen, validated object. Raises ValueError (pydantic's ValidationError) for a value without a meaning.

    The first `connect` decides for the whole cluster; what a later one says otherwise counts for that sender only
    where a field is a sender's own (`message_timeout_s`, `max_in_flight`, `batch_messages`, `batch_bytes`).
    """

    model_config = SettingsConfigDict(
        env_prefix="CLUSTER_APP_", env_parse_none_str="none", frozen=True, extra="forbid", allow_inf_nan=False
    )

    runners_per_node: int = Field(
        default=1, ge=1, description="Runners on each node; one event loop uses one core."
    )
    runner_nodes: dict[str, str | float] = Field(
        default_factory=dict,
        description="The nodes that get runners, by label (text) or resource (amount); empty: every node.",
    )
    groups: dict[str, dict[str, str | float]] = Field(
        default_factory=dict,
        description="Shard groups that only nodes with these labels or resources serve; others may be anywhere.",
    )
    shards_per_group: int = Field(
        default=300,
        ge=1,
        description="Shards of a group: the unit that moves, so some tens per runner spread the load evenly.",
    )
    lease_s: float = Field(
        default=3.0,
        gt=0,
        description="Seconds a runner may serve without hearing from the coordinator; bounds failover.",
    )
    guard_s: float = Field(
        default=0.1, ge=0, description="Seconds a runner takes off its lease, for clock drift and scheduling."
    )
    drift_s: float = Field(
        default=0.1, ge=0, description="Seconds the coordinator waits beyond a lease, for clock drift."
    )
    message_timeout_s: float = Field(
        default=30.0, gt=0, description="Default deadline of a message, in seconds."
    )
    lane: Literal["auto", "ray"] = Field(
        default="auto",
        description="How messages travel. Only Ray calls so far; auto takes the best there is.",
    )
    max_in_flight: int = Field(
        default=1_000_000, ge=1, description="Unanswered messages per lane; one more is MailboxFull."
    )
    batch_messages: int = Field(
        default=2048, ge=1, description="Messages per frame at most; a frame holds a runner for ms."
    )
    batch_bytes: int = Field(
        default=1_000_000, ge=1, description="Bytes of arguments after which a frame is closed."
    )
    blocking_threads: int = Field(
        default=16,
        ge=1,
        description="Threads of a runner for @message(blocking=True); they mostly wait, so more than cores.",
    )
    lane_silence_s: float = Field(
        default=30.0, gt=0, description="Seconds after which a sender that says nothing is taken for gone."
    )
    leave_s: float = Field(
        default=25.0,
        gt=0,
        description="Seconds that a runner told to end by SIGTERM takes at most; Kubernetes kills after 30.",
    )
    idle_node_s: float | None = Field(
        default=60.0,
        gt=0,
        description="Seconds without an entity until a worker node is left to Ray's autoscaler; None (`none`): never.",
    )
    crowded_entities: int = Field(
        default=100_000,
        ge=1,
        description="Live entities per runner from which on a node that was left gets its runners back.",
    )
    crowded_busy: float = Field(
        default=0.7,
        gt=0,
        description="Share of a core per runner from which on it does; below 1, or it would come too late.",
    )
    report_s: float = Field(
        default=1.0, gt=0, description="Seconds between a process's reports of its counts."
    )
    metrics: bool = Field(default=True, description="Whether messages and entities are counted.")

    @model_validator(mode="after")
    def _guard_leaves_a_lease(self) -> Self:
        # Here and not only at the coordinator: that is detached, and would be there with a figure it cannot begin with.
        if self.guard_s >= self.lease_s:
            raise ValueError(f"guard_s ({self.guard_s}) must be less than lease_s ({self.lease_s})")
        return self

    @field_validator("runner_nodes", "groups", mode="before")
    @classmethod
    def _no_yes_or_no(cls, value: object) -> object:
        # pydantic would take True for the number 1, and a rule that asks for 1 of a resource is another one.
        rules = value.values() if isinstance(value, dict) else ()
        for asked in [value, *rules]:
            for name, amount in asked.items() if isinstance(asked, dict) else ():
                if isinstance(amount, bool):
                    raise ValueError(
                        f"{name!r} is asked to be text, of a label, or an amount, not {amount!r}"
                    )
        return value

    @field_validator("runner_nodes")
    @classmethod
    def _is_a_rule(cls, asked: dict[str, str | float]) -> dict[str, str | float]:
        NodeRule(asked)
        return asked

    @field_validator("groups")
    @classmethod
    def _are_rules(cls, groups: dict[str, dict[str, str | float]]) -> dict[str, dict[str, str | float]]:
        for group, asked in groups.items():
            try:
                NodeRule(asked)
            except ValueError as wrong:
                raise ValueError(f"group {group!r}: {wrong}") from None
            if not asked:
                raise ValueError(f"group {check_group(group)!r} asks nothing of its nodes: leave it out")
            check_group(group)
        return groups
