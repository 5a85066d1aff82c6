"""Room on the pages of messages and patients: what becomes of them is written beside them."""

from collections.abc import Mapping, Sequence

from db.events import record_events
from db.messages import insert_messages
from db.patients import NewPatient, insert_patients
from db.pool import Database
from mail.event import EventKind
from mail.ids import MessageId
from tests.integration.db.houses import House, furnish, matched, promise
from tests.support.databases import OWN_SEALER

PATIENTS = 300
WRITTEN = """SELECT n_tup_upd AS rows, n_tup_hot_upd AS beside, n_tup_newpage_upd AS elsewhere
FROM pg_stat_xact_user_tables WHERE relname = $1"""
"""By this connection so far, but for what it has told the statistics."""


async def write_to_everybody(database: Database, house: House) -> list[MessageId]:
    """A message to each of many new patients."""
    async with database.tenant(house.practice.id) as connection:
        new = [NewPatient(f"Pat {n}", f"pat.{n}@mail.example", open_tracking=True) for n in range(PATIENTS)]
        ids = await insert_patients(connection, house.practice.id, new)
        rows = await connection.fetch("SELECT id, email FROM patient WHERE id = ANY($1::uuid[])", ids)
        drafts = [promise(house, patient_id=row["id"], recipient=row["email"]) for row in rows]
        await insert_messages(connection, OWN_SEALER, house.practice.id, drafts)
    return [draft.id for draft in drafts]


async def deliver(database: Database, house: House, ids: Sequence[MessageId], table: str) -> Mapping[str, int]:
    """What of a table that writes: rows, those of them with no new entry in an index, those put onto another page."""
    async with database.tenant(house.practice.id) as connection:
        before = await connection.fetchrow(WRITTEN, table)
        await record_events(connection, house.practice.id, [matched(each, EventKind.DELIVERED) for each in ids])
        after = await connection.fetchrow(WRITTEN, table)
    assert before is not None
    assert after is not None
    return {name: after[name] - before[name] for name in ("rows", "beside", "elsewhere")}


async def test_a_bulk_that_is_delivered_at_once_writes_no_index_of_patients(
    database: Database, database_url: str
) -> None:
    house = await furnish(database, database_url, "northgate")
    ids = await write_to_everybody(database, house)
    written = await deliver(database, house, ids, "patient")
    assert written == {"rows": PATIENTS, "beside": PATIENTS, "elsewhere": 0}


async def test_an_event_leaves_its_message_on_its_page(database: Database, database_url: str) -> None:
    house = await furnish(database, database_url, "northgate")
    some = (await write_to_everybody(database, house))[::20]
    written = await deliver(database, house, some, "message")
    assert (written["rows"], written["elsewhere"]) == (len(some), 0)
