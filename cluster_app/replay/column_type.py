"""How a cell becomes an argument, by the parameter's annotation.

It decides what text and what JSON value each annotation accepts. It does not decide what an empty cell means:
that is the binding's work.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Union, get_args, get_origin

__all__ = ["ColumnType", "column_type"]

TRUE = frozenset({"true", "t", "yes", "y", "1"})
FALSE = frozenset({"false", "f", "no", "n", "0"})


@dataclass(frozen=True, slots=True)
class ColumnType:
    """What a parameter takes.

    :ivar name: the annotation in words, for a reason such as ``'x' is not an int``.
    :ivar optional: whether None is one of its values.
    :ivar convert: from a cell that is not empty; raises ValueError with the reason.
    """

    name: str
    optional: bool
    convert: Callable[[object], object]


def column_type(annotation: object) -> ColumnType:
    """The column type of an annotation; a missing one takes cells as they are.

    Known are int, float, bool, str, date, datetime, Any and Optional of each. Raises TypeError for others.
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        return column_type(get_args(annotation)[0])
    supertype = getattr(annotation, "__supertype__", None)  # a NewType
    if supertype is not None:
        return column_type(supertype)
    if origin in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not types.NoneType]
        if len(members) != 1:
            raise TypeError(f"{annotation} names several types; only one and None can be told apart")
        inner = column_type(members[0])
        return ColumnType(inner.name, len(members) < len(get_args(annotation)), inner.convert)
    for known, name, convert in CONVERSIONS:
        if annotation is known:
            return ColumnType(name, known is Any or known is object, convert)
    raise TypeError(f"{getattr(annotation, '__name__', annotation)} is not something a column can fill")


def _as_it_is(value: object) -> object:
    return value


def _int(value: object) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise ValueError(f"{_shown(value)} is not an int") from None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # JSON has one kind of number, and some writers put every one of them as 3.0.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise ValueError(f"{_shown(value)} is not an int")


def _float(value: object) -> float:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise ValueError(f"{_shown(value)} is not a float")


def _bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int):
        text = str(value).strip().lower()
        if text in TRUE:
            return True
        if text in FALSE:
            return False
    raise ValueError(f"{_shown(value)} is not a bool")


def _str(value: object) -> str:
    if isinstance(value, str):
        if not value.isascii():
            _check_unicode(value)
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{_shown(value)} is not a str")


def _check_unicode(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{_shown(value)} is not valid UTF-8") from None


def _datetime(value: object) -> datetime:
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value.strip())
        except ValueError:
            pass
    raise ValueError(f"{_shown(value)} is not a datetime in ISO 8601")


def _date(value: object) -> date:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value.strip())
        except ValueError:
            pass
    raise ValueError(f"{_shown(value)} is not a date in ISO 8601")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


CONVERSIONS: tuple[tuple[object, str, Callable[[object], object]], ...] = (
    (int, "int", _int),
    (float, "float", _float),
    (bool, "bool", _bool),
    (str, "str", _str),
    (datetime, "datetime", _datetime),
    (date, "date", _date),
    (Any, "any", _as_it_is),
    (object, "any", _as_it_is),
)
