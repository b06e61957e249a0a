"""Log records that say which entity they are about.

Decides what `record.entity_address` is: the address of the entity in whose handler or lifecycle hook the record was
made, tasks and threads of its own context included; an empty text elsewhere. The name is a long one because
`logging` refuses an ``extra={...}`` that names an attribute which is there already.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from entities.delivery import current_delivery, current_hook

__all__ = ["carry_addresses"]

_Factory = Callable[..., logging.LogRecord]

_lock = threading.Lock()
_wanted = 0
_ours: _Factory | None = None
_before: _Factory = logging.LogRecord


def carry_addresses() -> Callable[[], None]:
    """Have every log record of this process carry its entity's address, until the returned function is called.

    Several may ask for it at a time. What was set by ``logging.setLogRecordFactory`` before still makes the records.
    """
    global _wanted, _ours, _before
    with _lock:
        _wanted += 1
        if _wanted == 1:
            _before = logging.getLogRecordFactory()
            _ours = _addressing(_before)
            logging.setLogRecordFactory(_ours)
    done = False

    def end() -> None:
        global _wanted
        nonlocal done
        with _lock:
            if done:
                return
            done = True
            _wanted -= 1
            # Whoever has set a factory since builds on this one: then it stays, and says nothing outside of entities.
            if _wanted == 0 and logging.getLogRecordFactory() is _ours:
                logging.setLogRecordFactory(_before)

    return end


def _addressing(before: _Factory) -> _Factory:
    # A new one each time: it may come to stand on top of an older one that somebody else has built on.
    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made = before(*args, **kwargs)
        made.entity_address = _here()
        return made

    return record


def _here() -> str:
    delivery = current_delivery.get()
    if delivery is not None:
        return f"{delivery.message.hosted.definition.name}/{delivery.entity_id}"
    activation = current_hook.get()
    return "" if activation is None else str(activation)
