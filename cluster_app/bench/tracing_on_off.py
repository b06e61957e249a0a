"""CPU per message with no traces at all, with sampling off, and with a part of the messages sampled; one JSON line.

It decides how these are paired: on one cluster, in turns, so that whatever else the machine does meets them all, and to
the same entities, for where these are in memory makes a difference of some percent. What is sampled is decided at the
sender, so there is one runner for all of them; what counts is the CPU time of both. All messages are sampled only at
the end: their spans take their time to be told, which must not count for what comes next.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any

from cluster_app.bench.counters import Counters, check_counted, counter_ids
from cluster_app.bench.cpu_clock import cpu_clock
from cluster_app.bench.pipeline import WrongValue
from cluster_app.bench.ray_instance import run_side
from cluster_app.bench.untraced_message import untraced
from entities.catalog import Counter
from observe import sampling

__all__ = ["KINDS", "measure"]

TURNS = 16  # of each, in a pair

_RATIO = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
KINDS: dict[str, dict[str, str]] = {
    "none_us": {},  # and without the look itself
    "off_us": {"OTEL_TRACES_SAMPLER": "parentbased_always_off"},
    "ratio_off_us": {**_RATIO, "OTEL_TRACES_SAMPLER_ARG": "0.0000000001"},
    "percent_us": {**_RATIO, "OTEL_TRACES_SAMPLER_ARG": "0.01"},
}
"""The variables of the sender, by the name of what is measured under them in turns."""
_ALL = {"OTEL_TRACES_SAMPLER": "parentbased_always_on"}


class _Counters(Counters):
    """Counters sent to by `.remote`, or by one that knows no traces."""

    def __init__(self, cluster: Any, ids: Iterable[str]) -> None:
        super().__init__(cluster, [])
        messages = [cluster.entity(Counter, entity_id).increment for entity_id in ids]
        self._ways: tuple[list[Callable[[int], Any]], ...] = (
            [untraced(message) for message in messages],
            [message.remote for message in messages],
        )
        self._sends = self._ways[1]

    def sampling(self, name: str) -> None:
        """Send in this way from now on."""
        sampling.begin(KINDS.get(name, _ALL), anew=True)
        self._sends = self._ways[name != "none_us"]


def measure(cluster: Any, pairs: int, messages: int, in_flight: int, entities: int) -> dict[str, Any]:
    """CPU microseconds per message for each of `KINDS`, a figure per pair; ``all_us``, one in all.

    Also ``share``: how many were sampled of those of which it was to be 1 %.

    :param messages: of each kind in each pair, and a tenth of that with all sampled.
    """
    counters = _Counters(cluster, counter_ids(range(entities)))
    sampling.begin({}, anew=True)
    counters.pace(entities, in_flight)
    clock = cpu_clock(cluster.status().runners[0].pid)
    measured: dict[str, Any] = {name: [] for name in KINDS}
    sampled = 0
    for _ in range(pairs):
        gc.collect()
        cpu_s = dict.fromkeys(KINDS, 0.0)
        for turn in range(TURNS):
            share = messages * (turn + 1) // TURNS - messages * turn // TURNS
            for name in _order(turn):
                counters.sampling(name)
                before = _sent(cluster)
                cpu_s[name] += counters.pace(share, in_flight, clock).cpu_s
                spans = _sent(cluster) - before
                sampled += spans
                if spans and name != "percent_us":
                    raise WrongValue(f"{spans} of {share} messages sampled: {name}")
        for name, seconds in cpu_s.items():
            measured[name].append(seconds / messages * 1e6)
    few = max(messages // 10, 1)
    counters.sampling("all_us")
    before = _sent(cluster)
    measured["all_us"] = [counters.pace(few, in_flight, clock).cpu_s / few * 1e6]
    if _sent(cluster) - before < few:
        raise WrongValue(f"{_sent(cluster) - before} of {few} messages sampled, not all")
    sampling.begin(anew=True)
    check_counted(cluster, pairs * messages * len(KINDS) + few + entities)
    measured["share"] = sampled / (pairs * messages)
    return measured


def _order(turn: int) -> list[str]:
    """Each kind comes first, and each behind each other one, as often as any."""
    names = list(KINDS)
    names = names[turn % len(names) :] + names[: turn % len(names)]
    return names if turn // len(names) % 2 == 0 else names[::-1]


def _sent(cluster: Any) -> int:
    """How many spans have ended here so far."""
    return int(cluster._client.traces.spans.added)


if __name__ == "__main__":
    run_side(measure, cluster=True)
