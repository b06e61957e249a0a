"""What a label may be called and what it may hold: the one place where label values are normalised and
bounded.

Decides that series stay few: an id as a label has leaked memory in every system that tried it. Does not
decide which metric has which labels: the instruments declare that.
"""

from __future__ import annotations

import threading
from enum import Enum

from observe.failure import REASONS
from observe.instruments import cluster

__all__ = ["MAX_VALUES_PER_LABEL", "MAX_VALUE_CHARACTERS", "OTHER", "UNKNOWN", "label", "normalised"]

MAX_VALUE_CHARACTERS = 128
MAX_VALUES_PER_LABEL = 1000

UNKNOWN = "unknown"
"""The value of a label that is not known: given as None, or empty."""

OTHER = "other"
"""The value that stands for all those beyond the bound."""

_KNOWN_LABELS = frozenset(name for instrument in cluster for name in instrument.labels)

# The closed vocabularies have their places from the start: a flood of other values cannot push "error" out.
_DEACTIVATIONS = ("idle", "explicit", "handoff", "shutdown", "failed", "lost")
_HANDOFFS = ("join", "leave", "drain", "lost")
_RESERVED: dict[str, tuple[str, ...]] = {
    "operation": ("send", "receive", "broadcast"),
    "outcome": ("ok", "error"),
    "direction": ("in", "out"),
    "type": REASONS,
    "reason": (*REASONS, *_DEACTIVATIONS, *_HANDOFFS),
}

_lock = threading.Lock()
_seen: dict[str, set[str]] = {name: {UNKNOWN, OTHER, *_RESERVED.get(name, ())} for name in _KNOWN_LABELS}


def label(**labels: object) -> dict[str, str]:
    """Return the labels as bounded text, ready to count with.

    A class becomes its name, an enum member its value, None ``"unknown"``, anything else its ``str()``.
    Control characters are replaced, a value is cut at 128 characters, and once a label has had 1000 different
    values in this process every new one becomes ``"other"``. Raises ValueError for a name that no metric has,
    above all an id.
    """
    bounded: dict[str, str] = {}
    for name, raw in labels.items():
        seen = _seen.get(name)
        if seen is None:
            raise ValueError(_refusal(name))
        value = normalised(raw)
        if value not in seen:
            with _lock:
                if value not in seen:
                    if len(seen) >= MAX_VALUES_PER_LABEL:
                        value = OTHER
                    else:
                        seen.add(value)
        bounded[name] = value
    return bounded


def normalised(value: object) -> str:
    """Return a label's value as bounded text, however many values there are already."""
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return UNKNOWN
    if isinstance(value, type):
        text = value.__name__
    elif isinstance(value, str):
        text = str.__str__(value)
    else:
        text = str(value)
    text = text[:MAX_VALUE_CHARACTERS]
    if not text.isprintable():
        # isprintable() is False for lone surrogates too, which no exporter could encode.
        text = "".join(
            [character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text]
        )
    return text or UNKNOWN


def _refusal(name: str) -> str:
    known = ", ".join(sorted(_KNOWN_LABELS))
    if name in {"id", "process", "pid"} or name.endswith("_id"):
        return (
            f"{name!r} cannot be a label: an entity id or a process as a label makes a series for each, "
            f"without end. Put ids on spans or in logs. Labels are: {known}"
        )
    return f"{name!r} is not a label of any metric. Labels are: {known}"
