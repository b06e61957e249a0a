"""A process's reports to its node's agent.

Decides when to report: once a second, at the end, and at once when somebody asks for the cluster's metrics: each
report is a call that the agent answers after a second, or as soon as it wants the next one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from cluster_app.ray_calls import COORDINATOR, agent_name, find_actor, here, wait_for
from observe import tracing
from observe.exemplars import Exemplar
from observe.recorder import Recorder, process_recorder
from observe.report import Report
from observe.span_batch import SpanBatch
from observe.totals import PointKey, Totals, merge, subtract
from observe.traces import process_traces
from observe.user_instruments import collected

__all__ = ["Reporter"]

_log = logging.getLogger("cluster_app")

# The reporters of this process by job and namespace, oldest first.
_reporters: dict[tuple[str, str], list[Reporter]] = {}
# Those of all of them: the user's instruments and what is traced are the process's, and told by the oldest.
_tellers: list[Reporter] = []
_told_by_others = Totals()
_handing_over = threading.Lock()
_ANNOUNCE_S = 5.0
_PATIENCE_S = 1.0  # an agent that only restarts is back by then
_PAUSE_S = 0.1
_LAST_S = 5.0  # so long does a process that ends try to tell what it has counted
_LAST_ANSWER_S = 2.0


class Reporter:
    """Reports what one connection or runner counts, from a thread of its own once it was told to `begin`.

    :param flush: moves what is counted outside the recorder into it.
    :param pid: the process whose end ends what is reported here; this one, unless it is in no node of the cluster.
    :param since: the Unix time, in seconds, from which on all that the process counts is the cluster's; now if None.
    """

    def __init__(
        self,
        namespace: str,
        process: str,
        recorder: Recorder,
        flush: Callable[[], None],
        pid: int | None = None,
        since: float | None = None,
    ) -> None:
        self._pid = os.getpid() if pid is None else pid
        self._namespace = namespace
        self._process = process
        self._recorder = recorder
        self._flush = flush
        self._node_id = here()
        self._started_unix_s = time.time() if since is None else since
        self._sequence = 0
        self._generation = 0
        self._agent: Any = None
        self._asked_at: float | None = None
        self._ended = threading.Event()
        self._writing = threading.Lock()
        # What this process counted outside the cluster before it joined is none of the cluster's.
        self._before = process_recorder().totals() if since is None else Totals()
        self._outside = Totals()
        with _handing_over:
            self._peers = _reporters.setdefault((ray.get_runtime_context().get_job_id(), namespace), [])
            self._peers.append(self)
            _tellers.append(self)

    def announce(self) -> None:
        """Have the node's agent know of this process, so that nobody takes the counts for whole without its report."""
        with suppress(RayError, TimeoutError):  # the agent is away or given up: the first report has to do
            agent = find_actor(agent_name(self._node_id), self._namespace)
            if agent is not None:
                wait_for(agent.announce.remote(self._process, self._pid), _ANNOUNCE_S)

    def begin(self) -> None:
        """Report from now on. Without it there is one report, the last."""
        threading.Thread(target=self._run, name="cluster-app-reporter", daemon=True).start()

    def report(self, *, final: bool = False) -> Report:
        """What there is to report now. Raises RuntimeError after the last report."""
        with self._writing:
            if self._ended.is_set() and not final:
                # By its number the later one: should it arrive first, the last one would not count.
                raise RuntimeError("the last report has been made")
            try:
                self._flush()
            except Exception:  # a stalled or closing loop; the next report has it
                if final:  # there is none: what has come so far counts all the same
                    _log.warning("%s may not have told what it counted last", self._process, exc_info=True)
            own = self._counted_outside(final)
            spans, exemplars = self._followed()
            instruments = self._users(final)
            self._sequence += 1
            return Report(
                self._process,
                self._sequence,
                self._started_unix_s,
                merge([self._recorder.totals(), own]),
                Totals()
                if final or not self._recorder.enabled
                else _gauges([self._recorder, process_recorder()]),
                final,
                self._pid,
                instruments,
                spans=spans,
                exemplars=exemplars,
            )

    def _followed(self) -> tuple[SpanBatch, dict[PointKey, tuple[Exemplar, ...]]]:
        """The spans and exemplars of this process: told by the oldest reporter, or they would leave once for each."""
        tracing.offer_again()
        with _handing_over:
            first = bool(_tellers) and _tellers[0] is self
        if not first:
            return SpanBatch(), {}
        return process_traces.spans.waiting(), process_traces.exemplars.all()

    def _counted_outside(self, final: bool) -> Totals:
        """What this process counts outside its connections: told by the oldest, or it would add up once for each."""
        with _handing_over:
            if self._peers and self._peers[0] is self:
                now = process_recorder().totals()
                self._outside = subtract(now, self._before)
                if len(self._peers) > 1 and final:
                    self._peers[1]._before = now
            if final and self in self._peers:
                self._peers.remove(self)
            return self._outside

    def _users(self, final: bool) -> Totals:
        """What the user's own instruments have counted in this process, but for what another connection has told."""
        global _told_by_others
        now = collected()
        with _handing_over:
            mine = bool(_tellers) and _tellers[0] is self
            before = _told_by_others
            if final and self in _tellers:
                _tellers.remove(self)
                _told_by_others = now if mine else before
        return subtract(now, before) if mine else Totals()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                if self._agent is None:
                    self._agent = find_actor(agent_name(self._node_id), self._namespace)
                if self._agent is None:
                    self._want_agent()
                    self._ended.wait(_PAUSE_S)
                    continue
                report = self.report()
                generation: int = wait_for(self._agent.report.remote(report, self._generation), 30)
                self._generation = generation
                self._asked_at = None
                process_traces.spans.taken(report.spans)
            except Exception:
                # Its agent is away: another one comes, and cumulative totals lose nothing by waiting.
                self._agent = None
                self._want_agent()
                self._ended.wait(_PAUSE_S)

    def _want_agent(self) -> None:
        """There is no agent. One that is away for longer may have been given up with its node: ask for it."""
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        elif now - self._asked_at > _PATIENCE_S:
            self._asked_at = now
            coordinator = find_actor(COORDINATOR, self._namespace)
            if coordinator is not None:
                coordinator.wanted.remote(self._node_id)

    def end(self) -> None:
        """Report for the last time, and wait a little until that has arrived: the agent may just be restarting."""
        self._ended.set()
        with suppress(Exception):  # whoever ends must not fail by what it counts
            self._tell_last(self.report(final=True))

    def _tell_last(self, last: Report) -> None:
        until = time.monotonic() + _LAST_S
        agent = self._agent
        while (left := until - time.monotonic()) > 0:
            try:
                if agent is None:
                    agent = find_actor(agent_name(self._node_id), self._namespace)
                if agent is not None:
                    # Again and again the same report: its number tells an agent that has it.
                    wait_for(agent.report.remote(last, self._generation), min(_LAST_ANSWER_S, left))
                    process_traces.spans.taken(last.spans)
                    return
            except Exception:
                agent = None
            if find_actor(COORDINATOR, self._namespace) is None:
                return  # no service any more: then nobody counts
            self._want_agent()
            time.sleep(_PAUSE_S)


def _gauges(recorders: Iterable[Recorder]) -> Totals:
    return merge([recorder.gauges() for recorder in recorders])
