"""What lives on a host: its types, and the activations of each.

Decides which code a type's name stands for, and what is counted of those who come and go. When one comes is
`activator`'s business, when one goes `deactivator`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from entities.activation import Activation, HostedType, Phase
from observe.instruments import Instrument, cluster
from observe.recorder import Recorder

__all__ = ["LiveTable"]


class LiveTable:
    """The types of one host, by name, and their activations.

    :param now: the clock, in seconds.
    :ivar changes: grows whenever an entity comes or goes.
    :ivar left: called when an activation has gone, with its error if it never came to life.
    """

    def __init__(self, now: Callable[[], float], recorder: Recorder) -> None:
        self.changes = 0
        self.left: Callable[[Activation, BaseException | None], None] = _nobody_asks
        self._now = now
        self._recorder = recorder
        self._types: dict[str, HostedType] = {}
        self._retired: list[HostedType] = []  # replaced code whose entities still live
        self._last_gone_at = now()
        recorder.add_gauges(self._gauges)

    # -- types

    def add(self, hosted: HostedType) -> None:
        """Host this type; the same name with other code takes over for new activations."""
        name = hosted.definition.name
        known = self._types.get(name)
        if known is not None:
            self._retired.append(known)
            for activation in known.live.values():
                hosted.live[activation.entity_id] = activation
        self._types[name] = hosted

    def hosted(self, name: str) -> HostedType | None:
        """The hosted type of that name, or None."""
        return self._types.get(name)

    def __iter__(self) -> Iterator[HostedType]:
        """Every type, also of replaced code."""
        return iter([*self._types.values(), *self._retired])

    # -- activations

    def enter(self, activation: Activation) -> None:
        """It takes the place of its address."""
        activation.hosted.live[activation.entity_id] = activation
        self.changes += 1

    def leave(self, activation: Activation, error: BaseException | None = None) -> None:
        """It gives its place free.

        :param error: what kept it from coming to life.
        """
        activation.phase = Phase.GONE
        self.changes += 1
        for hosted in self:
            if hosted.live.get(activation.entity_id) is activation:
                del hosted.live[activation.entity_id]
        self.left(activation, error)

    def count_gone(self, activation: Activation, reason: str) -> None:
        """One that had come to life has gone."""
        hosted = activation.hosted
        now = self._now()
        hosted.deactivated[reason] = hosted.deactivated.get(reason, 0) + 1
        hosted.lifetimes.append(now - activation.activated_at)
        self._last_gone_at = now

    def activations(self) -> Iterator[Activation]:
        """Every live activation."""
        for hosted in self._types.values():
            yield from list(hosted.live.values())

    def of_shards(self, shards: Callable[[str, int], bool]) -> Iterator[Activation]:
        """Every live activation in these (group, shard) pairs, also of replaced code."""
        for hosted in self:
            group = hosted.definition.options.group
            yield from [one for one in hosted.live.values() if shards(group, one.shard)]

    # -- what is known

    def counts(self) -> Mapping[str, int]:
        """Live entities by type. From any thread."""
        return {hosted.definition.name: len(hosted.live) for hosted in list(self._types.values())}

    def idle_s(self) -> float:
        """Seconds since the last entity went, or since there could be any; 0 while one lives. From any thread."""
        if any(hosted.live for hosted in self):
            return 0.0
        return self._now() - self._last_gone_at

    def flush(self) -> None:
        """Move the counts since the last flush into the recorder."""
        with self._recorder.lock:
            for hosted in self:
                hosted.flush(self._recorder)

    def _gauges(self) -> Iterable[tuple[Instrument, Mapping[str, str], float]]:
        for hosted in list(self._types.values()):
            name = {"entity_type": hosted.definition.name}
            yield cluster.entities, name, float(len(hosted.live))
            depth = sum(len(a.mailbox) for a in list(hosted.waiting.values()) if a.mailbox is not None)
            yield cluster.mailbox_depth, name, float(depth)


def _nobody_asks(activation: Activation, error: BaseException | None) -> None:
    """Nobody wants to know who has gone."""
