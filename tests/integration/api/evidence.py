"""Evidence about messages, written as a worker writes it: in a transaction, then announced."""

import itertools
from datetime import UTC, datetime

from db.accounts import Account
from db.events import Matched, record_events
from db.messages import insert_messages
from db.patients import Patient
from db.pool import Database
from db.practices import Practice
from mail.event import Event, EventKind, EventSource
from mail.failure import Failure, FailureKind
from mail.ids import MessageId
from tests.support.databases import OWN_SEALER
from tests.support.practice import draft_of
from workers.jobs import Jobs

_numbers = itertools.count()


def event(kind: EventKind, at: datetime | None = None) -> Event:
    """An event of its own, with a failure where its kind has one."""
    failed = kind in {EventKind.BOUNCED, EventKind.SOFT_BOUNCED, EventKind.REJECTED, EventKind.FAILED}
    return Event(
        kind=kind,
        occurred_at=at or datetime.now(UTC),
        dedupe_key=f"test-{next(_numbers)}",
        failure=Failure(FailureKind.ADDRESS_UNKNOWN, 550, "5.1.1", "550 5.1.1 No such user") if failed else None,
    )


class Evidence:
    def __init__(self, database: Database, hurry: Jobs) -> None:
        self._database = database
        self.hurry = hurry

    async def of(self, practice: Practice, message_id: MessageId, *kinds: EventKind, announced: bool = True) -> None:
        """Records an event of each kind, in one transaction."""
        found = [Matched(message_id, event(kind), EventSource.WEBHOOK, datetime.now(UTC)) for kind in kinds]
        async with self._database.tenant(practice.id) as connection:
            await record_events(connection, practice.id, found)
        if announced:
            await self.hurry.announce(practice.id)


async def make_messages(
    database: Database, practice: Practice, patient: Patient, account: Account, count: int
) -> list[MessageId]:
    """Queued messages that no worker will ever take."""
    drafts = [draft_of(patient, account, subject=f"Letter {number}") for number in range(count)]
    async with database.tenant(practice.id) as connection:
        await insert_messages(connection, OWN_SEALER, practice.id, drafts)
    return [draft.id for draft in drafts]
