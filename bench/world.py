"""The database that everything is measured on: practices, patients and messages with their evidence.

Most messages are copied in with the sums of their evidence; those of the patients who are queried are written by the
functions that serve, with every event.
"""

import random
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from carepost.seed import ZONE
from carepost.seed_texts import LETTERS
from db.accounts import Account, create_account
from db.events import Matched, record_events
from db.ids import uuid7
from db.messages import Body, NewMessage, insert_messages, seal_body
from db.migrate import migrate
from db.pool import Connection, Database, PoolSize
from db.practices import Practice, create_practice
from db.sealing import Sealer
from mail.event import Event, EventKind, EventSource
from mail.failure import failure_from_reply
from mail.ids import AccountId, MessageId, PatientId, PracticeId
from mail.message import Address
from mail.status import AccountKind

SECRET_KEY: Final = "the secret key of the benchmark is long enough"
JWT_SECRET: Final = "the jwt secret of the benchmark is long enough"
MESSAGES_EACH: Final = 50
"""Messages of one patient."""

_COLUMNS: Final = (
    "practice_id",
    "id",
    "patient_id",
    "account_id",
    "account_kind",
    "recipient",
    "subject",
    "body",
    "track_opens",
    "queued_at",
    "attempts",
    "verdict",
    "sent_at",
    "delivered_at",
    "opened_at",
)


# How PostGraphile is taught a search: by a function that it offers as a field of the query.
_SEARCH_FOR_PEER: Final = """CREATE FUNCTION search_patients(search text) RETURNS SETOF patient
LANGUAGE sql STABLE AS $$
  SELECT * FROM patient WHERE practice_id = tenant()
    AND (strpos(lower_name, lower(search)) > 0 OR strpos(lower_email, lower(search)) > 0) ORDER BY lower_name, id
$$"""


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is. `queried` patients of each practice are asked for."""

    practices: int
    patients: int
    queried: int

    @property
    def messages(self) -> int:
        return self.practices * self.patients * MESSAGES_EACH


FULL: Final = Size(practices=20, patients=50, queried=10)
QUICK: Final = Size(practices=8, patients=50, queried=10)


@dataclass(frozen=True, slots=True)
class Tenant:
    """One practice; its ESP account's webhooks are signed with `secret`."""

    practice: Practice
    esp: Account
    smtp: Account
    secret: str
    queried: Sequence[PatientId]


async def make_world(url: str, size: Size) -> Sequence[Tenant]:
    """Migrates and fills the database."""
    await migrate(url)
    sealer = Sealer([SECRET_KEY])
    chance = random.Random(20190723)
    owner = await asyncpg.connect(url)
    try:
        async with Database(url, PoolSize(1, 1)) as database:
            tenants = [await _tenant(url, owner, database, sealer, chance, size, n) for n in range(size.practices)]
        await owner.execute(_SEARCH_FOR_PEER)
        await owner.execute("VACUUM ANALYZE")
        await owner.execute("CHECKPOINT")
    finally:
        await owner.close()
    return tenants


async def _tenant(
    url: str,
    owner: Connection,
    database: Database,
    sealer: Sealer,
    chance: random.Random,
    size: Size,
    number: int,
) -> Tenant:
    practice = await create_practice(url, f"Practice {number}", ZONE)
    secret = secrets.token_hex(16)
    patients = [(PatientId(uuid7(datetime.now(UTC))), f"patient.{n}@mail.example") for n in range(size.patients)]
    chance.shuffle(patients)
    async with database.tenant(practice.id) as connection:
        esp, smtp = [
            await create_account(
                connection,
                sealer,
                practice.id,
                AccountId(uuid7(datetime.now(UTC))),
                kind=kind,
                provider="mailersend" if kind is AccountKind.ESP else None,
                name=f"Account {kind.value}",
                sender=Address("hello@practice.example", practice.name),
                reply_to=None,
                is_default=kind is AccountKind.ESP,
                credentials={},
                webhook_secrets=[secret],
            )
            for kind in (AccountKind.ESP, AccountKind.SMTP)
        ]
    await owner.copy_records_to_table(
        "patient",
        records=[(practice.id, key_, f"Pat Example {n}", email) for n, (key_, email) in enumerate(patients)],
        columns=["practice_id", "id", "name", "email"],
    )
    queried, others = patients[: size.queried], patients[size.queried :]
    drafts = [
        _draft(chance.choice((esp, esp, esp, smtp)), *patient, chance)
        for patient in queried
        for _ in range(MESSAGES_EACH)
    ]
    chance.shuffle(drafts)
    async with database.tenant(practice.id) as connection:
        await insert_messages(connection, sealer, practice.id, drafts)
        await record_events(connection, practice.id, [event for draft in drafts for event in _life(draft, chance)])
    rows = [
        _copied(practice.id, sealer, _draft(chance.choice((esp, esp, esp, smtp)), *patient, chance), chance)
        for patient in others
        for _ in range(MESSAGES_EACH)
    ]
    # A patient's messages don't lie side by side: they were written over years.
    chance.shuffle(rows)
    await owner.copy_records_to_table("message", records=rows, columns=_COLUMNS)
    return Tenant(practice, esp, smtp, secret, [patient_id for patient_id, _ in queried])


def _draft(account: Account, patient_id: PatientId, email: str, chance: random.Random) -> NewMessage:
    letter = chance.choice(LETTERS)
    queued_at = datetime.now(UTC) - timedelta(days=5 + 700 * chance.random())
    return NewMessage(
        id=MessageId(uuid7(queued_at)),
        patient_id=patient_id,
        account_id=account.id,
        account_kind=account.kind,
        recipient=email,
        subject=letter.subject,
        body=Body(letter.text, None),
        track_opens=True,
        queued_at=queued_at,
    )


def _life(message: NewMessage, chance: random.Random) -> Iterator[Matched]:
    """Accepted; through the ESP mostly delivered, often opened, at times bounced."""

    def event(kind: EventKind, after: float, reply: str | None = None) -> Matched:
        at = message.queued_at + timedelta(seconds=after)
        failure = failure_from_reply(reply) if reply else None
        source = EventSource.ATTEMPT if kind is EventKind.ACCEPTED else EventSource.WEBHOOK
        stated = Event(kind=kind, occurred_at=at, dedupe_key=f"bench/{kind.value}", failure=failure)
        return Matched(message.id, stated, source, at)

    yield event(EventKind.ACCEPTED, 1)
    if message.account_kind is AccountKind.SMTP:
        return
    draw = chance.random()
    if draw < 0.08:
        yield event(EventKind.BOUNCED, 9, "550 5.1.1 The email account that you tried to reach does not exist")
    elif draw < 0.95:
        yield event(EventKind.DELIVERED, 6)
        if draw < 0.55:
            yield event(EventKind.OPENED, 5400)


def _copied(practice_id: PracticeId, sealer: Sealer, draft: NewMessage, chance: random.Random) -> tuple[object, ...]:
    """A row of `_COLUMNS`."""
    sent_at = draft.queued_at + timedelta(seconds=1)
    delivered = draft.account_kind is AccountKind.ESP
    opened = delivered and chance.random() < 0.5
    return (
        practice_id,
        draft.id,
        draft.patient_id,
        draft.account_id,
        draft.account_kind.value,
        draft.recipient,
        draft.subject,
        seal_body(sealer, practice_id, draft.id, draft.body),
        draft.track_opens,
        draft.queued_at,
        1,
        "opened" if opened else "delivered" if delivered else "sent",
        sent_at,
        sent_at + timedelta(seconds=5) if delivered else None,
        sent_at + timedelta(hours=1) if opened else None,
    )
