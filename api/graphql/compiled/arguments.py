"""Arguments of a field: what is constant is read once, a variable is looked up, anything else is left to graphql-core.

Strawberry then converts them, as it does for each call: input objects become instances of their classes.
"""

from collections.abc import Mapping
from typing import Any, Final

from graphql import (
    FieldNode,
    GraphQLArgument,
    GraphQLError,
    GraphQLField,
    GraphQLString,
    Undefined,
    VariableNode,
    Visitor,
    is_non_null_type,
    is_required_argument,
    visit,
)
from graphql.execution.values import VariableValues, get_argument_values
from strawberry import ID
from strawberry.schema import Schema
from strawberry.types.arguments import StrawberryArgument, convert_argument
from strawberry.types.base import StrawberryOptional
from strawberry.types.enum import StrawberryEnumDefinition
from strawberry.types.field import StrawberryField
from strawberry.types.info import Info

_NO_VARIABLES: Final = VariableValues({}, {})
_NEED_NO_CONVERSION: Final = frozenset({str, int, float, bool, ID})


class Arguments:
    """The arguments of a field as it is asked for."""

    def __init__(self, field: GraphQLField, node: FieldNode) -> None:
        self._field = field
        self._node = node
        self._constant: dict[str, Any] = {}
        self._variables: list[tuple[str, str, bool, Any]] = []
        given = {argument.name.value: argument.value for argument in node.arguments or ()}
        self._known = not any(
            _holds_variables(value) for value in given.values() if not isinstance(value, VariableNode)
        )
        try:
            for name, argument in field.args.items() if self._known else ():
                value = given.get(name)
                if isinstance(value, VariableNode):
                    default = (
                        Undefined if is_required_argument(argument) else _alone(name, argument, node, ()).get(name)
                    )
                    needed = is_non_null_type(argument.type)
                    self._variables.append((name, value.name.value, needed, default))
                else:
                    self._constant.update(_alone(name, argument, node, node.arguments))
        except GraphQLError:
            self._known = False  # raised again in every run, where it belongs to a field of the answer

    def values(self, variables: VariableValues) -> dict[str, Any]:
        """By GraphQL name; raises `GraphQLError`."""
        if not self._known:
            return get_argument_values(self._field, self._node, variables)
        if not self._variables:
            return self._constant
        values = dict(self._constant)
        for name, variable, needed, default in self._variables:
            value = variables.coerced.get(variable, default)
            if needed and (value is Undefined or value is None):
                return get_argument_values(self._field, self._node, variables)
            if value is not Undefined:
                values[name] = value
        return values


class Keywords:
    """What a Strawberry resolver is called with. `shared` says that all calls may have the same values."""

    def __init__(self, field: StrawberryField, schema: Schema) -> None:
        self._schema = schema
        name_of = schema.config.name_converter.from_argument
        self._arguments = [(name_of(each), each, _needs_no_conversion(each.type)) for each in field.arguments]
        self.shared = all(plain for _, _, plain in self._arguments)

    def of(self, values: Mapping[str, Any], info: Info[Any, Any]) -> dict[str, Any]:
        """By Python name; raises what a conversion raises."""
        return {
            argument.python_name: values[name] if plain else self._converted(name, argument, values[name], info)
            for name, argument, plain in self._arguments
            if name in values
        }

    def _converted(self, name: str, argument: StrawberryArgument, value: Any, info: Info[Any, Any]) -> Any:
        if value is None and type(argument.type) is StrawberryOptional:
            return None
        registry = self._schema.schema_converter.scalar_registry
        return convert_argument(value, argument.type, registry, self._schema.config, info, path=(name,))


def _alone(name: str, argument: GraphQLArgument, node: FieldNode, given: Any) -> dict[str, Any]:
    """One argument of a field: as it is given, or its default."""
    return get_argument_values(
        GraphQLField(GraphQLString, args={name: argument}),
        FieldNode(name=node.name, arguments=tuple(given or ()), loc=node.loc),
        _NO_VARIABLES,
    )


def _needs_no_conversion(type_: Any) -> bool:
    """Whether what graphql-core gives is what the resolver gets, and can't be changed by it."""
    if type(type_) is StrawberryOptional:
        type_ = type_.of_type
    return isinstance(type_, StrawberryEnumDefinition) or type_ in _NEED_NO_CONVERSION


def _holds_variables(node: Any) -> bool:
    found: list[VariableNode] = []

    class Finder(Visitor):
        def enter_variable(self, variable: VariableNode, *_: Any) -> None:
            found.append(variable)

    visit(node, Finder())
    return bool(found)
