"""Rows that a transaction locks before it writes them, in the one order that everybody keeps: messages by id, what is
parked by its key, patients by id, accounts by id. So workers never wait for each other in a circle."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

import asyncpg

from db.pool import Connection
from mail.ids import AccountId, MessageId, PatientId, PracticeId

Place = tuple[int, int]
"""Of a row: its ctid, which holds for as long as it is locked."""


class Recipient(NamedTuple):
    """Whom a message went to, and at which address."""

    patient_id: PatientId
    address: str


class Locked(NamedTuple):
    """A message that this transaction has locked."""

    place: Place
    account_id: AccountId
    recipient: Recipient


async def lock_messages(
    connection: Connection, practice_id: PracticeId, message_ids: Iterable[UUID]
) -> dict[MessageId, Locked]:
    """Locks messages in the order of their ids, so that workers never wait for each other in a circle: before anything
    else of theirs, as everybody does. Where a message lies holds until this transaction writes it."""
    if not (ids := list(message_ids)):
        return {}
    rows = await connection.fetch(
        "SELECT id, ctid, account_id, patient_id, recipient FROM message "
        "WHERE practice_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR NO KEY UPDATE",
        practice_id,
        ids,
    )
    return {row["id"]: locked_from(row) for row in rows}


def locked_from(row: asyncpg.Record) -> Locked:
    """Of the columns ctid, account_id, patient_id and recipient of a row that is locked."""
    return Locked(row["ctid"], row["account_id"], Recipient(row["patient_id"], row["recipient"]))


async def lock_patients(
    connection: Connection, practice_id: PracticeId, recipients: Iterable[Recipient]
) -> dict[PatientId, Place]:
    """Locks patients in the order of their ids, after the messages. Returns where each is, and stays."""
    rows = await connection.fetch(
        "SELECT id, ctid FROM patient WHERE practice_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR NO KEY UPDATE",
        practice_id,
        [recipient.patient_id for recipient in recipients],
    )
    return {row["id"]: row["ctid"] for row in rows}


def ids_and_places(locked: Mapping[MessageId, Locked]) -> tuple[list[MessageId], list[Place]]:
    """As columns, in the order of the ids, by which the statements find a place."""
    ids = sorted(locked)
    return ids, [locked[message_id].place for message_id in ids]
