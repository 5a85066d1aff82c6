"""What a resolver is told of where it stands: the members of graphql-core's GraphQLResolveInfo, made when asked for."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from graphql import FieldNode, FragmentDefinitionNode, GraphQLOutputType, GraphQLSchema, OperationDefinitionNode
from graphql.pyutils import Path, gather_with_cancel
from graphql.type import GraphQLObjectType, GraphQLResolveInfoHelpers
from strawberry.execution import optimized_is_awaitable

from api.graphql.compiled.places import Place
from api.graphql.compiled.run import Run

if TYPE_CHECKING:
    from api.graphql.compiled.fields import FieldPlan


class ResolveInfo:
    """Of one field of one parent; of all parents alike where a batch is resolved, with the path of the first."""

    __slots__ = ("_field", "_number", "_place", "run")

    abort_signal = None
    async_helpers = GraphQLResolveInfoHelpers(
        gather=lambda awaitables: gather_with_cancel(*awaitables),
        track=lambda awaitables: None,
    )

    def __init__(self, run: Run, field: "FieldPlan", place: Place, number: int) -> None:
        self.run = run
        self._field = field
        self._place = place
        self._number = number

    @property
    def field_name(self) -> str:
        return self._field.name

    @property
    def field_nodes(self) -> list[FieldNode]:
        return self._field.nodes

    @property
    def return_type(self) -> GraphQLOutputType:
        return self._field.type

    @property
    def parent_type(self) -> GraphQLObjectType:
        return self._field.parent_type

    @property
    def path(self) -> Path:
        path: Path | None = None
        place, number = self._place.field(self._number)
        for key in place.trail(number).path:
            path = Path(path, key, None)
        assert path is not None
        return Path(path.prev, path.key, self._field.parent_type.name)

    @property
    def schema(self) -> GraphQLSchema:
        return self._field.planner.schema

    @property
    def fragments(self) -> dict[str, FragmentDefinitionNode]:
        return self._field.planner.fragment_definitions

    @property
    def root_value(self) -> Any:
        return self.run.root

    @property
    def operation(self) -> OperationDefinitionNode:
        return self._field.planner.operation

    @property
    def variable_values(self) -> dict[str, Any]:
        return self.run.variables.coerced

    @property
    def context(self) -> Any:
        return self.run.context

    @property
    def operation_extensions(self) -> dict[str, Any] | None:
        return self.run.extensions

    @property
    def is_awaitable(self) -> Callable[[Any], bool]:
        return optimized_is_awaitable
