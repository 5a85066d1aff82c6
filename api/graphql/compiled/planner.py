"""From the selections of an operation to plans, by graphql-core's own rules for collecting and merging fields."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from graphql import (
    FragmentDefinitionNode,
    GraphQLLeafType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    OperationDefinitionNode,
    is_leaf_type,
)
from graphql.execution.collect_fields import FieldDetails, FragmentDetails, collect_fields, collect_subfields
from graphql.execution.values import VariableValues
from strawberry.schema import Schema

from api.graphql.compiled.fields import FieldPlan
from api.graphql.compiled.hooks import PLANNED, Ahead, Keyed, ReadAll, ReadEach
from api.graphql.compiled.leaves import Leaf
from api.graphql.compiled.objects import AbstractValues, ObjectPlan, ObjectValues
from api.graphql.compiled.values import LeafValues, ListValues, Values


class Planner:
    """Plans an operation for one choice of its @skip and @include."""

    def __init__(
        self,
        strawberry: Schema,
        operation: OperationDefinitionNode,
        fragments: dict[str, FragmentDefinitionNode],
        variables: VariableValues,
    ) -> None:
        self.strawberry = strawberry
        self.schema: GraphQLSchema = strawberry._schema  # noqa: SLF001 - graphql-core's, which Strawberry keeps there
        self.operation = operation
        self.fragment_definitions = fragments
        self._fragments = {name: FragmentDetails(definition) for name, definition in fragments.items()}
        self._variables = variables

    def root(self) -> ObjectPlan:
        """What is selected of the query type."""
        type_ = self.schema.query_type
        assert type_ is not None
        collected = collect_fields(self.schema, self._fragments, self._variables, type_, self.operation)
        plan = self._object(type_, collected.grouped_field_set)
        self._ask_ahead(plan)
        return plan

    def objects(self, field: FieldPlan, type_: Any, *, nullable: bool) -> ObjectValues:
        """Objects of one of several types, planned when the first one comes."""
        values = self._objects(field, type_, nullable=nullable)
        self._ask_ahead(values.plan)
        return values

    def _object(self, type_: GraphQLObjectType, selected: dict[str, list[FieldDetails]]) -> ObjectPlan:
        fields = []
        for order, details in enumerate(selected.values()):
            definition = self.schema.get_field(type_, details[0].node.name.value)
            if definition is not None:
                field = FieldPlan(self, type_, definition, [each.node for each in details], order)
                field.complete_by(self._values(field, field.type))
                fields.append(field)
        return ObjectPlan(type_, fields)

    def _objects(self, field: FieldPlan, type_: GraphQLObjectType, *, nullable: bool) -> ObjectValues:
        details = [FieldDetails(node, None) for node in field.nodes]
        collected = collect_subfields(self.schema, self._fragments, self._variables, self.operation, type_, details)
        return ObjectValues(field, self._object(type_, collected.grouped_field_set), nullable=nullable)

    def _values(self, field: FieldPlan, type_: GraphQLOutputType) -> Values:
        nullable = not isinstance(type_, GraphQLNonNull)
        inner: Any = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
        if isinstance(inner, GraphQLList):
            return ListValues(field, self._values(field, inner.of_type), nullable=nullable)
        if is_leaf_type(inner):
            leaf: GraphQLLeafType = inner
            return LeafValues(field, Leaf(leaf, nullable=nullable), nullable=nullable)
        if isinstance(inner, GraphQLObjectType):
            return self._objects(field, inner, nullable=nullable)
        return AbstractValues(field, inner, nullable=nullable)

    def _ask_ahead(self, plan: ObjectPlan) -> None:
        """Offers each field whose resolver can plan what is selected below it; from the root down."""
        for field in plan.fields:
            offered = field.field.metadata.get(PLANNED) if field.field and field.is_direct else None
            if offered is not None and not field.is_read:
                view = _View(field)
                resolver = offered(view)
                if resolver is not None:
                    view.take_effect()
                    field.resolve_by(resolver)
            if (below := field.object_values) is not None:
                self._ask_ahead(below.plan)


class _View:
    """A field as a plan sees it; what the plan says of it counts once the plan is taken."""

    def __init__(self, field: FieldPlan) -> None:
        self._field = field
        self._read: Callable[[], None] | None = None
        self._stand_in: ReadAll | None = None
        self._below = tuple(_View(each) for each in field.below)
        self.name = field.name

    @property
    def below(self) -> Sequence[Ahead]:
        return self._below

    def arguments(self, info: Any) -> dict[str, Any]:
        return self._field.arguments(info)

    def read(self, each: ReadEach, *, exact: bool = False) -> None:
        self._read = partial(self._field.read_by, each, None, exact=exact)

    def read_all(self, many: ReadAll, *, exact: bool = False) -> None:
        self._read = partial(self._field.read_by, None, many, exact=exact)

    def read_keyed(self, keyed: Keyed) -> None:
        self._read = partial(self._field.read_keyed_by, keyed)

    def stand_in(self, make: ReadAll) -> None:
        self._stand_in = make

    def take_effect(self) -> None:
        objects = self._field.object_values
        for each in self._below:
            each.take_effect()
        if self._read is not None:
            self._read()
        if objects is not None:
            objects.vouched = True
            objects.plan.make_stand_ins = self._stand_in
        self._field.complete_by(self._field.values)
