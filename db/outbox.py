"""The outbox: messages that are due, claimed with a lease and a fencing token, and what came of each attempt."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Final
from uuid import UUID

import asyncpg

from db.errors import SealBroken
from db.events import Matched, append_events, record_events
from db.locks import locked_from
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
class Lane:
    """What messages wait in: one account of one practice."""

    practice_id: PracticeId
    account_id: AccountId


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to send one message until the lease ends. `number` is the attempt's number and its fencing token:
    once another attempt has begun, what this one writes is refused. `body` is None when its seal doesn't open.
    `tries` leaves out of it the attempts for which the wire was never touched. `account_refused` says that the last
    send was refused for the account's key."""

    practice_id: PracticeId
    message_id: MessageId
    number: int
    tries: int
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
    bulk: bool
    read_at: float = field(default_factory=time.monotonic, compare=False)
    """When `started_at` was read, by the process's monotonic clock."""

    def now(self) -> datetime:
        """Postgres' time. The process's own clock may be wrong, and may be set while it runs."""
        return self.started_at + timedelta(seconds=time.monotonic() - self.read_at)


@dataclass(frozen=True, slots=True)
class Ending:
    """What came of an attempt. `due_at` is when to try again; None when it's over."""

    claim: Claim
    outcome: AttemptOutcome
    event: Event
    provider_message_id: str | None = None
    due_at: datetime | None = None


async def find_due(dispatcher: Pool) -> Sequence[Lane]:
    """The lanes of any practice in which a message is due. Costs two looks at an index for each lane, however many
    messages wait there."""
    rows = await dispatcher.fetch(
        """
        WITH RECURSIVE lane AS (
            (SELECT practice_id, account_id FROM message WHERE due_at IS NOT NULL ORDER BY 1, 2 LIMIT 1)
            UNION ALL
            SELECT n.practice_id, n.account_id FROM lane CROSS JOIN LATERAL (
                SELECT m.practice_id, m.account_id FROM message m
                WHERE m.due_at IS NOT NULL AND (m.practice_id, m.account_id) > (lane.practice_id, lane.account_id)
                ORDER BY 1, 2 LIMIT 1
            ) n
        )
        SELECT practice_id, account_id FROM lane
        WHERE EXISTS (SELECT FROM message m WHERE m.practice_id = lane.practice_id AND m.account_id = lane.account_id
            AND m.due_at <= now())
        """
    )
    return [Lane(row["practice_id"], row["account_id"]) for row in rows]


# Each table is read at the keys that are known, whatever Postgres believed to be in it when this was planned: a bulk is
# often the first that a practice, or an installation, has. What `due` gives is locked, so it stays where it is.
_CLAIM: Final = """
    , claimed AS (
        UPDATE message m SET attempts = m.attempts + 1, due_at = now() + $3
        FROM due WHERE m.practice_id = $1 AND m.ctid = due.at
        RETURNING m.*, due.place
    ), begun AS MATERIALIZED (
        SELECT t.at FROM claimed CROSS JOIN LATERAL (
            SELECT ctid AS at FROM attempt
            WHERE practice_id = $1 AND message_id = claimed.id AND ended_at IS NULL OFFSET 0
        ) t
    ), abandoned AS (
        UPDATE attempt t SET ended_at = now(), outcome = 'abandoned' FROM begun
        WHERE t.practice_id = $1 AND t.ctid = begun.at AND t.ended_at IS NULL
        RETURNING t.message_id, t.number
    ), opened AS (
        INSERT INTO attempt (practice_id, message_id, number, worker, lease_until)
        SELECT practice_id, id, attempts, $2, due_at FROM claimed
    )
    SELECT claimed.*, a.*, p.patient_name, now() AS now,
        ARRAY(SELECT number FROM abandoned WHERE abandoned.message_id = claimed.id) AS abandoned
    FROM claimed CROSS JOIN LATERAL (
        SELECT provider, from_name, from_email, reply_to, credentials_refused_at IS NOT NULL AS account_refused
        FROM sending_account WHERE practice_id = $1 AND id = claimed.account_id OFFSET 0
    ) a CROSS JOIN LATERAL (
        SELECT name AS patient_name FROM patient WHERE practice_id = $1 AND id = claimed.patient_id OFFSET 0
    ) p
    ORDER BY claimed.place
"""


async def claim_due(
    connection: Connection,
    sealer: Sealer,
    lane: Lane,
    worker: str,
    lease: timedelta,
    limit: int,
    *,
    bulk: bool = True,
) -> Sequence[Claim]:
    """Claims up to `limit` messages of a lane that are due and that nobody else has: single ones first, then those of
    a bulk (none of them unless `bulk`), the longest due first.

    An earlier attempt whose lease ended without an outcome is recorded as ambiguous. Must be committed before
    the wire is touched.
    """
    # The limit stands in the text: of one that it can't see Postgres expects a tenth of what is due, and sorts it all.
    rows = await connection.fetch(
        "WITH due AS MATERIALIZED ("
        "SELECT d.at, row_number() OVER () AS place FROM (SELECT ctid AS at FROM message "
        "WHERE practice_id = $1 AND account_id = $4 AND verdict = 'queued' AND due_at <= now() AND (NOT bulk OR $5) "
        f"ORDER BY bulk, due_at LIMIT {limit:d} FOR NO KEY UPDATE SKIP LOCKED) d)" + _CLAIM,
        lane.practice_id,
        worker,
        lease,
        lane.account_id,
        bulk,
    )
    return await _claims(connection, sealer, lane.practice_id, rows)


async def _claims(
    connection: Connection, sealer: Sealer, practice_id: PracticeId, rows: Sequence[asyncpg.Record]
) -> Sequence[Claim]:
    lost = [
        Matched(row["id"], event, EventSource.ATTEMPT, event.occurred_at)
        for row in rows
        for number in row["abandoned"]
        for event in [
            _own_event(EventKind.ATTEMPT_AMBIGUOUS, f"attempt/{number}/abandoned", row["now"], "attempt abandoned")
        ]
    ]
    await record_events(connection, practice_id, lost)
    return [_claim(sealer, practice_id, row) for row in rows]


def _claim(sealer: Sealer, practice_id: PracticeId, row: asyncpg.Record) -> Claim:
    try:
        body = open_body(sealer, practice_id, row["id"], row["body"])
    except SealBroken:
        body = None
    return Claim(
        practice_id=practice_id,
        message_id=row["id"],
        number=row["attempts"],
        tries=row["attempts"] - row["put_backs"],
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
        bulk=row["bulk"],
    )


async def finish_all(
    connection: Connection, practice_id: PracticeId, endings: Sequence[Ending]
) -> set[tuple[MessageId, int]]:
    """Writes what came of attempts of one practice, in one transaction with their evidence.

    Each is checked against its own fencing token. Returns message and attempt number of those that were written;
    the others' leases were lost and another attempt has begun, so nothing was.
    """
    # The messages are locked before their attempts, as a claim does it, or the two would wait for each other; and
    # in the order of their ids, or two that write would.
    rows = await connection.fetch(
        "WITH ended AS MATERIALIZED (SELECT * FROM unnest($2::uuid[], $3::integer[], $4::text[]) "
        "AS n(message_id, number, outcome)), "
        "locked AS MATERIALIZED (SELECT id, ctid, account_id, patient_id, recipient FROM message "
        "WHERE practice_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR NO KEY UPDATE) "
        "UPDATE attempt t SET ended_at = now(), outcome = ended.outcome::attempt_outcome "
        "FROM locked JOIN ended ON ended.message_id = locked.id "
        "WHERE t.practice_id = $1 AND t.message_id = locked.id AND t.number = ended.number AND t.ended_at IS NULL "
        "RETURNING t.number, locked.*",
        practice_id,
        [ending.claim.message_id for ending in endings],
        [ending.claim.number for ending in endings],
        [ending.outcome.value for ending in endings],
    )
    written = {(MessageId(row["id"]), row["number"]) for row in rows}
    locked = {MessageId(row["id"]): locked_from(row) for row in rows}
    kept = [ending for ending in endings if (ending.claim.message_id, ending.claim.number) in written]
    # Where it is over, the event ends the trying; a row is not written twice for that.
    telling = [ending for ending in kept if ending.due_at or ending.provider_message_id]
    if telling:
        moved = await connection.fetch(
            "UPDATE message m SET due_at = CASE WHEN m.verdict = 'queued' THEN n.due_at END, "
            "provider_message_id = coalesce(n.theirs, m.provider_message_id), changed_xid = pg_current_xact_id() "
            "FROM (SELECT * FROM unnest($2::tid[], $3::integer[], $4::timestamptz[], $5::text[]) "
            "LIMIT cardinality($2)) AS n(at, number, due_at, theirs) "
            "WHERE m.practice_id = $1 AND m.ctid = n.at AND m.attempts = n.number RETURNING m.id, m.ctid",
            practice_id,
            [locked[ending.claim.message_id].place for ending in telling],
            [ending.claim.number for ending in telling],
            [ending.due_at for ending in telling],
            [ending.provider_message_id for ending in telling],
        )
        locked |= {row["id"]: locked[row["id"]]._replace(place=row["ctid"]) for row in moved}
    events = [_matched(ending.claim.message_id, ending.event) for ending in kept]
    await append_events(connection, practice_id, events, locked)
    named = [ending.claim.message_id for ending in telling if ending.provider_message_id is not None]
    await join_parked(connection, practice_id, named)
    return written


async def put_back(
    connection: Connection, practice_id: PracticeId, claims: Sequence[Claim], wait: timedelta = timedelta()
) -> None:
    """Gives up claims for which the wire was never touched: due again after `wait`, with no evidence of an attempt.
    Those whose lease was lost are left alone."""
    await connection.execute(
        "WITH locked AS MATERIALIZED (SELECT m.id, m.attempts FROM message m "
        "JOIN unnest($2::uuid[], $3::integer[]) AS n(id, number) ON n.id = m.id AND n.number = m.attempts "
        "WHERE m.practice_id = $1 ORDER BY m.id FOR NO KEY UPDATE OF m), "
        "ended AS (UPDATE attempt t SET ended_at = now(), outcome = 'deferred' FROM locked WHERE t.practice_id = $1 "
        "AND t.message_id = locked.id AND t.number = locked.attempts AND t.ended_at IS NULL RETURNING t.message_id) "
        "UPDATE message m SET due_at = now() + $4, put_backs = m.put_backs + 1 FROM ended "
        "WHERE m.practice_id = $1 AND m.id = ended.message_id AND m.verdict = 'queued'",
        practice_id,
        [claimed.message_id for claimed in claims],
        [claimed.number for claimed in claims],
        wait,
    )


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
