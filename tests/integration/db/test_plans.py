"""How Postgres reads: every statement of a page by an index, and a page far down as cheap as the first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from db import account_health, changes, event_pages, lists, messages, patients, report
from db.messages import MessageFilter
from db.pool import Database
from db.practices import Practice
from mail.status import AccountKind, MessageStatus
from tests.support.plans import Recorder, blocks_read, explain
from tests.support.practice import make_account, make_patient, make_practice

MESSAGES, PATIENTS = 20_000, 2_000
BIG = {"message", "message_event", "patient"}
TRACKED = datetime(2019, 7, 24, tzinfo=UTC)


@dataclass
class House:
    database: Database
    practice: Practice
    patient_ids: Sequence[UUID]
    message_ids: Sequence[UUID]
    account_id: UUID


@pytest.fixture
async def house(database_url: str, database: Database) -> House:
    """Two practices of thousands of messages, with their evidence."""
    practice = await make_practice(database_url, "Big")
    small = await make_practice(database_url, "Small")
    owner = await asyncpg.connect(database_url)
    for each in (practice, small):
        await make_patient(database, each)
        account = await make_account(database, each)
        await make_account(database, each, AccountKind.SMTP)
        for table in ("patient", "message", "message_event"):
            await owner.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        count = 1 if each is practice else 10
        await owner.execute(
            "INSERT INTO patient (practice_id, name, email) SELECT $1, 'Pat ' || n, n || '@mail.example' "
            "FROM generate_series(1, $2::int) n",
            each.id,
            PATIENTS // count,
        )
        await owner.execute(
            "INSERT INTO message (practice_id, id, patient_id, account_id, account_kind, recipient, subject, body, "
            "track_opens, queued_at, verdict, sent_at) SELECT $1, uuid_at(at), p.id, $2, 'esp', 'a@b.example', "
            "'Letter ' || n, '', true, at, (ARRAY['sent', 'delivered', 'opened'])[1 + n % 3]::verdict, at "
            "FROM generate_series(1, $3::int) n "
            "CROSS JOIN LATERAL (SELECT now() - n * interval '1 hour' AS at) t "
            "JOIN (SELECT id, row_number() OVER () AS number FROM patient WHERE practice_id = $1) p "
            "ON p.number = 1 + n % (SELECT count(*) FROM patient WHERE practice_id = $1)",
            each.id,
            account.id,
            MESSAGES // count,
        )
        await owner.execute(
            "INSERT INTO message_event (practice_id, message_id, dedupe_key, kind, verdict, occurred_at, source) "
            "SELECT practice_id, id, 'k' || n, 'delivered', 'delivered', queued_at, 'webhook' "
            "FROM message, generate_series(1, 3) n WHERE practice_id = $1",
            each.id,
        )
    for table in ("patient", "message", "message_event"):
        await owner.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    await owner.execute("ANALYZE")
    found = await owner.fetch("SELECT id FROM patient WHERE practice_id = $1 LIMIT 30", practice.id)
    ids = await owner.fetch("SELECT id FROM message WHERE practice_id = $1 ORDER BY id DESC", practice.id)
    account_id = await owner.fetchval("SELECT account_id FROM message WHERE practice_id = $1 LIMIT 1", practice.id)
    await owner.close()
    return House(database, practice, [row["id"] for row in found], [row["id"] for row in ids], account_id)


def scans(plan: Any) -> list[tuple[str, str]]:
    """Which tables a plan reads in which way, by the table that a partition belongs to."""
    found = []
    if "Relation Name" in plan:
        name = "message_event" if plan["Relation Name"].startswith("message_event_") else plan["Relation Name"]
        found.append((plan["Node Type"], name))
    for below in plan.get("Plans", ()):
        found += scans(below)
    return found


def hot(house: House, pool: Any) -> dict[str, Any]:
    """What the API reads, by what it is for."""
    practice, ids, people = house.practice.id, house.message_ids, house.patient_ids
    everything, deep = MessageFilter(), ids[10_000]
    sent = MessageFilter(statuses=(MessageStatus.SENT,))
    now = datetime.now(UTC)
    month = MessageFilter(queued_from=now - timedelta(days=30), queued_to=now)
    few, all_columns = ("subject", "account_name"), tuple(lists.COLUMN)
    return {
        "the tab": lists.list_messages_of(pool, practice, people[0], everything, 26, None, TRACKED, all_columns),
        "the tab, further on": lists.list_messages_of(pool, practice, people[0], everything, 26, deep, TRACKED, few),
        "the tab, filtered": lists.list_messages_of(pool, practice, people[0], sent, 26, None, TRACKED, few),
        "all messages": lists.list_messages(pool, practice, everything, 26, None, TRACKED, all_columns),
        "all messages, far down": lists.list_messages(pool, practice, everything, 26, deep, TRACKED, few),
        "all messages at a status": lists.list_messages(pool, practice, sent, 26, None, TRACKED, few),
        "all messages of a month": lists.list_messages(pool, practice, month, 26, None, TRACKED, few),
        "patients": patients.list_patients(pool, practice, "", 26, None),
        "patients, further on": patients.list_patients(pool, practice, "", 26, people[0]),
        "a search": patients.list_patients(pool, practice, "pat 19", 26, None),
        "messages by id": messages.find_messages(pool, practice, ids[:25]),
        "pages of several patients": messages.pages_by_patient(pool, practice, people, everything, 26, None, TRACKED),
        "patients by id": patients.find_patients(pool, practice, people[:25]),
        "evidence": event_pages.page_of_events(pool, practice, ids[:25], 51, None),
        "one event": event_pages.find_event(pool, practice, ids[0], "k1"),
        "changes": changes.read_changes(pool, practice, 1 << 40, 100),
        "health": account_health.count_for_health(pool, practice, [house.account_id], now - timedelta(days=30), now),
        "a report": report.count_by_status(pool, practice, now - timedelta(days=7), now, TRACKED),
    }


async def test_no_statement_of_the_api_scans_a_big_table(house: House) -> None:
    scanned = {}
    recorder = Recorder(house.database.app)
    for name, asked in hot(house, recorder).items():
        await asked
        found = scans(await explain(house.database.app, recorder))
        assert found, name
        bad = [scan for scan in found if scan[0] == "Seq Scan" and scan[1] in BIG]
        # Partitions of other months are empty here, and Postgres rightly reads nothing of them.
        if name not in {"evidence", "one event"} and bad:
            scanned[name] = bad
    assert scanned == {}


async def test_a_page_far_down_costs_what_the_first_one_costs(house: House) -> None:
    recorder = Recorder(house.database.app)

    async def blocks(after: UUID | None) -> int:
        page = await lists.list_messages(
            recorder,  # type: ignore[arg-type]
            house.practice.id,
            MessageFilter(),
            26,
            after,
            TRACKED,
            tuple(lists.COLUMN),
        )
        assert len(page.rows) == 26
        return await blocks_read(house.database.app, recorder)

    first, far = await blocks(None), await blocks(house.message_ids[15_000])
    assert far <= first * 1.5, (first, far)
