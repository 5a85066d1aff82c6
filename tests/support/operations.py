"""Operations over the whole schema by hypothesis-graphql, made to meet what a database holds.

As generated their ids and cursors are of nothing. Here arguments are drawn from what is there, some become variables,
some of those are left out or of a wrong kind; fields get aliases, @skip and @include, and selections become fragments.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from graphql import (
    ArgumentNode,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSchema,
    InlineFragmentNode,
    ListValueNode,
    NamedTypeNode,
    NameNode,
    ObjectFieldNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    StringValueNode,
    TypeInfo,
    TypeInfoVisitor,
    VariableDefinitionNode,
    VariableNode,
    Visitor,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_enum_type,
    is_input_object_type,
    is_list_type,
    is_non_null_type,
    parse_const_value,
    parse_type,
    print_ast,
    visit,
)
from hypothesis import strategies as st
from hypothesis_graphql import nodes, queries

Known = Mapping[str, Sequence[Any]]
"""Values by argument, `Type.field.argument` or the name alone, that mean something in the database."""


def operations(schema: GraphQLSchema, known: Known) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """Documents with their variables."""
    times = st.datetimes().map(lambda at: nodes.String(at.isoformat() + "Z"))
    scalars = {"DateTime": times, "Date": st.dates().map(lambda on: nodes.String(on.isoformat()))}
    documents = queries(schema, custom_scalars=scalars, print_ast=lambda document: document, allow_x00=False)
    return st.builds(
        lambda document, seed: _mixed(schema, known, document, random.Random(seed)), documents, st.integers()
    )


def _mixed(
    schema: GraphQLSchema, known: Known, document: DocumentNode, chance: random.Random
) -> tuple[str, dict[str, Any]]:
    types = TypeInfo(schema)
    mixer = _Mixer(schema, known, types, chance)
    mixed = visit(document, TypeInfoVisitor(types, mixer))
    [operation] = [each for each in mixed.definitions if isinstance(each, OperationDefinitionNode)]
    declared = tuple(
        VariableDefinitionNode(
            variable=VariableNode(name=NameNode(value=name)),
            type=parse_type(type_),
            default_value=default,
            directives=(),
        )
        for name, (type_, default) in mixer.declared.items()
    )
    whole = OperationDefinitionNode(
        operation=operation.operation,
        name=NameNode(value="Mixed"),
        variable_definitions=declared,
        directives=(),
        selection_set=operation.selection_set,
    )
    return print_ast(DocumentNode(definitions=(whole, *mixer.fragments))), mixer.given


class _Mixer(Visitor):
    def __init__(self, schema: GraphQLSchema, known: Known, types: TypeInfo, chance: random.Random) -> None:
        super().__init__()
        self._schema = schema
        self._known = known
        self._types = types
        self._chance = chance
        self.declared: dict[str, tuple[str, Any]] = {}
        self.given: dict[str, Any] = {}
        self.fragments: list[FragmentDefinitionNode] = []

    def leave_field(self, node: FieldNode, *_: Any) -> FieldNode:
        arguments = list(node.arguments or ())
        parent, definition = self._types.get_parent_type(), self._types.get_field_def()
        if definition is not None and parent is not None:
            drawn = []
            for name, argument in definition.args.items():
                given = next((each for each in arguments if each.name.value == name), None)
                if (
                    given is None
                    and (not is_non_null_type(argument.type) or argument.default is not None)
                    and self._chance.random() < 0.6
                ):
                    continue
                value = self._value(f"{parent.name}.{node.name.value}.{name}", name, argument.type)
                literal = self._literal(value, argument.type, given.value if given else None)
                if literal is not None:
                    drawn.append(ArgumentNode(name=NameNode(value=name), value=literal))
            arguments = drawn
        alias = node.alias
        if alias is None and not arguments and self._chance.random() < 0.1:
            alias = NameNode(value=f"a{self._chance.randrange(1000)}_{node.name.value}")
        if arguments:
            alias = NameNode(value=f"b{len(self.given)}{self._chance.randrange(1000)}")
        return FieldNode(
            alias=alias,
            name=node.name,
            arguments=tuple(arguments),
            directives=self._directives(),
            selection_set=node.selection_set,
        )

    def leave_selection_set(self, node: SelectionSetNode, *_: Any) -> SelectionSetNode:
        type_ = self._types.get_type() or self._types.get_parent_type()
        named = get_named_type(type_) if type_ else None
        selections = list(node.selections)
        if named is None or not is_composite_type(named):
            return node
        if self._chance.random() < 0.3:
            selections.insert(
                self._chance.randint(0, len(selections)),
                FieldNode(name=NameNode(value="__typename"), arguments=(), directives=()),
            )
        if self._chance.random() < 0.25:
            cut = self._chance.randint(0, len(selections))
            inner = SelectionSetNode(selections=tuple(selections[cut:] or selections[:1]))
            on = NamedTypeNode(name=NameNode(value=named.name))
            if self._chance.random() < 0.5:
                name = NameNode(value=f"F{len(self.fragments)}")
                self.fragments.append(
                    FragmentDefinitionNode(
                        name=name, type_condition=on, directives=(), selection_set=inner, variable_definitions=()
                    )
                )
                spread: Any = FragmentSpreadNode(name=name, directives=self._directives(), arguments=())
            else:
                spread = InlineFragmentNode(type_condition=on, directives=self._directives(), selection_set=inner)
            selections.insert(self._chance.randint(0, len(selections)), spread)
        return SelectionSetNode(selections=tuple(selections))

    def _directives(self) -> tuple[DirectiveNode, ...]:
        if self._chance.random() > 0.08:
            return ()
        value = self._chance.random() < 0.5
        literal = (
            self._variable(value, "Boolean!") if self._chance.random() < 0.6 else parse_const_value(str(value).lower())
        )
        name = NameNode(value=self._chance.choice(["skip", "include"]))
        return (DirectiveNode(name=name, arguments=(ArgumentNode(name=NameNode(value="if"), value=literal),)),)

    def _value(self, place: str, name: str, type_: Any) -> Any:
        """What is there; None for what isn't known."""
        pool = self._known.get(place) or self._known.get(name)
        if pool and self._chance.random() < 0.9:
            return self._chance.choice(list(pool))
        inner = get_nullable_type(type_)
        if is_input_object_type(inner) and self._chance.random() < 0.9:
            return {
                field: self._value(f"{inner.name}.{field}", field, definition.type)
                for field, definition in inner.fields.items()
                if self._chance.random() < 0.35
            }
        if is_list_type(inner) and is_enum_type(get_named_type(inner)):
            names = list(get_named_type(inner).values)
            return [self._chance.choice(names) for _ in range(self._chance.randint(0, 3))]
        return None

    def _literal(self, value: Any, type_: Any, generated: Any) -> Any:
        """The value as a literal or as a variable; None to leave it out."""
        if value is None and generated is not None and self._chance.random() < 0.7:
            return generated
        if value is None and is_non_null_type(type_):
            value = self._chance.choice(["", 3, "2026-01-01"])
        if self._chance.random() < 0.5:
            return self._variable(value, str(type_))
        return _as_literal(value, get_named_type(type_))

    def _variable(self, value: Any, type_: str) -> VariableNode:
        name = f"v{len(self.declared)}"
        draw = self._chance.random()
        default = None
        if draw < 0.1 and not type_.endswith("!"):
            default = _as_literal(value, get_named_type(self._schema.type_map[type_.strip("[]!")]))
        self.declared[name] = (type_, default)
        if draw < 0.9 and default is None:
            self.given[name] = value
        elif draw > 0.97:
            self.given[name] = self._chance.choice([None, 1 << 40, "x", [], {"no": 1}, True])
        return VariableNode(name=NameNode(value=name))


def _as_literal(value: Any, type_: Any) -> Any:
    if isinstance(value, dict):
        fields = [
            ObjectFieldNode(name=NameNode(value=name), value=_as_literal(each, get_named_type(type_.fields[name].type)))
            for name, each in value.items()
            if name in type_.fields
        ]
        return ObjectValueNode(fields=tuple(fields))
    if isinstance(value, list):
        return ListValueNode(values=tuple(_as_literal(each, type_) for each in value))
    if value is None:
        return parse_const_value("null")
    if isinstance(value, bool):
        return parse_const_value(str(value).lower())
    if isinstance(value, int):
        return parse_const_value(str(value))
    if is_enum_type(type_):
        return parse_const_value(value)
    return StringValueNode(value=value, block=False)
