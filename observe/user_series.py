"""The user's own OpenTelemetry points, written as points of totals: they travel, add up and are kept as ours are.

Decides which of them are one series and how many there may be. Does not decide how they are read from the user's
instruments or how they leave.

A stream (an instrument of a scope) is written as JSON text and takes the place of a metric's name; a series' attributes
are JSON text too, for 1, 1.0 and true are three attributes and one key of a dict.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple, cast

from observe.exponential import ExponentialTotal
from observe.totals import PointKey, PointValue, Totals, merge

__all__ = [
    "MAX_SERIES",
    "MAX_STREAMS",
    "SeriesBound",
    "Stream",
    "attributes_of",
    "is_user",
    "key_of",
    "stream_of",
]

logger = logging.getLogger(__name__)

MAX_SERIES = 2000
"""Series of one stream on one node; the SDK bounds those of one process by the same number."""

MAX_STREAMS = 1000
"""Streams of one node: names made of ids are a leak as well."""

_OVERFLOW = ('{"otel.metric.overflow":true}',)

Kind = Literal["counter", "histogram", "exponential", "updown", "gauge"]


class Stream(NamedTuple):
    """One instrument of the user's.

    :ivar scope_attributes: as JSON text.
    :ivar bounds: a histogram's upper bucket edges, each inclusive; empty for the other kinds.
    """

    scope: str
    version: str
    schema_url: str
    scope_attributes: str
    name: str
    unit: str
    kind: Kind
    bounds: tuple[float, ...]
    description: str

    @property
    def adds_up(self) -> bool:
        """Whether what an ended process has counted stays in the sum."""
        return self.kind in ("counter", "histogram", "exponential")


def key_of(stream: Stream, attributes: Mapping[str, Any]) -> PointKey:
    """The key of a series. Raises TypeError for attributes that are not those of OpenTelemetry."""
    return _text(stream), (json.dumps(dict(attributes), sort_keys=True, separators=(",", ":")),)


@lru_cache(4096)
def _text(stream: Stream) -> str:
    return json.dumps(stream, separators=(",", ":"))


@lru_cache(4096)
def stream_of(name: str) -> Stream:
    """The stream that a point's name tells. Raises ValueError or TypeError for any other text."""
    parts = json.loads(name)
    if not isinstance(parts, list) or len(parts) != len(Stream._fields):
        raise ValueError(f"{name!r} is no stream of a user's instrument")
    return Stream(*parts)._replace(bounds=tuple(float(bound) for bound in parts[7]))


def attributes_of(key: PointKey) -> dict[str, Any]:
    """The attributes of a series."""
    return cast("dict[str, Any]", json.loads(key[1][0]))


def is_user(key: PointKey) -> bool:
    """Whether this is a user's series; a declared metric's name begins with a letter."""
    return key[0].startswith("[")


class SeriesBound:
    """Lets in so many series of one node, and no more; what is beyond adds up in one series of its stream.

    A stream's description is not what makes it another one: the first that was seen stands for all.

    :param known: series that are in the sum already.
    """

    def __init__(
        self, known: Iterable[PointKey] = (), *, max_series: int = MAX_SERIES, max_streams: int = MAX_STREAMS
    ) -> None:
        self._max_series = max_series
        self._max_streams = max_streams
        self._names: dict[Stream, str] = {}
        self._series: dict[str, set[tuple[str, ...]]] = {}
        self._told = False
        for key in known:
            if is_user(key):
                self._names.setdefault(stream_of(key[0])._replace(description=""), key[0])
                self._series.setdefault(key[0], set()).add(key[1])

    def admitted(self, points: Totals) -> Totals:
        """The same points under the keys by which they are counted. Raises ValueError for what is no user's point."""
        counted: dict[PointKey, PointValue] = {}
        for key, value in points.items():
            _check(key, value)
            own = self._admit(key)
            if own is None:
                continue
            before = counted.get(own)
            counted[own] = value if before is None else _sum(own, before, value)
        return Totals(counted)

    def _admit(self, key: PointKey) -> PointKey | None:
        identity = stream_of(key[0])._replace(description="")
        name = self._names.get(identity)
        if name is None:
            if len(self._names) >= self._max_streams:
                self._tell(
                    "there are %d instruments already; %s is left out", self._max_streams, identity.name
                )
                return None
            name = self._names[identity] = key[0]
        series = self._series.setdefault(name, set())
        if key[1] not in series:
            if len(series) >= self._max_series:
                self._tell(
                    "%s has %d series already: what is new adds up under otel.metric.overflow",
                    identity.name,
                    self._max_series,
                )
                return name, _OVERFLOW
            series.add(key[1])
        return name, key[1]

    def _tell(self, text: str, *values: object) -> None:
        if not self._told:
            self._told = True
            logger.warning("the user's own OpenTelemetry instruments: " + text, *values)


def _sum(key: PointKey, left: PointValue, right: PointValue) -> PointValue:
    return merge([Totals({key: left}), Totals({key: right})])[key]


def _check(key: PointKey, value: PointValue) -> None:
    try:
        stream = stream_of(key[0])
        json.loads(key[1][0])
    except (ValueError, TypeError, IndexError) as error:
        raise ValueError(f"{key} is not a point of a user's instrument: {error}") from error
    right = {
        "counter": type(value) is int or (isinstance(value, tuple) and not value[0]),
        "histogram": isinstance(value, tuple) and len(value[0]) == len(stream.bounds) + 1,
        "exponential": isinstance(value, ExponentialTotal),
        "updown": isinstance(value, float),
        "gauge": isinstance(value, float),
    }
    if not right.get(stream.kind, False):
        raise ValueError(f"{stream.name} = {value!r} is not the value of a {stream.kind}")
