"""Lists as they are shown: one statement reads all that the rows of a page show, their accounts and patients too.

What comes is asyncpg's own records, read by number: making an object of each row costs more than reading it. Each value
costs as well, Postgres to write it and asyncpg to read it, so a list names the columns that it shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

import asyncpg
import orjson

from db import patients
from db.messages import COLUMNS, MessageFilter, conditions
from db.pool import TENANT_AND_RUNNING, Pool
from mail.ids import PracticeId

_PATIENT: Final = tuple(patients.COLUMNS.split(", "))
MESSAGE: Final = tuple(column.removeprefix("m.") for column in COLUMNS.split(", "))
"""What `db.messages.message_from` makes a message of."""

# What nothing above SENT may show is capped: mail.status.ceiling, as message_limit has it.
_CEILING: Final = "message_limit(m.account_kind, coalesce(m.sent_at, m.queued_at), $3)"
_FLAGS: Final[Mapping[str, str]] = {
    **{
        name: f"m.{name}"
        for name in (
            "track_opens", "attempt_failed", "ambiguous", "deferred", "machine_opened", "complained", "unsubscribed",
        )
    },
    "capped": f"{_CEILING} = 'sent'",
}  # fmt: skip
FLAG: Final[Mapping[str, int]] = {name: 1 << number for number, name in enumerate(_FLAGS)}
"""The bits of the column `flags`."""

_OF_MESSAGE: Final[Mapping[str, str]] = {
    **{name: f"m.{name}" for name in MESSAGE},
    "id_text": "m.id::text",
    "account_id_text": "m.account_id::text",
    "resend_of_text": "m.resend_of::text",
    "shown": f"LEAST(m.verdict, {_CEILING})",
    "flags": " + ".join(f"CASE WHEN {flag} THEN {FLAG[name]} ELSE 0 END" for name, flag in _FLAGS.items()),
}
_OF_OTHERS: Final[Mapping[str, str]] = {
    "account_name": "a.name",
    "account_provider": "a.provider",
    **{f"their_{column}": f"p.{column}" for column in _PATIENT},
}
COLUMN: Final = frozenset({*_OF_MESSAGE, *_OF_OTHERS})
"""The columns that there are to choose from: those of `MESSAGE`; ids as text; `shown`, the verdict under its ceiling;
`flags`; of the account `account_name` and `account_provider`; of the patient `their_name` and so on."""
FIRST: Final = "id_text"
"""The first column of every row."""
PATIENT_AT: Final = {column: n for n, column in enumerate(_PATIENT)}
"""Where a patient's columns stand in a row of `db.patients.list_patients`, and in `Listed.patient`."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A page: rows of `FIRST` and the columns that were asked for, and the oldest transaction that ran when it was read
    (db.position). `patient` is whose messages these are, as `PATIENT_AT` says, the id as text."""

    rows: Sequence[asyncpg.Record]
    running: int
    patient: Sequence[object] = ()


async def list_messages(
    pool: Pool,
    practice_id: PracticeId,
    wanted: MessageFilter,
    limit: int,
    after: UUID | None,
    first_tracked: datetime,
    columns: tuple[str, ...],
) -> Listed:
    """Messages of a practice, newest first, those older than the message `after`."""
    where, arguments = conditions(wanted, after, first_tracked, [practice_id, limit, first_tracked])
    rows = await pool.fetch(_practice_statement(where, columns), *arguments)
    return Listed(_of_page(rows), rows[0]["running"])


async def list_messages_of(
    pool: Pool,
    practice_id: PracticeId,
    patient_id: UUID,
    wanted: MessageFilter,
    limit: int,
    after: UUID | None,
    first_tracked: datetime,
    columns: tuple[str, ...],
) -> Listed | None:
    """A patient with a page of their messages, which is what the Messages tab shows; None when there's no such
    patient."""
    where, arguments = conditions(wanted, after, first_tracked, [practice_id, limit, first_tracked, patient_id])
    rows = await pool.fetch(_patient_statement(where, columns), *arguments)
    if not rows:
        return None
    running, *patient = orjson.loads(rows[0]["patient"])
    return Listed(_of_page(rows), running, patient)


def _of_page(rows: Sequence[asyncpg.Record]) -> Sequence[asyncpg.Record]:
    """A page that is empty comes as a row without a message."""
    return rows if rows[0][0] is not None else []


@lru_cache(256)
def _practice_statement(where: str, columns: tuple[str, ...]) -> str:
    return (
        f"{_beginning(columns)} SELECT m.*, tenant.running FROM tenant "
        f"LEFT JOIN LATERAL ({_page(where, columns)}) m ON true"
    )


@lru_cache(256)
def _patient_statement(where: str, columns: tuple[str, ...]) -> str:
    # One value for all of the patient, which comes with each row.
    return (
        f"{_beginning(columns)} SELECT m.*, p.patient FROM tenant CROSS JOIN LATERAL ("
        f"SELECT json_build_array(tenant.running, {', '.join(_PATIENT)})::text AS patient FROM patient "
        "WHERE practice_id = tenant.practice_id AND id = $4 LIMIT 1) p "
        f"LEFT JOIN LATERAL ({_page(f' AND m.patient_id = $4{where}', columns)}) m ON true"
    )


# A practice has few accounts. Read once they cost a page a tenth of what looking for the account of each message does.
_ACCOUNTS: Final = (
    ", account AS MATERIALIZED (SELECT a.* FROM tenant CROSS JOIN LATERAL "
    "(SELECT id, name, provider FROM sending_account WHERE practice_id = tenant.practice_id OFFSET 0) a)"
)
_JOINS: Final[Mapping[str, tuple[str, str]]] = {
    "a": ("account_id", "JOIN account a ON a.id = m.account_id"),
    "p": ("patient_id", "JOIN patient p ON p.practice_id = tenant.practice_id AND p.id = m.patient_id"),
}
"""By the name of what is joined: the column of the message that says which, and the join."""


def _joined(columns: tuple[str, ...]) -> list[str]:
    others = {_OF_OTHERS[column].partition(".")[0] for column in columns if column in _OF_OTHERS}
    return [name for name in _JOINS if name in others]


def _beginning(columns: tuple[str, ...]) -> str:
    return f"{TENANT_AND_RUNNING.rstrip()}{_ACCOUNTS if 'a' in _joined(columns) else ''}"


def _page(where: str, columns: tuple[str, ...]) -> str:
    """The messages first, then what is shown of others. Postgres walks over every expression each time, so it is told
    those alone that are shown."""
    joined = _joined(columns)
    shown = {column: _OF_OTHERS.get(column, f"m.{column}") for column in (FIRST, *columns)}
    read = dict.fromkeys(
        ["id", *(_JOINS[name][0] for name in joined), *(column for column in shown if column in _OF_MESSAGE)]
    )
    selected = ", ".join(f"{_OF_MESSAGE[column]} AS {column}" for column in read)
    # An argument that nobody uses has no type.
    unused = "" if "$3" in selected else " AND $3::timestamptz IS NOT NULL"
    return (
        f"SELECT {', '.join(f'{expression} AS {column}' for column, expression in shown.items())} "
        f"FROM (SELECT {selected} "
        f"FROM message m WHERE m.practice_id = tenant.practice_id{where}{unused} ORDER BY m.id DESC LIMIT $2) m "
        f"{' '.join(_JOINS[name][1] for name in joined)} ORDER BY m.id DESC OFFSET 0"
    )
