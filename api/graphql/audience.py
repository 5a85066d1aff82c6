"""Subscriptions that ask for the same thing share what they are told: each change is put into words once.

An audience is all those of a process who ask by the same document, for the same practice, in the same role, with the
same variables as far as they shape the answer. Which messages each of them watches is its own affair.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from weakref import WeakValueDictionary

import orjson
from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    GraphQLError,
    GraphQLField,
    Node,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    Visitor,
    execute,
    specified_rules,
    visit,
)
from graphql.execution.values import VariableValues, get_argument_values, get_variable_values

from api.auth import Principal
from api.graphql.context import Context, Services
from api.graphql.errors import MaskUnexpected
from api.graphql.ids import live_cursor, read_live_cursor
from api.graphql.schema import Schema
from api.graphql.subscriptions import MessageStatusChanged, read_watch
from api.graphql.types.message import Message
from api.subscriber import Watch
from db.changes import Change
from db.position import Position
from db.practices import Practice

_FIELD: Final = "messageStatusChanged"
_REMEMBERED: Final = 500
_LONGEST_REMEMBERED: Final = 10_000
_KEPT: Final = 256
_FRESH: Final = 1.0
"""Seconds for which the words for a change serve those who come to it later."""


@dataclass(frozen=True, slots=True)
class LiveDocument:
    """A document that passed every check, and the operation in it that asks for message changes alone. `shaping` are
    the variables that say how a change is told; the others say which."""

    document: DocumentNode
    operation: OperationDefinitionNode
    field: FieldNode
    shaping: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wish:
    """What one subscription asks for."""

    watch: Watch
    since: Position | None
    audience: "Audience"


class Telling:
    """One change in the words of one audience: `text` is a result in JSON, None until it is there."""

    __slots__ = ("_waiting", "at", "text")

    def __init__(self) -> None:
        self.at = time.monotonic()
        self.text: str | None = None
        self._waiting: list[Callable[[], None]] = []

    def wake_when_there(self, wake: Callable[[], None]) -> None:
        self._waiting.append(wake)

    def become(self, result: ExecutionResult) -> None:
        answer: dict[str, Any] = {"data": result.data}
        if result.errors:
            answer["errors"] = [error.formatted for error in MaskUnexpected().shown(result.errors)]
        self.text = orjson.dumps(answer, option=orjson.OPT_PASSTHROUGH_SUBCLASS, default=str).decode()
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()


class Audiences:
    """All audiences of a process."""

    def __init__(self, schema: Schema, services: Services) -> None:
        self._schema = schema
        self._services = services
        self._audiences: WeakValueDictionary[tuple[object, ...], Audience] = WeakValueDictionary()
        self._document = lru_cache(_REMEMBERED)(self._read)

    def wish(
        self, context: Context, text: str, operation_name: str | None, variables: Mapping[str, Any] | None
    ) -> Wish | None:
        """What an operation asks for; None when it is no subscription to message changes, or anything is wrong with
        it: then it is executed as every other operation, and that says what is."""
        if len(text) > _LONGEST_REMEMBERED:
            return None
        found = self._document(text, operation_name)
        if found is None:
            return None
        variables = variables or {}
        schema = self._schema._schema  # noqa: SLF001 - graphql-core's, which Strawberry keeps there
        try:
            values = get_variable_values(schema, found.operation.variable_definitions or (), dict(variables))
            if not isinstance(values, VariableValues):
                return None
            wanted = get_argument_values(self._field(), found.field, values)
            watch = read_watch(wanted.get("patientId"), wanted.get("messageIds"))
            since = read_live_cursor(wanted.get("since"))
        except GraphQLError:
            return None
        if self._schema.too_costly(text, operation_name, variables):
            return None
        shape = orjson.dumps({name: variables[name] for name in found.shaping if name in variables})
        key = (context.practice_id, context.principal.role, text, operation_name, shape)
        audience = self._audiences.get(key)
        if audience is None:
            audience = Audience(
                self._schema, self._services, context.principal, context.practice, found, dict(variables)
            )
            self._audiences[key] = audience
        return Wish(watch, since, audience)

    def _field(self) -> GraphQLField:
        subscription = self._schema._schema.subscription_type  # noqa: SLF001
        assert subscription is not None
        field: GraphQLField = subscription.fields[_FIELD]
        return field

    def _read(self, text: str, operation_name: str | None) -> LiveDocument | None:
        documents = self._schema.documents
        try:
            document = documents.document(text)
            rules = (*specified_rules, documents.rule)
            if documents.errors(self._schema._schema, text, rules):  # noqa: SLF001
                return None
        except GraphQLError:
            return None
        operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
        named = [each for each in operations if operation_name is None or _name(each) == operation_name]
        if len(named) != 1 or named[0].operation is not OperationType.SUBSCRIPTION or named[0].directives:
            return None
        [*others, field] = named[0].selection_set.selections
        if others or not isinstance(field, FieldNode) or field.name.value != _FIELD or field.directives:
            return None
        shaping = {
            each
            for definition in document.definitions
            for each in _variables(field.selection_set if definition is named[0] else definition)
        }
        return LiveDocument(document, named[0], field, tuple(sorted(shaping)))


class Audience:
    """Who asks for the same thing. `principal` is the first one's; only its practice and role may shape an answer."""

    def __init__(
        self,
        schema: Schema,
        services: Services,
        principal: Principal,
        home: Practice,
        asked: LiveDocument,
        variables: dict[str, Any],
    ) -> None:
        self._schema = schema
        self._context = Context(services, signed_in=principal, home=home, many_see=True)
        self._asked = asked
        self._variables = variables
        self._tellings: OrderedDict[tuple[object, ...], Telling] = OrderedDict()
        self._making: set[asyncio.Future[ExecutionResult]] = set()

    def tell(self, change: Change, position: Position) -> Telling:
        """The change in this audience's words, made at once if nobody asked for it within a second."""
        key = (change.message.id, change.transaction, position)
        known = self._tellings.get(key)
        if known is not None and time.monotonic() < known.at + _FRESH:
            return known
        telling = self._tellings[key] = Telling()
        if len(self._tellings) > _KEPT:
            self._tellings.popitem(last=False)
        context = self._context
        message = Message.of(change.message, context.first_tracked)
        result = execute(
            self._schema._schema,  # noqa: SLF001
            self._asked.document,
            root_value=MessageStatusChanged(message=message, cursor=live_cursor(position)),
            context_value=context,
            variable_values=self._variables,
            operation_name=_name(self._asked.operation),
            executor_class=self._schema.execution_context_class,
        )
        if isinstance(result, ExecutionResult):
            telling.become(result)
        else:
            making = asyncio.ensure_future(result)
            self._making.add(making)
            making.add_done_callback(lambda done: self._finish(telling, done))
        return telling

    def _finish(self, telling: Telling, done: asyncio.Future[ExecutionResult]) -> None:
        self._making.discard(done)
        if not done.cancelled():
            error = done.exception()
            telling.become(done.result() if error is None else _failed(error))


def _failed(error: BaseException) -> ExecutionResult:
    original = error if isinstance(error, Exception) else RuntimeError(type(error).__name__)
    return ExecutionResult(None, [GraphQLError(str(original), original_error=original)])


def _name(operation: OperationDefinitionNode) -> str | None:
    return operation.name.value if operation.name else None


def _variables(node: Node | None) -> set[str]:
    found: set[str] = set()

    class Finder(Visitor):
        def enter_variable(self, variable: VariableNode, *_: Any) -> None:
            found.add(variable.name.value)

    if node is not None:
        visit(node, Finder())
    return found
