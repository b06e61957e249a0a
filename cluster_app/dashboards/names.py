"""What the declared metrics are called in Prometheus, by the way that they came.

It decides names and the labels that tell nodes and clusters apart. What is measured is declared in
`observe.instruments`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cluster_app.dashboards.series import Series
from observe.instruments import Instrument

__all__ = ["NAME_SETS", "OTLP", "RAY", "NameSet"]


@dataclass(frozen=True, slots=True)
class NameSet:
    """How series are named that came one way.

    :ivar key: ``otlp`` or ``ray``.
    :ivar way: the way in a few words.
    :ivar prefix: stands before each metric's name.
    :ivar node: the label that tells the nodes of a cluster apart.
    :ivar cluster: the label that tells clusters apart: the name of the Ray session.
    :ivar node_variable: the dashboard variable that chooses nodes. Ray's own dashboard has one already.
    :ivar reporter: a label that tells a node agent from the one that took its place; None if there is no such label.
    :ivar chosen: whether series are narrowed to what a dashboard's variables choose.
    """

    key: str
    way: str
    prefix: str
    node: str
    cluster: str
    node_variable: str
    reporter: str | None = None
    chosen: bool = False

    def as_chosen(self) -> NameSet:
        """The same names, narrowed to the clusters, nodes and entity types that a dashboard's reader chooses."""
        return replace(self, chosen=True)

    def counter(self, instrument: Instrument, *matchers: str) -> Series:
        """A counter's series. Raises ValueError for another kind."""
        if instrument.kind != "counter":
            raise ValueError(f"{instrument.name} is a {instrument.kind}, no counter")
        return self._series(instrument, "", matchers)

    def gauge(self, instrument: Instrument, *matchers: str, last_within: str = "") -> str:
        """What a gauge says now, or said last within a window. Raises ValueError for another kind.

        For some seconds after a node agent's end its last word and its successor's first stand side by side.
        """
        if instrument.kind != "gauge":
            raise ValueError(f"{instrument.name} is a {instrument.kind}, no gauge")
        series = self._series(instrument, "", matchers)
        said = f"last_over_time({series}[{last_within}])" if last_within else str(series)
        return f"max without ({self.reporter}) ({said})" if self.reporter else said

    def buckets(self, instrument: Instrument, *matchers: str, within: float | None = None) -> Series:
        """A histogram's cumulative buckets; with `within` only the one that ends there.

        Raises ValueError when no bucket ends there: what is in it could only be guessed.
        """
        if within is not None:
            if within not in (instrument.bounds or ()):
                raise ValueError(f"no bucket of {instrument.name} ends at {within:g}")
            # Some write 1 for that edge, others 1.0.
            edge = f'le="{within:g}"' if within % 1 else f'le=~"{within:g}(\\\\.0)?"'
            matchers = (*matchers, edge)
        return self._series(instrument, "_bucket", matchers)

    def sums(self, instrument: Instrument, *matchers: str) -> Series:
        """A histogram's sum of values."""
        return self._series(instrument, "_sum", matchers)

    def counts(self, instrument: Instrument, *matchers: str) -> Series:
        """A histogram's number of values."""
        return self._series(instrument, "_count", matchers)

    def _series(self, instrument: Instrument, suffix: str, matchers: tuple[str, ...]) -> Series:
        choice: tuple[str, ...] = ()
        if self.chosen:
            choice = (f'{self.cluster}=~"$SessionName"', f'{self.node}=~"${self.node_variable}"')
            if "entity_type" in instrument.labels:
                choice = (*choice, 'entity_type=~"$entity_type"')
        return Series(f"{self.prefix}{instrument.name}{suffix}", (*choice, *matchers))


OTLP = NameSet(
    key="otlp",
    way="OTLP, by a collector's Prometheus exporter",
    prefix="",
    node="service_instance_id",
    cluster="ray_cluster_session",
    node_variable="node",
)

RAY = NameSet(
    key="ray",
    way="Ray's own /metrics of each node",
    prefix="ray_",
    node="instance",
    cluster="SessionName",
    node_variable="Instance",
    reporter="WorkerId",
)

NAME_SETS = {names.key: names for names in (OTLP, RAY)}
"""Both sets, by key."""
