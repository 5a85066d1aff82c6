"""Sending accounts: how a practice sends. Credentials and webhook secrets are sealed, bound to their row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import orjson

from db.pool import TENANT, Connection, Pool
from db.sealing import Sealer
from mail.advice import Notes
from mail.ids import AccountId, PracticeId
from mail.message import Address
from mail.status import AccountKind

CREDENTIALS = "sending_account.credentials"
WEBHOOK_SECRETS = "sending_account.webhook_secrets"
_COLUMNS = (
    "id, kind, provider, name, from_name, from_email, reply_to, is_default, last_event_at, signature_failures, "
    "signature_failed_at, webhook_confirmed_at, credentials_refused_at, credentials_refusal, credentials_checked_at, "
    "credentials_ok, credentials_text, credentials_expire_at, asking_refused_at, told_at"
)
# What was known of the old key says nothing of the new one: it is checked and asked with at once.
_CREDENTIALS_CHANGED = (
    ", credentials_changed_at = now(), credentials_refused_at = NULL, credentials_refusal = NULL, "
    "credentials_checked_at = NULL, credentials_ok = NULL, credentials_text = NULL, credentials_expire_at = NULL, "
    "asking_refused_at = NULL, look_at = now(), ask_at = now()"
)


@dataclass(frozen=True, slots=True)
class Account:
    """One sending account, without its secrets. `provider` is named for kind ESP alone."""

    id: AccountId
    kind: AccountKind
    provider: str | None
    name: str
    sender: Address
    reply_to: Address | None
    is_default: bool
    notes: Notes


async def list_accounts(pool: Pool, practice_id: PracticeId) -> Sequence[Account]:
    """All accounts of a practice, the default first, then by name."""
    rows = await pool.fetch(
        TENANT + "SELECT a.* FROM tenant CROSS JOIN LATERAL ("
        f"SELECT {_COLUMNS} FROM sending_account WHERE practice_id = tenant.practice_id "
        "ORDER BY is_default DESC, lower(name), id OFFSET 0) a",
        practice_id,
    )
    return [_account(row) for row in rows]


async def find_accounts(pool: Pool, practice_id: PracticeId, ids: Sequence[UUID]) -> dict[AccountId, Account]:
    """The practice's accounts among `ids`."""
    rows = await pool.fetch(
        TENANT + "SELECT a.* FROM tenant CROSS JOIN LATERAL (SELECT "
        f"{_COLUMNS} FROM sending_account WHERE practice_id = tenant.practice_id AND id = ANY($2::uuid[]) OFFSET 0) a",
        practice_id,
        ids,
    )
    return {row["id"]: _account(row) for row in rows}


async def create_account(
    connection: Connection,
    sealer: Sealer,
    practice_id: PracticeId,
    account_id: AccountId,
    *,
    kind: AccountKind,
    provider: str | None,
    name: str,
    sender: Address,
    reply_to: str | None,
    is_default: bool,
    credentials: Mapping[str, str],
    webhook_secrets: Sequence[str],
) -> Account:
    """A new account; the practice's first one becomes its default."""
    await _lock_default(connection, practice_id, account_id)
    if is_default:
        await _clear_default(connection, practice_id)
    row = await connection.fetchrow(
        "INSERT INTO sending_account (practice_id, id, kind, provider, name, from_name, from_email, reply_to, "
        "is_default, credentials, webhook_secrets) SELECT $1, $2, $3, $4, $5, $6, $7, $8, "
        "$9 OR NOT EXISTS (SELECT FROM sending_account WHERE practice_id = $1 AND is_default), $10, $11 "
        f"RETURNING {_COLUMNS}",
        practice_id,
        account_id,
        kind.value,
        provider,
        name,
        sender.name,
        sender.email,
        reply_to,
        is_default,
        sealer.seal(orjson.dumps(dict(credentials)), CREDENTIALS, practice_id, account_id),
        sealer.seal(orjson.dumps(list(webhook_secrets)), WEBHOOK_SECRETS, practice_id, account_id),
    )
    assert row is not None
    return _account(row)


async def update_account(
    connection: Connection,
    sealer: Sealer,
    practice_id: PracticeId,
    account_id: UUID,
    *,
    name: str | None,
    sender_name: str | None,
    sender_email: str | None,
    reply_to: str | None,
    is_default: bool | None,
    credentials: Mapping[str, str] | None,
) -> Account | None:
    """Changes what isn't None (an empty `reply_to` removes it). None when there's no such account."""
    if is_default:
        await _lock_default(connection, practice_id, account_id)
        await _clear_default(connection, practice_id)
    sealed = None
    if credentials is not None:
        sealed = sealer.seal(orjson.dumps(dict(credentials)), CREDENTIALS, practice_id, account_id)
    row = await connection.fetchrow(
        "UPDATE sending_account SET name = coalesce($3, name), from_name = coalesce($4, from_name), "
        "from_email = coalesce($5, from_email), reply_to = nullif(coalesce($6, reply_to), ''), "
        "is_default = coalesce($7, is_default), credentials = coalesce($8, credentials)"
        f"{'' if sealed is None else _CREDENTIALS_CHANGED} WHERE practice_id = $1 AND id = $2 RETURNING {_COLUMNS}",
        practice_id,
        account_id,
        name,
        sender_name,
        sender_email,
        reply_to,
        is_default,
        sealed,
    )
    return _account(row) if row else None


async def read_credentials(
    connection: Connection, sealer: Sealer, practice_id: PracticeId, account_id: UUID
) -> Mapping[str, str]:
    """An account's credentials; raises `SealBroken`. Empty when there's no such account."""
    sealed = await connection.fetchval(
        "SELECT credentials FROM sending_account WHERE practice_id = $1 AND id = $2", practice_id, account_id
    )
    if sealed is None:
        return {}
    opened: dict[str, str] = orjson.loads(sealer.open(sealed, CREDENTIALS, practice_id, account_id))
    return opened


async def set_webhook_secrets(
    connection: Connection, sealer: Sealer, practice_id: PracticeId, account_id: UUID, secrets: Sequence[str]
) -> Account | None:
    row = await connection.fetchrow(
        "UPDATE sending_account SET webhook_secrets = $3, signature_failures = 0, signature_failed_at = NULL "
        f"WHERE practice_id = $1 AND id = $2 RETURNING {_COLUMNS}",
        practice_id,
        account_id,
        sealer.seal(orjson.dumps(list(secrets)), WEBHOOK_SECRETS, practice_id, account_id),
    )
    return _account(row) if row else None


async def find_webhook_secrets(
    pool: Pool, sealer: Sealer, practice_id: PracticeId, account_id: UUID, provider: str
) -> Sequence[str] | None:
    """The secrets that may verify a webhook, newest first; None when there's no such account there."""
    sealed = await pool.fetchval(
        TENANT + "SELECT a.webhook_secrets FROM tenant CROSS JOIN LATERAL (SELECT webhook_secrets "
        "FROM sending_account WHERE practice_id = tenant.practice_id AND id = $2 AND provider = $3 LIMIT 1) a",
        practice_id,
        account_id,
        provider,
    )
    if sealed is None:
        return None
    secrets: list[str] = orjson.loads(sealer.open(sealed, WEBHOOK_SECRETS, practice_id, account_id))
    return secrets


async def _lock_default(connection: Connection, practice_id: PracticeId, account_id: UUID) -> None:
    """Lets changes of a practice's default come one after the other, and locks the rows of one in the order of ids, as
    everybody does."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('default account of ' || $1::text, 0))", str(practice_id)
    )
    await connection.execute(
        "SELECT FROM sending_account WHERE practice_id = $1 AND (is_default OR id = $2) ORDER BY id FOR NO KEY UPDATE",
        practice_id,
        account_id,
    )


async def _clear_default(connection: Connection, practice_id: PracticeId) -> None:
    await connection.execute(
        "UPDATE sending_account SET is_default = false WHERE practice_id = $1 AND is_default", practice_id
    )


def _account(row: asyncpg.Record) -> Account:
    return Account(
        id=AccountId(row["id"]),
        kind=AccountKind(row["kind"]),
        provider=row["provider"],
        name=row["name"],
        sender=Address(row["from_email"], row["from_name"]),
        reply_to=Address(row["reply_to"]) if row["reply_to"] else None,
        is_default=row["is_default"],
        notes=Notes(
            last_event_at=row["last_event_at"],
            signature_failures=row["signature_failures"],
            signature_failed_at=row["signature_failed_at"],
            webhook_confirmed_at=row["webhook_confirmed_at"],
            key_refused_at=row["credentials_refused_at"],
            refusal=row["credentials_refusal"],
            key_checked_at=row["credentials_checked_at"],
            key_ok=row["credentials_ok"],
            key_text=row["credentials_text"],
            key_expires_at=row["credentials_expire_at"],
            asking_refused_at=row["asking_refused_at"],
            told_at=row["told_at"],
        ),
    )
