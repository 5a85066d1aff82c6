"""Documents: parsed, limited and validated once each.

The limits are ours, since those of the library visit a fragment as often as it is spread: a document of a hundred
fragments that each spread the next one twice would keep it busy for longer than anybody lives.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
    parse,
)
from strawberry.extensions import SchemaExtension
from strawberry.schema.schema import validate_document

from api.config import Limits
from api.graphql.compiled.remembered import Remembered
from api.graphql.cost import Costs

_IGNORED: Final = "__"


class Documents:
    """What a schema remembers of documents, by their text."""

    def __init__(self, limits: Limits) -> None:
        self.max_tokens = limits.query_tokens
        self.rule = _limit_rule(limits)
        self.costs = Costs(limits)
        self._parsed: Remembered[DocumentNode] = Remembered()
        self._found: Remembered[list[GraphQLError]] = Remembered()

    def document(self, text: str) -> DocumentNode:
        """Raises `GraphQLSyntaxError`, also for what is nested too deeply to be read."""
        document = self._parsed.get(text)
        if document is None:
            document = parse(text, max_tokens=self.max_tokens)
            self._parsed.keep(text, document, text)
        return document

    def errors(self, schema: GraphQLSchema, text: str, rules: tuple[Any, ...]) -> list[GraphQLError]:
        key = (text, rules)
        found = self._found.get(key)
        if found is None:
            found = validate_document(schema, self.document(text), rules)
            self._found.keep(key, found, text)
        return found


class CheckDocument(SchemaExtension):
    """Uses the remembered document of an operation."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def on_operation(self) -> Iterator[None]:
        context = self.execution_context
        context.parse_options["max_tokens"] = self._documents.max_tokens
        context.validation_rules = (*context.validation_rules, self._documents.rule)
        yield

    def on_parse(self) -> Iterator[None]:
        # What can't be parsed is left to the library, which parses again and answers what is raised. Raised here, it
        # would end a subscription without a word.
        with contextlib.suppress(GraphQLError):
            self.execution_context.graphql_document = self._documents.document(self.execution_context.query or "")
        yield

    def on_validate(self) -> Iterator[None]:
        context = self.execution_context
        schema = context.schema._schema  # noqa: SLF001
        errors = list(self._documents.errors(schema, context.query or "", context.validation_rules))
        if context._provided_operation_name is None and _operations(context.graphql_document) > 1:  # noqa: SLF001
            errors.append(
                GraphQLError("Say by `operationName` which operation is meant.", extensions={"code": "BAD_REQUEST"})
            )
        if not errors and context.graphql_document is not None:
            errors.extend(self._too_costly(schema, context.graphql_document))
        context.pre_execution_errors = errors
        yield

    def _too_costly(self, schema: GraphQLSchema, document: DocumentNode) -> Iterator[GraphQLError]:
        context, costs = self.execution_context, self._documents.costs
        rows = costs.excess(schema, document, context.query or "", context._provided_operation_name, context.variables)  # noqa: SLF001
        if rows is not None:
            yield GraphQLError(
                f"It may return {rows} rows, and {costs.limit} are allowed: ask for smaller pages.",
                extensions={"code": "QUERY_TOO_COSTLY", "rows": rows, "limit": costs.limit},
            )


def _operations(document: DocumentNode | None) -> int:
    return sum(isinstance(each, OperationDefinitionNode) for each in document.definitions) if document else 0


def _limit_rule(limits: Limits) -> type[ValidationRule]:
    class WithinLimits(ValidationRule):
        """Refuses operations that are too deep or hold too many aliases. Introspection's fields count for nothing."""

        def __init__(self, context: ValidationContext) -> None:
            super().__init__(context)
            definitions = context.document.definitions
            fragments = {each.name.value: each for each in definitions if isinstance(each, FragmentDefinitionNode)}
            measured = _Measure(fragments)
            for operation in definitions:
                if not isinstance(operation, OperationDefinitionNode):
                    continue
                depth, aliases = measured.of(operation.selection_set)
                if depth > limits.query_depth:
                    self.report_error(_refusal(f"At most {limits.query_depth} levels.", "QUERY_TOO_DEEP", operation))
                if aliases > limits.query_aliases:
                    self.report_error(
                        _refusal(f"At most {limits.query_aliases} aliases.", "TOO_MANY_ALIASES", operation)
                    )

    return WithinLimits


class _Measure:
    """Depth and aliases of selections. Each fragment is measured once; one that holds itself, or isn't there, is
    refused by another rule and counts for nothing here."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._known: dict[str, tuple[int, int]] = {}

    def of(self, selections: SelectionSetNode | None) -> tuple[int, int]:
        depth = aliases = 0
        for selection in selections.selections if selections else ():
            match selection:
                case FieldNode() if not selection.name.value.startswith(_IGNORED):
                    below, held = self.of(selection.selection_set)
                    below += selection.selection_set is not None
                    held += selection.alias is not None
                case FragmentSpreadNode():
                    below, held = self._fragment(selection.name.value)
                case InlineFragmentNode():
                    below, held = self.of(selection.selection_set)
                case _:
                    continue
            depth, aliases = max(depth, below), aliases + held
        return depth, aliases

    def _fragment(self, name: str) -> tuple[int, int]:
        if name not in self._known:
            self._known[name] = (0, 0)
            if name in self._fragments:
                self._known[name] = self.of(self._fragments[name].selection_set)
        return self._known[name]


def _refusal(message: str, code: str, operation: OperationDefinitionNode) -> GraphQLError:
    return GraphQLError(message, operation, extensions={"code": code})
