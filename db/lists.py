"""Lists as they are shown: one statement reads all that the rows of a page show, their accounts and patients too.

What comes is asyncpg's own records, read by number: making an object of each row costs more than reading it.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

import asyncpg

from db import patients
from db.messages import COLUMNS, MessageFilter, conditions
from db.pool import TENANT_AND_RUNNING, Pool
from mail.ids import PracticeId

_PATIENT: Final = tuple(patients.COLUMNS.split(", "))
_ACCOUNT: Final = ("name", "provider")

_MESSAGE: Final = tuple(column.removeprefix("m.") for column in COLUMNS.split(", "))
# Whether nothing above SENT may show: mail.status.ceiling, as message_limit has it.
_CEILING: Final = "message_limit(m.account_kind, coalesce(m.sent_at, m.queued_at), $3)"
_SHOWN: Final = f"{COLUMNS}, {_CEILING} = 'sent' AS capped, LEAST(m.verdict, {_CEILING}) AS shown"
_OF_ACCOUNT: Final = ", ".join(f"a.{column} AS account_{column}" for column in _ACCOUNT)
_OF_PATIENT: Final = ", ".join(f"p.{column} AS their_{column}" for column in _PATIENT)

MESSAGE_AT: Final = {
    name: number
    for number, name in enumerate(
        (*_MESSAGE, "capped", "shown", *(f"account_{column}" for column in _ACCOUNT), "running")
    )
}
"""Where the columns of a message stand in a row of this module, by their names in `db.messages.COLUMNS`; beside them
`shown` (the verdict under its ceiling), `capped` (nothing above SENT may show), `account_name`, `account_provider` and
`running` (db.position). All of a message are None where a page is empty."""
PATIENT_BESIDE: Final = {column: len(MESSAGE_AT) + n for n, column in enumerate(_PATIENT)}
"""Where a patient's columns stand in a row that has a message too."""
PATIENT_AT: Final = {column: n for n, column in enumerate(_PATIENT)}
"""Where a patient's columns stand in a row of `db.patients.list_patients`."""


async def list_messages(
    pool: Pool,
    practice_id: PracticeId,
    wanted: MessageFilter,
    limit: int,
    after: UUID | None,
    first_tracked: datetime,
    *,
    with_patient: bool,
) -> Sequence[asyncpg.Record]:
    """Messages of a practice, newest first, those older than the message `after`; at least one row."""
    where, arguments = conditions(wanted, after, first_tracked, [practice_id, limit, first_tracked])
    return await pool.fetch(_practice_statement(where, with_patient), *arguments)


async def list_messages_of(
    pool: Pool,
    practice_id: PracticeId,
    patient_id: UUID,
    wanted: MessageFilter,
    limit: int,
    after: UUID | None,
    first_tracked: datetime,
) -> Sequence[asyncpg.Record]:
    """A patient with a page of their messages, which is what the Messages tab shows; none when there's no such
    patient, else at least one row."""
    where, arguments = conditions(wanted, after, first_tracked, [practice_id, limit, first_tracked, patient_id])
    return await pool.fetch(_patient_statement(where), *arguments)


# All of a message but what ran then, in the order of MESSAGE_AT.
_OUTER: Final = ", ".join(f"m.{name}" for name in MESSAGE_AT if name != "running")


@lru_cache(256)
def _practice_statement(where: str, with_patient: bool) -> str:
    theirs = f", {_OF_PATIENT}" if with_patient else ""
    outer = "".join(f", m.their_{column}" for column in _PATIENT) if with_patient else ""
    joined = "JOIN patient p ON p.practice_id = tenant.practice_id AND p.id = m.patient_id " if with_patient else ""
    return (
        TENANT_AND_RUNNING + f"SELECT {_OUTER}, tenant.running{outer} FROM tenant LEFT JOIN LATERAL ("
        f"SELECT m.*, {_OF_ACCOUNT}{theirs} FROM (SELECT {_SHOWN} FROM message m "
        f"WHERE m.practice_id = tenant.practice_id{where} ORDER BY m.id DESC LIMIT $2) m "
        "JOIN sending_account a ON a.practice_id = tenant.practice_id AND a.id = m.account_id "
        f"{joined}ORDER BY m.id DESC OFFSET 0) m ON true"
    )


@lru_cache(256)
def _patient_statement(where: str) -> str:
    return (
        TENANT_AND_RUNNING + f"SELECT {_OUTER}, tenant.running, {_OF_PATIENT} FROM tenant CROSS JOIN LATERAL ("
        f"SELECT {', '.join(_PATIENT)} FROM patient WHERE practice_id = tenant.practice_id AND id = $4 LIMIT 1) p "
        f"LEFT JOIN LATERAL (SELECT m.*, {_OF_ACCOUNT} FROM (SELECT {_SHOWN} FROM message m "
        f"WHERE m.practice_id = tenant.practice_id AND m.patient_id = $4{where} ORDER BY m.id DESC LIMIT $2) m "
        "JOIN sending_account a ON a.practice_id = tenant.practice_id AND a.id = m.account_id "
        "ORDER BY m.id DESC OFFSET 0) m ON true"
    )
