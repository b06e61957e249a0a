"""What comparisons of latency share: sides that say the quantiles of a round, in microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster_app.bench.column import Column
from cluster_app.bench.rounds import Rounds, Side

__all__ = ["latencies", "latency_side"]


def latency_side(name: str, module: str, **asked: int) -> Side:
    """A side that says its p50 and p99."""
    return Side(name, f"cluster_app.bench.{module}", asked, _says)


def _says(line: Mapping[str, Any]) -> str:
    return f"p50 {line['p50_us']:,.0f} µs, p99 {line['p99_us']:,.0f} µs"


def latencies(rounds: Rounds) -> dict[str, Column]:
    """Two columns per side, ``NAME p50`` and ``NAME p99``."""
    return {
        f"{name} {quantile}": Column("µs", [float(line[f"{quantile}_us"]) for line in lines])
        for name, lines in rounds.items()
        for quantile in ("p50", "p99")
    }
