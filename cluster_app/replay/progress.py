"""How far a replay has come: a bar on a terminal, a line every few seconds elsewhere.

It decides what is shown and how often. The number of live entities is asked of the cluster by a thread of its
own, so that a slow answer holds up no message.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from cluster_app.replay.feeder import Feeder
from cluster_app.replay.port import ReplayCluster

__all__ = ["LiveEntities", "ReplayProgress"]

BAR_EVERY_S = 0.1
LINE_EVERY_S = 5.0
ASK_EVERY_S = 1.0


class LiveEntities:
    """The latest known number of live entities of some types; None until it is known."""

    def __init__(self, cluster: ReplayCluster, types: tuple[str, ...]) -> None:
        self.count: int | None = None
        self._cluster = cluster
        self._types = types
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="replay-live-entities", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Ask once more, and no more. Returns when that is answered."""
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        last = False
        while True:
            try:
                entities = self._cluster.status().entities
            except Exception:
                # Only a display: a status that cannot be had now is asked again, and the replay tells of real
                # trouble.
                pass
            else:
                self.count = sum(entities.get(name, 0) for name in self._types)
            if last:
                return
            last = self._ended.wait(ASK_EVERY_S)


class ReplayProgress:
    """Shows rows, rate, live entities and errors while a block runs."""

    def __init__(
        self,
        console: Console,
        live: LiveEntities,
        position: Callable[[], int],
        size: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rows = 0
        self._console = console
        self._live = live
        self._position = position
        self._clock = clock
        self._started_s = self._shown_s = clock()
        self._every_s = BAR_EVERY_S if console.is_terminal else LINE_EVERY_S
        self._feeder: Feeder | None = None
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=size)

    def watch(self, feeder: Feeder) -> None:
        """Show this feeder's figures."""
        self._feeder = feeder

    def row_done(self) -> None:
        """Count a row; called for each of them, so it looks at the clock only now and then."""
        self.rows += 1
        if self.rows % 256 == 0:
            self.tick()

    def tick(self) -> None:
        """Show the figures, unless they were shown a moment ago."""
        now = self._clock()
        if now - self._shown_s >= self._every_s:
            self._shown_s = now
            self._show(now)

    def line(self) -> str:
        """The figures in one line."""
        settled, errors = (0, 0)
        if self._feeder is not None:
            settled, errors = self._feeder.settled, sum(self._feeder.errors.values())
        elapsed_s = self._clock() - self._started_s
        rate = settled / elapsed_s if elapsed_s > 0 else 0.0
        live = "?" if self._live.count is None else f"{self._live.count:,}"
        return f"{self.rows:,} rows, {rate:,.0f} messages/s, {live} entities, {errors:,} errors"

    def _show(self, now: float) -> None:
        if self._bar is None:
            self._console.print(self.line(), highlight=False)
        else:
            self._bar.update(self._task, completed=self._position(), description=self.line())

    def __enter__(self) -> ReplayProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._live.end()
        # What the bar showed last is gone with it, and a short run showed nothing at all.
        self._console.print(self.line(), highlight=False)
