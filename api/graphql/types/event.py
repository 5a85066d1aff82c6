"""MessageEvent: evidence."""

from collections.abc import Sequence
from datetime import datetime

import strawberry

from api.graphql.enums import described
from api.graphql.ids import event_cursor, global_id
from api.graphql.types.connection import Connection, Node, edges_and_info
from api.graphql.types.failure import Failure
from db.event_pages import StoredEvent
from mail.event import EventKind, EventSource

described(EventKind)
described(EventSource)


@strawberry.type(description="One piece of evidence about a message; appended, never changed.")
class MessageEvent(Node):
    id: strawberry.ID = strawberry.field(description="Global id; opaque.")
    kind: EventKind = strawberry.field(description="What happened.")
    occurred_at: datetime = strawberry.field(description="When it happened, by the clock of who reports it.")
    received_at: datetime = strawberry.field(description="When we learned of it.")
    source: EventSource = strawberry.field(description="How we learned of it.")
    machine: bool = strawberry.field(
        description="An open or click by a mail proxy or scanner, which counts for nothing."
    )
    detail: str = strawberry.field(description="The ESP's own name for it, or the server's reply; may be empty.")
    failure: Failure | None = strawberry.field(description="What stood in the way, for events that say so.")

    @classmethod
    def of(cls, row: StoredEvent) -> "MessageEvent":
        return cls(
            id=global_id("MessageEvent", f"{row.message_id}/{row.dedupe_key}"),
            kind=row.kind,
            occurred_at=row.occurred_at,
            received_at=row.received_at,
            source=row.source,
            machine=row.machine,
            detail=row.detail,
            failure=Failure.of(row.failure) if row.failure else None,
        )


@strawberry.type(description="A page of evidence, in the order in which it happened.")
class MessageEventConnection(Connection[MessageEvent]):
    @classmethod
    def from_rows(cls, rows: Sequence[StoredEvent], first: int, after: str | None) -> "MessageEventConnection":
        edges, page_info = edges_and_info(
            rows, first, after, lambda row: event_cursor(row.occurred_at, row.dedupe_key), MessageEvent.of
        )
        return cls(edges=edges, page_info=page_info)
