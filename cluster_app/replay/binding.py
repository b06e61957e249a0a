"""Columns to parameters: by name, once per run; cells to arguments, once per row.

It decides which parameter a column fills, what an empty cell means, and which rows cannot be used:

- an empty cell leaves a parameter with a default to it, is None for an Optional one, else spoils the row;
- a column that no parameter names is ignored;
- a parameter that must be given and has no column spoils the whole file, when the file names its columns.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster_app.replay.column_type import ColumnType, column_type
from cluster_app.replay.refusal import Refusal
from cluster_app.replay.row import UnusableRow
from cluster_app.replay.target import Target
from entities.address import check_entity_id

__all__ = ["Binding"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter that a column may fill."""

    name: str
    type: ColumnType
    default: object  # inspect.Parameter.empty when it must be given
    by_position: bool  # may be given by position, when nothing before it was left out
    by_name: bool


class Binding:
    """From a row's cells to an entity id and the arguments of one message."""

    def __init__(self, target: Target, key: str, columns: Sequence[str] | None) -> None:
        """Match a message's parameters with the columns of a file.

        Raises Refusal when the key or a parameter that must be given has no column, or has an annotation that
        no column can fill.
        """
        self._key = key
        self._slots: list[Slot] = []
        gap = False  # a parameter that no column fills: those behind it can be given by name only
        called = f"{target.kind.__name__}.{target.method}"
        if columns is not None and key not in columns:
            raise Refusal(f"there is no column {key} for --key", hint=f"columns: {', '.join(columns)}")
        for parameter in target.signature.parameters.values():
            if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                continue
            must = parameter.default is inspect.Parameter.empty
            by_name = parameter.kind is not inspect.Parameter.POSITIONAL_ONLY
            if columns is not None and parameter.name not in columns and (must or by_name):
                if not must:
                    gap = True
                    continue
                raise Refusal(
                    f"there is no column {parameter.name}, which {called} needs",
                    hint=f"columns: {', '.join(columns)}",
                )
            annotation = Any if parameter.annotation is inspect.Parameter.empty else parameter.annotation
            try:
                kind = column_type(annotation)
            except TypeError as error:
                if not must and columns is None and by_name:
                    gap = True
                    continue
                raise Refusal(
                    f"{called}: parameter {parameter.name}: {error}",
                    hint="columns fill int, float, bool, str, date, datetime and Optional of these",
                ) from error
            by_position = parameter.kind is not inspect.Parameter.KEYWORD_ONLY and not gap
            self._slots.append(Slot(parameter.name, kind, parameter.default, by_position, by_name))

    def entity_id(self, cells: Mapping[str, object]) -> str:
        """The id in the key column. Raises UnusableRow when it is empty or no valid id."""
        value = cells.get(self._key)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is None or value == "":
            raise UnusableRow(f"{self._key} is empty")
        try:
            return check_entity_id(value)  # type: ignore[arg-type]  # it refuses what is no str
        except ValueError as error:
            raise UnusableRow(f"{self._key}: {error}") from error

    def arguments(self, cells: Mapping[str, object]) -> tuple[list[object], dict[str, object]]:
        """The positional and the named arguments. Raises UnusableRow with the column and the reason.

        As many as can be are positional: names would travel with every message.
        """
        positional: list[object] = []
        named: dict[str, object] = {}
        gap = False
        for slot in self._slots:
            cell = cells.get(slot.name)
            if cell is not None:
                try:
                    value = slot.type.convert(cell)
                except ValueError as error:
                    raise UnusableRow(f"{slot.name}: {error}") from error
            elif slot.default is not inspect.Parameter.empty:
                if slot.by_name:
                    gap = True  # left out, so that the entity's own default holds
                    continue
                value = slot.default
            elif slot.type.optional:
                value = None
            else:
                raise UnusableRow(
                    f"{slot.name} is empty" if slot.name in cells else f"{slot.name} is missing"
                )
            if slot.by_position and not (gap and slot.by_name):
                positional.append(value)
            else:
                named[slot.name] = value
        return positional, named
