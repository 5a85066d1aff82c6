"""What an operation costs: the rows that it may return, counted before it runs.

A list with `first` counts so many rows, each with what is selected below it; any other list counts `_LIST`. What has a
global id is a row; all else costs nothing of its own. @skip and @include are taken as if everything were included.
"""

from collections.abc import Mapping
from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    value_from_ast,
)

from api.config import Limits
from api.graphql.compiled.remembered import Remembered

_LIST: Final = 100
_MOST: Final = (1 << 31) - 1
"""What is told of more rows than that: fragments that spread fragments come to numbers without end."""
Variables = Mapping[str, Any]


class Costs:
    """Counts the operations of a schema. Those that stay within the limit whatever their variables say are counted
    once."""

    def __init__(self, limits: Limits) -> None:
        self.limit = limits.query_rows
        self._page_size = limits.page_size
        self._counters: Remembered[_Counter | None] = Remembered()

    def excess(
        self, schema: GraphQLSchema, document: DocumentNode, text: str, name: str | None, variables: Variables | None
    ) -> int | None:
        """The rows that an operation may return, when they are more than allowed. The document must be valid; it is
        known by its text."""
        key = (text, name)
        counter = self._counters.get(key)
        if counter is None and key not in self._counters:
            counter = self._counter(schema, document, name)
            self._counters.keep(key, counter, text)
        rows = counter.rows(variables or {}) if counter else 0
        return min(rows, _MOST) if rows > self.limit else None

    def _counter(self, schema: GraphQLSchema, document: DocumentNode, name: str | None) -> "_Counter | None":
        for each in document.definitions:
            if isinstance(each, OperationDefinitionNode) and (name is None or (each.name and each.name.value == name)):
                counter = _Counter(schema, document, each, self._page_size)
                return counter if counter.rows(None) > self.limit else None
        return None


class _Counter:
    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode, page_size: int
    ) -> None:
        self._schema = schema
        self._operation = operation
        self._page_size = page_size
        self._fragments = {
            each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)
        }
        self._defaults = {
            each.variable.name.value: value_from_ast(each.default_value, schema.get_type("Int"))  # type: ignore[arg-type]
            for each in operation.variable_definitions or ()
            if isinstance(each.default_value, IntValueNode)
        }

    def rows(self, variables: Variables | None) -> int:
        """With None, variables are as large as they may be."""
        known: dict[str, int] = {}
        root = self._schema.get_root_type(self._operation.operation)
        return self._selected(self._operation.selection_set, root, variables, known)

    def _selected(
        self,
        selections: SelectionSetNode | None,
        type_: GraphQLNamedType | None,
        variables: Variables | None,
        known: dict[str, int],
    ) -> int:
        total = 0
        for selection in selections.selections if selections else ():
            match selection:
                case FieldNode():
                    total += self._field(selection, type_, variables, known)
                case FragmentSpreadNode():
                    total += self._fragment(selection.name.value, variables, known)
                case InlineFragmentNode():
                    on = (
                        self._schema.get_type(selection.type_condition.name.value)
                        if selection.type_condition
                        else type_
                    )
                    total += self._selected(selection.selection_set, on, variables, known)
                case _:
                    continue
        return total

    def _fragment(self, name: str, variables: Variables | None, known: dict[str, int]) -> int:
        """Each is counted once; one that holds itself is refused by another rule."""
        if name not in known:
            known[name] = 0
            fragment = self._fragments.get(name)
            if fragment is not None:
                on = self._schema.get_type(fragment.type_condition.name.value)
                known[name] = self._selected(fragment.selection_set, on, variables, known)
        return known[name]

    def _field(
        self, node: FieldNode, parent: GraphQLNamedType | None, variables: Variables | None, known: dict[str, int]
    ) -> int:
        if not isinstance(parent, GraphQLObjectType | GraphQLInterfaceType) or node.selection_set is None:
            return 0
        field = parent.fields.get(node.name.value)
        named = get_named_type(field.type) if field else None
        if field is None or not is_composite_type(named):
            return 0
        below = self._selected(node.selection_set, named, variables, known)
        if "first" in field.args:
            return self._first(node, field, variables) * max(1, below)
        rows = below + _is_row(named)
        in_page = "pageInfo" in parent.fields
        return rows * _LIST if isinstance(get_nullable_type(field.type), GraphQLList) and not in_page else rows

    def _first(self, node: FieldNode, field: GraphQLField, variables: Variables | None) -> int:
        value: Any = field.args["first"].default_value
        for argument in node.arguments or ():
            if argument.name.value != "first":
                continue
            if isinstance(argument.value, VariableNode):
                name = argument.value.name.value
                value = self._page_size if variables is None else variables.get(name, self._defaults.get(name, value))
            elif isinstance(argument.value, IntValueNode):
                # What has more digits is refused by its own limit.
                value = int(argument.value.value) if len(argument.value.value) < 10 else self._page_size
        # What is no number is refused by the execution, before it executes anything.
        return max(0, min(int(value), self._page_size)) if isinstance(value, int | float) else 0


def _is_row(type_: object) -> bool:
    if isinstance(type_, GraphQLObjectType):
        return any(each.name == "Node" for each in type_.interfaces)
    return isinstance(type_, GraphQLInterfaceType) and type_.name == "Node"
