"""Patient: whom the practice writes to."""

from collections.abc import Sequence
from uuid import UUID

import strawberry

from api.graphql import batches
from api.graphql.compiled import batched
from api.graphql.context import Info, PageKey
from api.graphql.enums import described
from api.graphql.ids import global_id, read_key_cursor
from api.graphql.types.connection import Connection, Node, page_size
from api.graphql.types.message import MessageConnection, MessageFilter
from api.views import View
from db.messages import MessageFilter as FilterValue
from db.patients import Patient as PatientRow
from mail.health import EmailHealth

described(EmailHealth)


@strawberry.type(description="Whom the practice writes to.")
class Patient(Node):
    row: strawberry.Private[PatientRow]
    id: strawberry.ID = strawberry.field(description="Global id; opaque.")
    name: str = strawberry.field(description="Full name.")
    email: str = strawberry.field(description="The address that emails go to.")
    email_health: EmailHealth = strawberry.field(
        description="Whether emails reach that address, by the latest evidence."
    )
    open_tracking: bool = strawberry.field(description="Whether the patient consents to open tracking.")

    @strawberry.field(
        description="The Messages tab: emails to this patient, newest first.", metadata=batched(batches.messages_of)
    )
    async def messages(
        self,
        info: Info,
        filter: MessageFilter | None = None,
        first: int = 25,
        after: str | None = None,
    ) -> MessageConnection:
        size = page_size(info, first)
        wanted = filter.value() if filter else FilterValue()
        if wanted is None or wanted.patient_id not in {None, self.row.id}:
            return MessageConnection.empty(await info.context.database.horizon.reached())
        key = PageKey(self.row.id, wanted, size + 1, read_key_cursor(after))
        reached = await info.context.database.horizon.reached()
        page = await info.context.load.messages_of.load(key)
        return MessageConnection.from_page(page, reached, size, after, info.context.first_tracked)

    @classmethod
    def of(cls, row: PatientRow) -> "Patient":
        return cls(
            row=row,
            id=global_id("Patient", row.id),
            name=row.name,
            email=row.email,
            email_health=row.email_health,
            open_tracking=row.open_tracking,
        )


def searched(text: str) -> str:
    """What is searched for: of endless texts the beginning, and nothing that Postgres can't hold."""
    return text.replace("\x00", "")[:200]


def saw_patients(info: Info, search: str, patient_ids: Sequence[UUID]) -> None:
    """Notes a list of patients, but not what was searched for: it may be anything that is known of somebody."""
    info.context.saw(View.SEARCH if search.strip() else View.PATIENTS, patient_ids)


@strawberry.type(description="A page of patients, by name.")
class PatientConnection(Connection[Patient]):
    pass
