"""A Strawberry schema that compiles the queries it can, and leaves the rest to graphql-core."""

from collections.abc import Callable
from typing import Any

import strawberry
from graphql import DocumentNode, ExecutionResult, GraphQLSchema, OperationDefinitionNode
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from api.graphql.compiled.operation import CompiledOperation, NotCompiled
from api.graphql.compiled.remembered import LONGEST, Remembered
from api.graphql.compiled.run import Run


class CompilingSchema(strawberry.Schema):
    """Takes the place of graphql-core's `execute`, so that whatever Strawberry does before and after is done as ever:
    extensions, parsing, validation, the handling of errors. Schemas with extensions that resolve fields, directives
    of their own, an execution context of their own or incremental delivery are left alone."""

    def __init__(self, *arguments: Any, compiling: bool = True, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._compiled: Remembered[CompiledOperation | None] = Remembered()
        self._compiling = (
            compiling
            and not tuple(self.directives)
            and self.execution_context_class is StrawberryGraphQLCoreExecutionContext
            and not self.config.enable_experimental_incremental_execution
        )

    def compiled(self, text: str, operation_name: str | None) -> CompiledOperation | None:
        """The operation of a document that was executed before, so passed whatever checks documents; else None."""
        return self._compiled.get((text, operation_name))

    def _get_execute_function(self) -> Callable[..., Any]:
        left_to = super()._get_execute_function()
        if not self._compiling:
            return left_to

        def execute(
            schema: GraphQLSchema,
            document: DocumentNode,
            root_value: Any = None,
            context_value: Any = None,
            variable_values: dict[str, Any] | None = None,
            operation_name: str | None = None,
            operation_extensions: dict[str, Any] | None = None,
            middleware: Any = None,
            **more: Any,
        ) -> Any:
            # Strawberry says by `is_async_iterable` that nothing can be awaited.
            if not (middleware and middleware.middlewares) and "is_async_iterable" not in more:
                operation = self._operation(document, operation_name)
                if operation is not None:
                    run = operation.start(variable_values, context_value, root_value, operation_extensions)
                    if run is not None:
                        return self._finish(operation, run)
            return left_to(
                schema,
                document,
                root_value=root_value,
                context_value=context_value,
                variable_values=variable_values,
                operation_name=operation_name,
                operation_extensions=operation_extensions,
                middleware=middleware,
                **more,
            )

        return execute

    async def _finish(self, operation: CompiledOperation, run: Run) -> ExecutionResult:
        return await operation.finish(run)

    def _operation(self, document: DocumentNode, name: str | None) -> CompiledOperation | None:
        source = document.loc.source.body if document.loc else ""
        key = (source, name)
        if key in self._compiled:
            return self._compiled.get(key)
        if not source or len(source) > LONGEST:
            return None
        try:
            operation = CompiledOperation(self, document, name)
        except NotCompiled:
            operation = None
        self._compiled.keep(key, operation, source)
        # Strawberry gives the name of the operation, whether the client gave one or not.
        if sum(isinstance(each, OperationDefinitionNode) for each in document.definitions) == 1:
            self._compiled.keep((source, None), operation, "")
        return operation
