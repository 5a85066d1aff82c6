"""Variables of an operation, coerced by graphql-core's own functions; for the plain kinds a look is enough."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from graphql import (
    GraphQLBoolean,
    GraphQLError,
    GraphQLID,
    GraphQLInt,
    GraphQLNonNull,
    GraphQLSchema,
    GraphQLString,
    OperationDefinitionNode,
    Undefined,
)
from graphql.execution.get_variable_signature import GraphQLVariableSignature, get_variable_signature
from graphql.execution.values import VariableValues, VariableValueSource, get_variable_values

_LONGEST_INT: Final = 1 << 31


def _is_int(value: Any) -> bool:
    return type(value) is int and -_LONGEST_INT <= value < _LONGEST_INT


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_bool(value: Any) -> bool:
    return type(value) is bool


_AS_THEY_ARE: Final[Mapping[Any, Callable[[Any], bool]]] = {
    GraphQLString: _is_text,
    GraphQLID: _is_text,
    GraphQLInt: _is_int,
    GraphQLBoolean: _is_bool,
}


class Variables:
    """The variables that an operation declares."""

    def __init__(self, schema: GraphQLSchema, operation: OperationDefinitionNode) -> None:
        self._schema = schema
        self._nodes = operation.variable_definitions or ()
        self._known: list[tuple[str, GraphQLVariableSignature, bool, Callable[[Any], bool]]] | None = []
        for node in self._nodes:
            signature = get_variable_signature(schema, node)
            if isinstance(signature, GraphQLError):
                self._known = None
                break
            needed = isinstance(signature.type, GraphQLNonNull)
            plain: Any = signature.type.of_type if isinstance(signature.type, GraphQLNonNull) else signature.type
            as_it_is = _AS_THEY_ARE.get(plain) if not _is_wrapped(plain) else None
            self._known.append((signature.name, signature, needed, as_it_is or _is_nothing))

    def coerced(self, given: Mapping[str, Any]) -> VariableValues | None:
        """None when they are refused."""
        sources: dict[str, VariableValueSource] = {}
        values: dict[str, Any] = {}
        for name, signature, needed, as_it_is in self._known if self._known is not None else ():
            value = given.get(name, Undefined)
            if value is Undefined:
                if needed or signature.default is not None:
                    return self._asked(given)
                sources[name] = VariableValueSource(signature)
            elif as_it_is(value) or (value is None and not needed):
                sources[name] = VariableValueSource(signature, value)
                values[name] = value
            else:
                return self._asked(given)
        return VariableValues(sources, values) if self._known is not None else None

    def _asked(self, given: Mapping[str, Any]) -> VariableValues | None:
        found = get_variable_values(self._schema, self._nodes, dict(given), max_errors=1)
        return found if isinstance(found, VariableValues) else None


def _is_wrapped(type_: Any) -> bool:
    return not hasattr(type_, "name")


def _is_nothing(value: Any) -> bool:
    return False
