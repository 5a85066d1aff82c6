"""One operation of a document, planned once for each choice of its @skip and @include, and run with variables."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from graphql import (
    DirectiveNode,
    DocumentNode,
    ExecutionResult,
    FragmentDefinitionNode,
    GraphQLError,
    Node,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    Visitor,
    visit,
)
from graphql.execution.values import VariableValues
from strawberry.schema import Schema

from api.graphql.compiled.objects import ObjectPlan
from api.graphql.compiled.places import Place
from api.graphql.compiled.planner import Planner
from api.graphql.compiled.run import NULLED, Run
from api.graphql.compiled.variables import Variables

_MOST_CHOICES: Final = 16
_CHOOSING: Final = frozenset({"skip", "include"})


class NotCompiled(Exception):
    """The operation is left to graphql-core; the text says why."""


class CompiledOperation:
    """A query. The document must have been validated against the schema."""

    def __init__(self, schema: Schema, document: DocumentNode, operation_name: str | None = None) -> None:
        """Raises `NotCompiled`."""
        operation = _operation(document, operation_name)
        self._schema = schema
        self._operation = operation
        self._fragments = {
            each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)
        }
        self._choosing = sorted(_refuse_or_choose(document))
        self._variables = Variables(schema._schema, operation)  # noqa: SLF001 - graphql-core's, kept there
        self._plans: dict[tuple[object, ...], ObjectPlan] = {}

    def start(
        self,
        given: Mapping[str, Any] | None,
        context: Any = None,
        root: Any = None,
        extensions: dict[str, Any] | None = None,
        *,
        native: bool = False,
    ) -> Run | None:
        """A run with these variables; None when they are refused: graphql-core tells why."""
        variables = self._variables.coerced(given or {})
        if variables is None:
            return None
        try:
            plan = self._plan(variables)
        except GraphQLError:  # a @skip or @include that is told neither
            return None
        return Run(plan, variables, context, root, extensions, native=native)

    async def finish(self, run: Run) -> ExecutionResult:
        """The answer. `data` holds datetimes where the run is native."""
        [data] = await run.plan.write(run, Place(), [run.root])
        return ExecutionResult(None if data is NULLED else data, run.errors())

    def _plan(self, variables: VariableValues) -> ObjectPlan:
        choice = tuple(variables.coerced.get(name) for name in self._choosing)
        plan = self._plans.get(choice)
        if plan is None:
            if len(self._plans) >= _MOST_CHOICES:
                self._plans.clear()
            plan = Planner(self._schema, self._operation, self._fragments, variables).root()
            self._plans[choice] = plan
        return plan


def _operation(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    named = [each for each in operations if name is None or (each.name and each.name.value == name)]
    if len(named) != 1:
        raise NotCompiled("no operation, or several of that name")
    if named[0].operation is not OperationType.QUERY:
        raise NotCompiled(f"a {named[0].operation.value}")
    return named[0]


def _refuse_or_choose(document: DocumentNode) -> set[str]:
    """The variables that choose what is selected; raises `NotCompiled` for what only graphql-core does."""
    choosing: set[str] = set()

    class Reader(Visitor):
        def enter_field(self, node: Any, *_: Any) -> None:
            name = node.name.value
            if name.startswith("__") and name != "__typename":
                raise NotCompiled("introspection")

        def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
            if node.name.value not in _CHOOSING:
                raise NotCompiled(f"@{node.name.value}")
            choosing.update(each.name.value for each in _variables_in(node))

        def enter_fragment_definition(self, node: FragmentDefinitionNode, *_: Any) -> None:
            if node.variable_definitions:
                raise NotCompiled("a fragment with variables")

    visit(document, Reader())
    return choosing


def _variables_in(node: Node) -> Iterator[VariableNode]:
    found: list[VariableNode] = []

    class Finder(Visitor):
        def enter_variable(self, variable: VariableNode, *_: Any) -> None:
            found.append(variable)

    visit(node, Finder())
    yield from found
