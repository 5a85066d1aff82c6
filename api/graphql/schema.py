"""The schema, with its limits. `schema.graphql` at the root of the project is made from it and checked against it."""

from collections.abc import Callable

import strawberry
from strawberry.extensions import (
    DisableIntrospection,
    MaxAliasesLimiter,
    MaxTokensLimiter,
    ParserCache,
    QueryDepthLimiter,
    SchemaExtension,
    ValidationCache,
)
from strawberry.schema.config import StrawberryConfig

from api.config import Limits
from api.graphql.errors import MaskUnexpected
from api.graphql.mutations import Mutation
from api.graphql.queries import Query
from api.graphql.subscriptions import Subscription
from api.graphql.types.account import SendingAccount
from api.graphql.types.event import MessageEvent
from api.graphql.types.message import Message
from api.graphql.types.patient import Patient
from api.graphql.types.practice import Practice

_REMEMBERED_DOCUMENTS = 500


def build_schema(limits: Limits | None = None, *, introspection: bool = True) -> strawberry.Schema:
    limits = limits or Limits()
    # Factories, since an extension holds the state of one execution; the caches stand at their modules' level.
    extensions: list[Callable[[], SchemaExtension]] = [
        lambda: MaxTokensLimiter(max_token_count=limits.query_tokens),
        lambda: ParserCache(maxsize=_REMEMBERED_DOCUMENTS),
        lambda: MaxAliasesLimiter(max_alias_count=limits.query_aliases),
        lambda: QueryDepthLimiter(max_depth=limits.query_depth),
        lambda: ValidationCache(maxsize=_REMEMBERED_DOCUMENTS),
        MaskUnexpected,
    ]
    if not introspection:
        extensions.append(DisableIntrospection)
    return strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[Patient, Message, MessageEvent, SendingAccount, Practice],
        extensions=extensions,
        config=StrawberryConfig(disable_field_suggestions=not introspection),
    )
