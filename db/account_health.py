"""How accounts do: what is noted of their keys and webhooks, and what is counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db.pool import TENANT, Connection, Pool
from mail.advice import EXPIRES_SOON, Counts
from mail.ids import AccountId, PracticeId
from mail.providers.base import CredentialsCheck


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """How the accounts of one provider do, summed up over all practices. From `accounts` to `asking_refused` they are
    numbers of accounts, from `parked` on of webhooks, events and questions."""

    accounts: int
    heard: int
    signatures_refused: int
    keys_refused: int
    keys_expiring: int
    asking_refused: int
    parked: int
    unreadable: int
    unconfirmed_subscriptions: int
    asked: int
    told: int
    not_told: int


async def count_signature_failures(
    connection: Connection, practice_id: PracticeId, account_id: UUID, count: int
) -> None:
    """Counts webhooks that were refused, the last of them now."""
    await connection.execute(
        "UPDATE sending_account SET signature_failures = signature_failures + $3, "
        "signature_failed_at = GREATEST(signature_failed_at, now()) WHERE practice_id = $1 AND id = $2",
        practice_id,
        account_id,
        count,
    )


async def note_refusal(
    connection: Connection, practice_id: PracticeId, account_id: UUID, reason: str, since: datetime
) -> None:
    """Notes that a send that began at `since` was refused for the account's key. Of many refusals the first is noted,
    so that a full queue doesn't wait for one row; one under credentials that were replaced since says nothing."""
    await connection.execute(
        "UPDATE sending_account SET credentials_refused_at = now(), credentials_refusal = $3 "
        "WHERE practice_id = $1 AND id = $2 AND credentials_refused_at IS NULL AND credentials_changed_at <= $4",
        practice_id,
        account_id,
        reason,
        since,
    )


async def clear_refusal(connection: Connection, practice_id: PracticeId, account_id: UUID) -> None:
    """Notes that the account's key was taken."""
    await connection.execute(
        "UPDATE sending_account SET credentials_refused_at = NULL, credentials_refusal = NULL "
        "WHERE practice_id = $1 AND id = $2 AND credentials_refused_at IS NOT NULL",
        practice_id,
        account_id,
    )


async def count_for_health(
    pool: Pool, practice_id: PracticeId, ids: Sequence[UUID], since: datetime, until: datetime
) -> dict[AccountId, Counts]:
    """Counts per account; `unconfirmed` over messages sent between `since` and `until`."""
    rows = await pool.fetch(
        TENANT + "SELECT wanted.id, c.* FROM tenant CROSS JOIN unnest($2::uuid[]) AS wanted(id) CROSS JOIN LATERAL ("
        "SELECT (SELECT count(*) FROM message m WHERE m.practice_id = tenant.practice_id AND m.account_id = wanted.id "
        "    AND m.verdict = 'sent' AND m.account_kind = 'esp' AND m.sent_at >= $3 AND m.sent_at < $4) AS unconfirmed, "
        "(SELECT count(*) FROM webhook_delivery d WHERE d.practice_id = tenant.practice_id "
        "    AND d.account_id = wanted.id AND d.error IS NOT NULL) AS unreadable, "
        "(SELECT count(*) FROM parked_event e WHERE e.practice_id = tenant.practice_id "
        "    AND e.account_id = wanted.id) AS parked, "
        "(SELECT count(*) FROM webhook_delivery d JOIN sending_account a ON a.practice_id = d.practice_id "
        "    AND a.id = d.account_id WHERE d.practice_id = tenant.practice_id AND d.account_id = wanted.id "
        "    AND d.confirmations IS NOT NULL AND d.confirmed_at IS NULL AND "
        "    (a.webhook_confirmed_at IS NULL OR d.received_at > a.webhook_confirmed_at)) AS unconfirmed_subscriptions, "
        "(SELECT count(*) FROM message m WHERE m.practice_id = tenant.practice_id AND m.account_id = wanted.id "
        "    AND m.verdict = 'sent' AND m.account_kind = 'esp' AND m.sent_at >= $3 "
        "    AND m.sent_at < now() - interval '1 hour') AS waiting OFFSET 0) c",
        practice_id,
        ids,
        since,
        until,
    )
    return {
        row["id"]: Counts(
            unconfirmed=row["unconfirmed"],
            unreadable=row["unreadable"],
            parked=row["parked"],
            unconfirmed_subscriptions=row["unconfirmed_subscriptions"],
            waiting=row["waiting"],
        )
        for row in rows
    }


async def note_check(
    connection: Connection, practice_id: PracticeId, account_id: UUID, check: CredentialsCheck, since: datetime
) -> None:
    """Notes what the ESP said of the key that was read at `since`. What doesn't tell leaves the end of the key as it
    was known."""
    await connection.execute(
        "UPDATE sending_account SET credentials_checked_at = now(), credentials_ok = $3, credentials_text = $4, "
        "credentials_expire_at = CASE WHEN $3::boolean IS NULL THEN coalesce($5, credentials_expire_at) ELSE $5 END "
        "WHERE practice_id = $1 AND id = $2 AND credentials_changed_at <= $6",
        practice_id,
        account_id,
        check.ok,
        check.text,
        check.expires_at,
        since,
    )


@dataclass(frozen=True, slots=True)
class WebhookMarks:
    """By which it is seen that a webhook came to an account: the newest one stored, and how many were refused."""

    newest_delivery: UUID | None
    signature_failures: int


async def read_webhook_marks(connection: Connection, practice_id: PracticeId, account_id: UUID) -> WebhookMarks:
    row = await connection.fetchrow(
        "SELECT signature_failures, (SELECT id FROM webhook_delivery WHERE practice_id = $1 AND account_id = $2 "
        "ORDER BY id DESC LIMIT 1) AS newest FROM sending_account WHERE practice_id = $1 AND id = $2",
        practice_id,
        account_id,
    )
    return WebhookMarks(row["newest"], row["signature_failures"]) if row else WebhookMarks(None, 0)


async def sum_up_by_provider(dispatcher: Pool) -> Mapping[str, ProviderHealth]:
    """How the accounts of each provider do; by provider alone, so that it can be exported."""
    rows = await dispatcher.fetch(
        """
        WITH accounts AS (
            SELECT provider, count(*) AS accounts, count(last_event_at) AS heard,
                count(*) FILTER (WHERE signature_failed_at > coalesce(last_event_at, '-infinity'))
                    AS signatures_refused,
                count(*) FILTER (WHERE credentials_refused_at IS NOT NULL OR NOT credentials_ok) AS keys_refused,
                count(*) FILTER (WHERE credentials_expire_at < now() + $1) AS keys_expiring,
                count(asking_refused_at) AS asking_refused, sum(asked)::bigint AS asked, sum(told)::bigint AS told,
                sum(not_told)::bigint AS not_told
            FROM sending_account GROUP BY provider
        ), parked AS (
            SELECT a.provider, count(*) AS parked FROM parked_event e
            JOIN sending_account a ON a.practice_id = e.practice_id AND a.id = e.account_id GROUP BY a.provider
        ), kept AS (
            SELECT provider, count(*) FILTER (WHERE error IS NOT NULL) AS unreadable,
                count(*) FILTER (WHERE confirm_at IS NOT NULL) AS unconfirmed_subscriptions
            FROM webhook_delivery WHERE error IS NOT NULL OR confirm_at IS NOT NULL GROUP BY provider
        )
        SELECT accounts.*, coalesce(parked, 0) AS parked, coalesce(unreadable, 0) AS unreadable,
            coalesce(unconfirmed_subscriptions, 0) AS unconfirmed_subscriptions
        FROM accounts LEFT JOIN parked USING (provider) LEFT JOIN kept USING (provider)
        """,
        EXPIRES_SOON,
    )
    return {
        row["provider"]: ProviderHealth(**{name: value for name, value in row.items() if name != "provider"})
        for row in rows
    }
