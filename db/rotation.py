"""Sealing anew: what another key has sealed is sealed by the first one, a batch at a time, while everything runs.

A row that was sealed anew is found no more, so a rotation that was stopped goes on where it stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from db.accounts import CREDENTIALS, WEBHOOK_SECRETS
from db.errors import SealBroken
from db.inbox import BODY as WEBHOOK_BODY
from db.messages import BODY as MESSAGE_BODY
from db.pool import Connection
from db.sealing import Sealer
from mail.ids import PracticeId

SEALED: Final = (CREDENTIALS, WEBHOOK_SECRETS, MESSAGE_BODY, WEBHOOK_BODY)
"""Every sealed column, `table.column` as it is bound."""
_OTHERS: Final = "substring({column} FROM 1 FOR 5) <> $2"


@dataclass(frozen=True, slots=True)
class Batch:
    """`last` is the id of the last row that was looked at, None when there are no more; `broken` rows opened by no
    key and were left."""

    sealed: int
    broken: int
    last: UUID | None


async def count_to_seal(connection: Connection, sealer: Sealer, practice_id: PracticeId, column: str) -> int:
    """How many of a practice's values in a column of `SEALED` another key than the first has sealed."""
    table, name = column.split(".")
    count: int = await connection.fetchval(
        f"SELECT count(*) FROM {table} WHERE practice_id = $1 AND {_OTHERS.format(column=name)}",
        practice_id,
        sealer.current_prefix,
    )
    return count


async def seal_anew(
    connection: Connection, sealer: Sealer, practice_id: PracticeId, column: str, after: UUID, limit: int
) -> Batch:
    """Seals a batch anew, of the rows after an id. A value that changed meanwhile is left: the first key sealed it."""
    table, name = column.split(".")
    rows = await connection.fetch(
        f"SELECT id, {name} AS value FROM {table} WHERE practice_id = $1 AND {_OTHERS.format(column=name)} "
        "AND id > $3 ORDER BY id LIMIT $4 FOR NO KEY UPDATE",
        practice_id,
        sealer.current_prefix,
        after,
        limit,
    )
    ids: list[UUID] = []
    values: list[bytes] = []
    for row in rows:
        try:
            plain = sealer.open(row["value"], column, practice_id, row["id"])
        except SealBroken:
            continue
        ids.append(row["id"])
        values.append(sealer.seal(plain, column, practice_id, row["id"]))
    await _write(connection, practice_id, table, name, ids, values)
    return Batch(len(ids), len(rows) - len(ids), rows[-1]["id"] if rows else None)


async def _write(
    connection: Connection, practice_id: PracticeId, table: str, name: str, ids: Sequence[UUID], values: Sequence[bytes]
) -> None:
    await connection.execute(
        f"UPDATE {table} t SET {name} = n.value FROM unnest($2::uuid[], $3::bytea[]) AS n(id, value) "
        "WHERE t.practice_id = $1 AND t.id = n.id",
        practice_id,
        ids,
        values,
    )
