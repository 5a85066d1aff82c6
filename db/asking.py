"""Whom to ask about what: accounts that are looked after, messages that ought to have been answered, and the pace.

Claims are leases, so that two workers never do the same and what a killed one had in hand is taken up. The pace belongs
to the account: each request takes the next slot, whichever process makes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from db.accounts import read_credentials
from db.pool import Connection, Pool
from db.sealing import Sealer
from mail.ids import AccountId, MessageId, PracticeId
from mail.message import Address, rfc_message_id
from mail.providers.base import Question

_LOOK: Final = "credentials_checked_at, now() AS now, GREATEST(ask_at - now(), interval '0') AS wait"


@dataclass(frozen=True, slots=True)
class AccountRef:
    """An ESP account of some practice."""

    practice_id: PracticeId
    account_id: AccountId
    provider: str


@dataclass(frozen=True, slots=True)
class Look:
    """An account as it is looked after: of one that was claimed, until the lease ends. `begun_at` is by the database's
    clock: what is learned of the credentials holds for those of that time. `wait` is how long its ESP wants not to
    be asked."""

    account: AccountRef
    credentials: Mapping[str, str]
    checked_at: datetime | None
    begun_at: datetime
    wait: timedelta


@dataclass(frozen=True, slots=True)
class Window:
    """Messages sent from `since` until before `until`. `everything` also takes those that were asked about a short
    while ago, each once: those whose id is greater than `after`."""

    since: datetime
    until: datetime
    everything: bool = False
    after: UUID | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """The right to ask about one message; `asks` is how often that was done before."""

    question: Question
    asks: int


async def find_accounts_due(dispatcher: Pool, limit: int) -> Sequence[AccountRef]:
    """ESP accounts of any practice that a worker has to look after, the longest due first."""
    rows = await dispatcher.fetch(
        "SELECT practice_id, id, provider FROM sending_account WHERE provider IS NOT NULL AND look_at <= now() "
        "ORDER BY look_at LIMIT $1",
        limit,
    )
    return [AccountRef(row["practice_id"], row["id"], row["provider"]) for row in rows]


async def begin_look(connection: Connection, sealer: Sealer, account: AccountRef, lease: timedelta) -> Look | None:
    """Claims an account that is due; None when it isn't, or another worker has it. Raises `SealBroken`."""
    row = await connection.fetchrow(
        "UPDATE sending_account SET look_at = now() + $3 WHERE practice_id = $1 AND id = "
        "(SELECT id FROM sending_account WHERE practice_id = $1 AND id = $2 AND look_at <= now() "
        "FOR NO KEY UPDATE SKIP LOCKED) "
        f"RETURNING {_LOOK}",
        account.practice_id,
        account.account_id,
        lease,
    )
    return await _look(connection, sealer, account, row) if row else None


async def open_look(connection: Connection, sealer: Sealer, account: AccountRef) -> Look:
    """A look that an operator asks for, whoever else looks; raises `SealBroken`."""
    row = await connection.fetchrow(
        f"SELECT {_LOOK} FROM sending_account WHERE practice_id = $1 AND id = $2",
        account.practice_id,
        account.account_id,
    )
    assert row is not None
    return await _look(connection, sealer, account, row)


async def _look(connection: Connection, sealer: Sealer, account: AccountRef, row: asyncpg.Record) -> Look:
    credentials = await read_credentials(connection, sealer, account.practice_id, account.account_id)
    return Look(account, credentials, row["credentials_checked_at"], row["now"], row["wait"])


async def end_look(connection: Connection, account: AccountRef, after: timedelta) -> None:
    """Gives an account back until `after` from now; one whose credentials changed meanwhile is due already."""
    await connection.execute(
        "UPDATE sending_account SET look_at = now() + $3 WHERE practice_id = $1 AND id = $2 AND look_at > now()",
        account.practice_id,
        account.account_id,
        after,
    )


async def put_off_look(connection: Connection, account: AccountRef, after: timedelta) -> None:
    """Has an account that can't be looked after looked at `after` from now."""
    await connection.execute(
        "UPDATE sending_account SET look_at = now() + $3 WHERE practice_id = $1 AND id = $2",
        account.practice_id,
        account.account_id,
        after,
    )


async def claim_question(
    connection: Connection, account: AccountRef, window: Window, lease: timedelta
) -> Claimed | None:
    """Claims a message of the account that ought to have been answered, was not, and that nobody asks about now."""
    due = "" if window.everything else "AND (m.ask_at IS NULL OR m.ask_at <= now()) "
    # Those never asked about come first, so that they don't wait for all the others' turns.
    order = "m.id" if window.everything else "m.ask_at NULLS FIRST, m.id"
    row = await connection.fetchrow(
        "WITH due AS MATERIALIZED (SELECT m.id FROM message m WHERE m.practice_id = $1 AND m.account_id = $2 "
        "AND m.verdict = 'sent' AND m.account_kind = 'esp' AND m.sent_at >= $3 AND m.sent_at < $4 "
        f"AND (m.asking_until IS NULL OR m.asking_until <= now()) AND ($5::uuid IS NULL OR m.id > $5) {due}"
        f"ORDER BY {order} LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) "
        "UPDATE message m SET asking_until = now() + $6 FROM due, sending_account a "
        "WHERE m.practice_id = $1 AND m.id = due.id AND a.practice_id = m.practice_id AND a.id = m.account_id "
        "RETURNING m.id, m.provider_message_id, m.recipient, m.sent_at, m.asks, a.from_email",
        account.practice_id,
        account.account_id,
        window.since,
        window.until,
        window.after,
        lease,
    )
    if row is None:
        return None
    message_id = MessageId(row["id"])
    question = Question(
        message_id=message_id,
        provider_message_id=row["provider_message_id"],
        rfc_message_id=rfc_message_id(message_id, Address(row["from_email"])),
        recipient=row["recipient"],
        sent_at=row["sent_at"],
    )
    return Claimed(question, row["asks"])


async def count_questions(connection: Connection, account: AccountRef, window: Window) -> int:
    """How many messages of the account `claim_question` would give."""
    due = "" if window.everything else "AND (ask_at IS NULL OR ask_at <= now()) "
    count: int = await connection.fetchval(
        "SELECT count(*) FROM message WHERE practice_id = $1 AND account_id = $2 AND verdict = 'sent' "
        f"AND account_kind = 'esp' AND sent_at >= $3 AND sent_at < $4 {due}"
        "AND (asking_until IS NULL OR asking_until <= now())",
        account.practice_id,
        account.account_id,
        window.since,
        window.until,
    )
    return count


async def take_slot(
    connection: Connection, account: AccountRef, pause: timedelta, patience: timedelta
) -> timedelta | None:
    """How long to wait before the next request to the account's ESP, which then is ours; None when that is more than
    `patience`. `pause` is between two requests."""
    wait: timedelta | None = await connection.fetchval(
        "UPDATE sending_account SET ask_at = GREATEST(ask_at, clock_timestamp()) + $3::interval "
        "WHERE practice_id = $1 AND id = $2 AND ask_at <= clock_timestamp() + $4::interval "
        "RETURNING GREATEST(ask_at - $3::interval - clock_timestamp(), interval '0')",
        account.practice_id,
        account.account_id,
        pause,
        patience,
    )
    return wait


async def pause_asking(connection: Connection, account: AccountRef, pause: timedelta) -> None:
    """Has the account's ESP not asked for a while."""
    await connection.execute(
        "UPDATE sending_account SET ask_at = GREATEST(ask_at, now() + $3) WHERE practice_id = $1 AND id = $2",
        account.practice_id,
        account.account_id,
        pause,
    )


async def note_asking_refused(connection: Connection, look: Look, pause: timedelta) -> None:
    """Notes that the ESP refuses the key, and has it not asked for a while; unless the key was replaced since."""
    await connection.execute(
        "UPDATE sending_account SET asking_refused_at = now(), ask_at = GREATEST(ask_at, now() + $3) "
        "WHERE practice_id = $1 AND id = $2 AND credentials_changed_at <= $4",
        look.account.practice_id,
        look.account.account_id,
        pause,
        look.begun_at,
    )


async def release_question(connection: Connection, account: AccountRef, message_id: UUID) -> None:
    """Gives a message back that was not asked about."""
    await connection.execute(
        "UPDATE message SET asking_until = NULL WHERE practice_id = $1 AND id = $2", account.practice_id, message_id
    )


async def postpone_question(connection: Connection, account: AccountRef, message_id: UUID, again: timedelta) -> None:
    """Has a message that the ESP couldn't be asked about looked at `again` from now."""
    await connection.execute(
        "UPDATE message SET asking_until = NULL, asks = LEAST(asks, 1000) + 1, ask_at = now() + $3 "
        "WHERE practice_id = $1 AND id = $2",
        account.practice_id,
        message_id,
        again,
    )


async def finish_question(
    connection: Connection, account: AccountRef, message_id: UUID, again: timedelta, *, told: bool, news: bool
) -> None:
    """Notes that a message was asked about, to be asked about `again` from now. `told` says that the ESP had something
    to say, `news` that we didn't know it."""
    await postpone_question(connection, account, message_id, again)
    await connection.execute(
        "UPDATE sending_account SET asked = asked + 1, told = told + $3::integer, "
        "not_told = not_told + 1 - $3::integer, told_at = CASE WHEN $4 THEN now() ELSE told_at END, "
        "asking_refused_at = CASE WHEN $3 = 1 THEN NULL ELSE asking_refused_at END WHERE practice_id = $1 AND id = $2",
        account.practice_id,
        account.account_id,
        int(told),
        news,
    )
