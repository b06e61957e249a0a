"""What travels: frames of messages one way, frames of answers the other.

Decides the form on the wire. Decides nothing about order or repetition: the lanes do.

A frame holds many messages as columns (ids, methods, arguments ...), pickled at once: a tenth of the cost of one
object per message. Values that pickle cannot get wrong (numbers, strings ...) stand in their column as they are.
Everything else is pickled by itself and stands there as bytes, so that what one message carries cannot keep its
neighbours from being read.
"""

from __future__ import annotations

import io
import pickle
from functools import cache
from typing import Any, NamedTuple

__all__ = [
    "AnswerFrame",
    "Atoms",
    "Codec",
    "Extras",
    "MessageFrame",
    "Packed",
    "copied",
    "read_answers",
    "read_messages",
    "write",
]

# Immutable and exact: neither the sender nor the receiver can change what the other sees.
Atoms = frozenset({int, str, float, bool, type(None), bytes, complex})


class Extras(NamedTuple):
    """What few messages carry; it travels beside the columns, by position in the frame.

    :ivar packed: arguments as bytes, pickled (args, kwargs) together.
    :ivar timeout_s: seconds that are left, for a message with a timeout of its own.
    :ivar chain: the messages being handled up the call chain, each ``(type, id, message id)``.
    :ivar trace: the W3C ``traceparent``.
    :ivar stream: how often this sender has restarted its stream to this shard; absent for 0.
    :ivar message_id: the id it was first sent under, when that was on another lane.
    :ivar counted: a runner has counted it as received and gave it back.
    :ivar references: how many objects of the frame's attachments belong to it.
    :ivar arguments: arguments by position that need no pickling of their own.
    """

    packed: bytes | None = None
    timeout_s: float | None = None
    chain: tuple[tuple[str, str, str], ...] = ()
    trace: str | None = None
    stream: int = 0
    message_id: str | None = None
    counted: bool = False
    references: int = 0
    arguments: tuple[Any, ...] = ()


class MessageFrame(NamedTuple):
    """Messages of one lane, oldest first.

    :ivar number: of the frame on its lane, from 0 without gaps.
    :ivar first: sequence number of the first message; the rest follow without gaps.
    :ivar term: the highest term that the sender knows of.
    :ivar kinds: the (entity type, method) pairs that occur.
    :ivar kind: for each message its index in `kinds`.
    :ivar ids: for each message its entity id; for a broadcast, which goes to a whole shard, the shard's number.
    :ivar arguments: for each message its positional arguments; None for one with extras, which have them.
    :ivar timeout_s: seconds that are left to each, for those without one of their own.
    :ivar extras: position to `Extras`.
    :ivar traces: position to the W3C ``traceparent``, for messages of a trace that have no extras.
    :ivar granted: the latest epoch that the sender knows a shard of this lane's runner to be granted under.
    """

    number: int
    first: int
    term: int
    kinds: list[tuple[str, str]]
    kind: bytes | list[int]
    ids: list[Any]
    arguments: list[tuple[Any, ...] | None]
    timeout_s: float
    extras: dict[int, Extras]
    traces: dict[int, str]
    granted: tuple[int, int] = (0, 0)

    def later(self, late_s: float) -> MessageFrame:
        """The frame after so many seconds: with so much less time for its messages."""
        extras = {
            position: extra if extra.timeout_s is None else extra._replace(timeout_s=extra.timeout_s - late_s)
            for position, extra in self.extras.items()
        }
        return self._replace(timeout_s=self.timeout_s - late_s, extras=extras)


class AnswerFrame(NamedTuple):
    """Answers of one lane, in the order they came about.

    :ivar number: of the frame on its lane, from 0 without gaps.
    :ivar sequences: for each answer the message's sequence number; None when they are `first`, `first` + 1 ...
    :ivar values: for each answer its value, or None where `packed`, `errors` or `refused` says otherwise.
    :ivar packed: position to a pickled value.
    :ivar errors: position to a pickled error.
    :ivar references: position to how many objects of the frame's attachments belong to the value.
    :ivar refused: position to whether the message had been taken before; its shard is not served here.
    """

    number: int
    first: int
    sequences: list[int] | None
    values: list[Any]
    packed: dict[int, bytes]
    errors: dict[int, bytes]
    refused: dict[int, bool]
    references: dict[int, int]


class Packed(NamedTuple):
    """Something pickled by itself.

    :ivar attachments: objects that the transport must carry as such (Ray's object references).
    """

    data: bytes
    attachments: tuple[Any, ...] = ()


# What is being unpacked takes its attachments from here. One event loop or thread unpacks at a time, step by step.
_unpacking: list[tuple[Any, ...]] = []


def take_attachment(index: int) -> Any:
    """What `AttachingPickler` puts where an attachment was."""
    return _unpacking[-1][index]


@cache
def _pickler() -> Any:
    # Loads cloudpickle: many an entity's own process is never asked for more than what needs no pickling.
    from cluster_app.attaching_pickler import AttachingPickler

    return AttachingPickler


class Codec:
    """Turns values into bytes and back.

    :param attach: types whose objects the transport carries beside the bytes.
    """

    def __init__(self, attach: tuple[type, ...] = ()) -> None:
        self.attach = attach

    def pack(self, value: Any) -> Packed:
        """Pickle one value by itself; raises whatever pickling it raises. What is packed already stays as it is."""
        if type(value) is Packed:
            return value
        file = io.BytesIO()
        pickler = _pickler()(file, self.attach)
        pickler.dump(value)
        return Packed(file.getvalue(), tuple(pickler.attachments))

    def unpack(self, packed: Packed) -> Any:
        """Read it back; raises whatever unpickling raises."""
        if not packed.attachments:
            return pickle.loads(packed.data)
        _unpacking.append(packed.attachments)
        try:
            return pickle.loads(packed.data)
        finally:
            _unpacking.pop()

    def pack_error(self, error: BaseException) -> bytes:
        """Pickle an error with its cause; what cannot be pickled is replaced by its text."""
        from entities.errors import ClusterError

        try:
            packed = self.pack(error)
            if not packed.attachments:
                # An exception may pickle and yet not come back: its __init__ wants other arguments. Found out here,
                # where its text is still known.
                pickle.loads(packed.data)
                return packed.data
        except BaseException:  # a handler's error is a stranger's code: even SystemExit must not leave here
            pass
        if isinstance(error, ClusterError):
            error.__cause__ = None
            try:
                return self.pack(error).data
            except BaseException:
                pass
        from entities.errors import HandlerError, describe

        return self.pack(HandlerError(describe(error))).data


def copied(value: Any, codec: Codec) -> Any:
    """What the receiver of `value` would get, had it travelled."""
    return value if type(value) in Atoms else codec.unpack(codec.pack(value))


def write(frame: MessageFrame | AnswerFrame) -> bytes:
    """The bytes of a frame."""
    if isinstance(frame, MessageFrame) and frame.extras:
        # As plain tuples: to a pickler an object of a class of its own is more than all that is in it.
        plain: Any = {position: tuple(extra) for position, extra in frame.extras.items()}
        frame = frame._replace(extras=plain)
    return pickle.dumps(tuple(frame), protocol=pickle.HIGHEST_PROTOCOL)


def read_messages(data: bytes) -> MessageFrame:
    """A frame of messages from its bytes."""
    frame = MessageFrame(*pickle.loads(data))
    if frame.extras:
        for position, extra in frame.extras.items():
            frame.extras[position] = Extras(*extra)
    return frame


def read_answers(data: bytes) -> AnswerFrame:
    """A frame of answers from its bytes."""
    return AnswerFrame(*pickle.loads(data))
