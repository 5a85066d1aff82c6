"""The outbox: messages that are due, claimed with a lease and a fencing token, and what came of each attempt."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from db.errors import SealBroken
from db.events import Matched, record_events
from db.messages import Body, open_body
from db.parked import join_parked
from db.pool import Connection, Pool
from db.sealing import Sealer
from mail.event import Event, EventKind, EventSource
from mail.ids import AccountId, MessageId, PracticeId
from mail.message import Address
from mail.status import AccountKind


class AttemptOutcome(Enum):
    """How one try to send ended."""

    ACCEPTED = "accepted"
    """A server took the email."""
    DEFERRED = "deferred"
    """It was put off; another attempt follows."""
    REFUSED = "refused"
    """It was refused for good, or given up."""
    AMBIGUOUS = "ambiguous"
    """The connection ended between the handover and the answer."""
    ABANDONED = "abandoned"
    """The worker vanished; found after its lease had ended."""


@dataclass(frozen=True, slots=True)
class Due:
    """A message that a worker has to look at."""

    practice_id: PracticeId
    message_id: MessageId


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to send one message until the lease ends. `number` is the attempt's number and its fencing token:
    once another attempt has begun, what this one writes is refused. `body` is None when its seal doesn't open.
    `account_refused` says that the last send was refused for the account's key."""

    practice_id: PracticeId
    message_id: MessageId
    number: int
    account_id: AccountId
    account_kind: AccountKind
    provider: str | None
    sender: Address
    reply_to: Address | None
    recipient: Address
    subject: str
    body: Body | None
    track_opens: bool
    queued_at: datetime
    first_due: datetime
    started_at: datetime
    account_refused: bool


async def find_due(dispatcher: Pool, limit: int) -> Sequence[Due]:
    """Messages of any practice that are due, the longest due first."""
    rows = await dispatcher.fetch(
        "SELECT practice_id, id FROM message WHERE due_at <= now() ORDER BY due_at LIMIT $1", limit
    )
    return [Due(row["practice_id"], row["id"]) for row in rows]


async def claim(
    connection: Connection, sealer: Sealer, practice_id: PracticeId, message_id: UUID, worker: str, lease: timedelta
) -> Claim | None:
    """Claims a message that is due; None when it isn't, or another worker has it.

    An earlier attempt whose lease ended without an outcome is recorded as ambiguous. Must be committed before
    the wire is touched.
    """
    row = await connection.fetchrow(
        """
        WITH claimed AS (
            UPDATE message m SET attempts = m.attempts + 1, due_at = now() + $4
            FROM sending_account a, patient p
            WHERE m.practice_id = $1 AND m.id = $2 AND m.verdict = 'queued' AND m.due_at <= now()
                AND a.practice_id = m.practice_id AND a.id = m.account_id
                AND p.practice_id = m.practice_id AND p.id = m.patient_id
            RETURNING m.*, a.provider, a.from_name, a.from_email, a.reply_to, p.name AS patient_name,
                a.credentials_refused_at IS NOT NULL AS account_refused
        ), abandoned AS (
            UPDATE attempt t SET ended_at = now(), outcome = 'abandoned' FROM claimed c
            WHERE t.practice_id = c.practice_id AND t.message_id = c.id AND t.ended_at IS NULL
            RETURNING t.number
        ), opened AS (
            INSERT INTO attempt (practice_id, message_id, number, worker, lease_until)
            SELECT practice_id, id, attempts, $3, due_at FROM claimed
        )
        SELECT claimed.*, now() AS now, ARRAY(SELECT number FROM abandoned) AS abandoned FROM claimed
        """,
        practice_id,
        message_id,
        worker,
        lease,
    )
    if row is None:
        return None
    lost = [
        _own_event(EventKind.ATTEMPT_AMBIGUOUS, f"attempt/{number}/abandoned", row["now"], "attempt abandoned")
        for number in row["abandoned"]
    ]
    await record_events(connection, practice_id, [_matched(row["id"], event) for event in lost])
    try:
        body = open_body(sealer, practice_id, row["id"], row["body"])
    except SealBroken:
        body = None
    return Claim(
        practice_id=practice_id,
        message_id=row["id"],
        number=row["attempts"],
        account_id=row["account_id"],
        account_kind=AccountKind(row["account_kind"]),
        provider=row["provider"],
        sender=Address(row["from_email"], row["from_name"]),
        reply_to=Address(row["reply_to"]) if row["reply_to"] else None,
        recipient=Address(row["recipient"], row["patient_name"]),
        subject=row["subject"],
        body=body,
        track_opens=row["track_opens"],
        queued_at=row["queued_at"],
        first_due=row["scheduled_at"] or row["queued_at"],
        started_at=row["now"],
        account_refused=row["account_refused"],
    )


async def finish(
    connection: Connection,
    claimed: Claim,
    outcome: AttemptOutcome,
    event: Event,
    *,
    provider_message_id: str | None = None,
    due_at: datetime | None = None,
) -> bool:
    """Writes what came of an attempt, in one transaction with its evidence.

    `due_at` is when to try again; None when it's over. False, and nothing written, when the lease was lost and
    another attempt has begun.
    """
    # The message is locked before its attempt, as a claim does it, or the two would wait for each other.
    ended = await connection.fetchval(
        "WITH locked AS MATERIALIZED (SELECT id FROM message WHERE practice_id = $1 AND id = $2 FOR NO KEY UPDATE) "
        "UPDATE attempt t SET ended_at = now(), outcome = $4 FROM locked "
        "WHERE t.practice_id = $1 AND t.message_id = locked.id AND t.number = $3 AND t.ended_at IS NULL RETURNING true",
        claimed.practice_id,
        claimed.message_id,
        claimed.number,
        outcome.value,
    )
    if not ended:
        return False
    await connection.execute(
        "UPDATE message SET due_at = CASE WHEN verdict = 'queued' THEN $4::timestamptz END, "
        "provider_message_id = coalesce($5, provider_message_id), changed_xid = pg_current_xact_id() "
        "WHERE practice_id = $1 AND id = $2 AND attempts = $3",
        claimed.practice_id,
        claimed.message_id,
        claimed.number,
        due_at,
        provider_message_id,
    )
    await record_events(connection, claimed.practice_id, [_matched(claimed.message_id, event)])
    if provider_message_id is not None:
        await join_parked(connection, claimed.practice_id, claimed.message_id)
    return True


async def find_queued(connection: Connection, practice_id: PracticeId, patient_id: UUID) -> Sequence[MessageId]:
    """A patient's messages that wait to be sent."""
    rows = await connection.fetch(
        "SELECT id FROM message WHERE practice_id = $1 AND patient_id = $2 AND verdict = 'queued' ORDER BY id",
        practice_id,
        patient_id,
    )
    return [MessageId(row["id"]) for row in rows]


async def cancel(connection: Connection, practice_id: PracticeId, message_id: UUID, now: datetime) -> bool:
    """Withdraws a message that is queued and that no worker has in its hands; False otherwise."""
    # In a statement of its own: the next one then sees the attempt of a claim that this one waited for.
    await connection.execute(
        "SELECT FROM message WHERE practice_id = $1 AND id = $2 FOR NO KEY UPDATE", practice_id, message_id
    )
    free = await connection.fetchval(
        "UPDATE message m SET due_at = NULL WHERE m.practice_id = $1 AND m.id = $2 AND m.verdict = 'queued' "
        "AND NOT EXISTS (SELECT FROM attempt t WHERE t.practice_id = m.practice_id AND t.message_id = m.id "
        "AND t.ended_at IS NULL AND t.lease_until > now()) RETURNING true",
        practice_id,
        message_id,
    )
    if not free:
        return False
    event = _own_event(EventKind.CANCELLED, "cancelled", now, "withdrawn by staff")
    await record_events(connection, practice_id, [_matched(MessageId(message_id), event)])
    return True


def _own_event(kind: EventKind, dedupe_key: str, at: datetime, detail: str) -> Event:
    return Event(kind=kind, occurred_at=at, dedupe_key=dedupe_key, detail=detail)


def _matched(message_id: MessageId, event: Event) -> Matched:
    return Matched(message_id, event, EventSource.ATTEMPT, event.occurred_at)
