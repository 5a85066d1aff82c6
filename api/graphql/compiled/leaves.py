"""Leaves: whole columns of scalars and enums, written as their types write them.

Values that are exactly of a type's own Python class need no call each; all others take the type's
`coerce_output_value`, one by one.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any, Final

from graphql import (
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLID,
    GraphQLInt,
    GraphQLLeafType,
    GraphQLString,
    Undefined,
)
from graphql.pyutils import inspect
from strawberry.schema.schema_converter import CustomGraphQLEnumType
from strawberry.schema.types.base_scalars import DateTimeDefinition

_LONGEST_INT: Final = 1 << 31
_AS_THEY_ARE: Final[Mapping[GraphQLLeafType, type]] = {GraphQLString: str, GraphQLID: str, GraphQLBoolean: bool}


class Leaf:
    """A leaf type at a place that may be null or not."""

    __slots__ = ("_kinds", "_moments", "_names", "_numbers", "type")

    def __init__(self, type_: GraphQLLeafType, *, nullable: bool) -> None:
        self.type = type_
        self._names = _names(type_) if isinstance(type_, GraphQLEnumType) else None
        self._numbers = type_ is GraphQLInt
        self._moments = type_.extensions.get("strawberry-definition") is DateTimeDefinition
        own: type | None = _AS_THEY_ARE.get(type_)
        if self._numbers:
            own = int
        elif self._moments:
            own = dt.datetime
        elif self._names:
            own = type_.wrapped_cls if isinstance(type_, CustomGraphQLEnumType) else None
        self._kinds: frozenset[type] = frozenset({own} if own else ())
        if nullable and own:
            self._kinds |= {NoneType}
            if self._names is not None:
                self._names = {**self._names, id(None): None}

    def column(self, values: list[Any], *, native: bool) -> list[Any] | None:
        """The values as they are written; None when it takes a look at each."""
        if not self._kinds.issuperset(map(type, values)):
            return None
        if self._names is not None:
            names = self._names
            return [names[id(value)] for value in values]
        if self._moments:
            if native and {value.tzinfo for value in values if value is not None} <= {dt.UTC}:
                return values
            return self.texts(values)
        if self._numbers and not all(-_LONGEST_INT <= value < _LONGEST_INT for value in values if value is not None):
            return None
        return values

    def is_written_as_it_is(self, *, native: bool) -> bool:
        """Whether values that a plan says are exact need nothing more."""
        return native or not self._moments

    def texts(self, moments: Iterable[Any]) -> list[Any]:
        """Moments as they are written where that is text."""
        return [None if value is None else value.isoformat() for value in moments]

    def value(self, value: Any) -> Any:
        """One value as it is written; raises what the type raises. Not for None."""
        written = self.type.coerce_output_value(value)
        if written is None or written is Undefined:
            raise TypeError(
                f"Expected `{inspect(self.type)}.coerce_output_value({inspect(value)})` to return non-nullable value, "
                f"returned: {inspect(written)}"
            )
        return written


def _names(type_: GraphQLEnumType) -> dict[int, str | None] | None:
    """Names by the identity of members, which there is one of each; hashing one takes longer than all the rest."""
    if not isinstance(type_, CustomGraphQLEnumType):
        return None
    members: list[Any] = list(type_.wrapped_cls)
    try:
        return {id(member): type_.coerce_output_value(member) for member in members}
    except Exception:  # noqa: BLE001 - an enum of its own kind: its type is asked for each value
        return None
