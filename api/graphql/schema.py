"""The schema, with its limits. `schema.graphql` at the root of the project is made from it and checked against it."""

from collections.abc import Callable, Mapping
from typing import Any

from graphql import GraphQLError
from strawberry.extensions import DisableIntrospection, SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.graphql import OperationType

from api.config import Limits
from api.graphql.compiled import CompilingSchema
from api.graphql.documents import CheckDocument, Documents
from api.graphql.errors import MaskUnexpected
from api.graphql.mutations import Mutation
from api.graphql.queries import Query
from api.graphql.subscriptions import Subscription
from api.graphql.types.account import SendingAccount
from api.graphql.types.delivery import WebhookDelivery
from api.graphql.types.event import MessageEvent
from api.graphql.types.message import Message
from api.graphql.types.patient import Patient
from api.graphql.types.practice import Practice


class Schema(CompilingSchema):
    """Logs no error itself: an error's text, and the document that it quotes, may hold a patient's data. Those that
    are unexpected are logged by `MaskUnexpected`."""

    documents: Documents

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        return

    def too_costly(self, text: str, operation_name: str | None, variables: Mapping[str, Any] | None) -> bool:
        """Whether a document that was executed before asks for too many rows this time."""
        document = self.documents.document(text)
        return self.documents.costs.excess(self._schema, document, text, operation_name, variables) is not None

    async def execute(self, query: str | None, **more: Any) -> ExecutionResult:  # type: ignore[override]
        """One answer, so no subscription: those are streamed."""
        allowed = set(more.pop("allowed_operation_types", None) or OperationType) - {OperationType.SUBSCRIPTION}
        return await super().execute(query, allowed_operation_types=allowed, **more)


def build_schema(limits: Limits | None = None, *, introspection: bool = True, compiling: bool = True) -> Schema:
    """With `compiling` off, everything is left to graphql-core."""
    limits = limits or Limits()
    documents = Documents(limits)
    # Factories, since an extension holds the state of one execution.
    extensions: list[Callable[[], SchemaExtension]] = [MaskUnexpected, lambda: CheckDocument(documents)]
    if not introspection:
        extensions.append(DisableIntrospection)
    schema = Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[Patient, Message, MessageEvent, SendingAccount, Practice, WebhookDelivery],
        extensions=extensions,
        compiling=compiling,
        config=StrawberryConfig(disable_field_suggestions=not introspection),
    )
    schema.documents = documents
    return schema
