"""Who goes first, and whom a bad server holds up: nobody but its own account. Order is measured, not time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

import asyncpg
import httpx2
import pytest

from api.graphql.ids import global_id
from carepost.sandbox import smtp
from db.accounts import Account
from db.messages import insert_messages
from db.outbox import AttemptOutcome, Claim, Ending, Lane, claim_due, finish_all, put_back
from db.patients import Patient
from db.pool import Connection, Database, PoolSize
from db.practices import Practice
from mail.event import Event, EventKind
from mail.ids import MessageId
from mail.status import AccountKind
from tests.acceptance.processes import free_port
from tests.integration.workers.sending import Desk, faults, received
from tests.support.databases import OWN_SEALER
from tests.support.practice import draft_of, make_account, make_message, make_patient, make_practice
from tests.support.stack import Stack, until
from workers import jobs
from workers.jobs import Jobs
from workers.outcomes import Ended, Outcomes

HOUR = timedelta(hours=1)


async def write_bulk(stack: Stack, practice: Practice, patient: Patient, account: Account, count: int) -> None:
    messages = [draft_of(patient, account, bulk=True) for _ in range(count)]
    async with stack.database.tenant(practice.id) as connection:
        await insert_messages(connection, OWN_SEALER, practice.id, messages)


async def count(stack: Stack, practice: Practice, condition: str) -> int:
    async with stack.database.tenant(practice.id) as connection:
        found: int = await connection.fetchval(f"SELECT count(*) FROM message m WHERE {condition}")
        return found


@dataclass
class Wall:
    """A mail server that takes connections, says nothing, and counts."""

    port: int = 0
    opened: int = 0
    held: list[asyncio.StreamWriter] = field(default_factory=list)


@contextlib.asynccontextmanager
async def wall() -> AsyncIterator[Wall]:
    standing = Wall()

    async def enter(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        standing.opened += 1
        standing.held.append(writer)

    server = await asyncio.start_server(enter, "127.0.0.1", 0)
    standing.port = server.sockets[0].getsockname()[1]
    try:
        yield standing
    finally:
        server.close()
        for writer in standing.held:
            writer.close()


async def test_a_single_email_passes_a_bulk_of_its_own_account(stack: Stack, practice: Practice) -> None:
    account, server = await stack.smtp(practice)
    everybody = await make_patient(stack.database, practice, "everybody@mail.example")
    one = await make_patient(stack.database, practice, "one@mail.example")
    await write_bulk(stack, practice, everybody, account, 600)
    api = await stack.api()
    await stack.worker(sweep_interval=timedelta(seconds=0.2))
    client = await stack.client(api, practice)
    await until(lambda: count(stack, practice, "verdict = 'sent'"))
    nodes = (await client("{ patients { nodes { id email } } }"))["patients"]["nodes"]
    wanted = next(node["id"] for node in nodes if node["email"] == one.email)
    send = "mutation ($input: SendMessageInput!) { sendMessage(input: $input) { errors { code } } }"
    wish = {
        "patientId": wanted,
        "accountId": global_id("SendingAccount", str(account.id)),
        "subject": "Your results",
        "text": "Please call us.",
    }
    await client(send, input=wish)
    before = len(await received(server))
    await until(lambda: count(stack, practice, "verdict = 'sent' AND NOT bulk"))
    order = [mail["recipients"][0] for mail in await received(server)]
    place = order.index(one.email)
    # Ahead of it goes what was sent while its wake-up was under way, and what the server had in its hands.
    assert place - before <= 100
    assert await count(stack, practice, "verdict = 'queued' AND bulk") > 0
    await until(lambda: _all_sent(stack, practice), within=60)
    assert len(await received(server)) == 601


async def _all_sent(stack: Stack, practice: Practice) -> bool:
    return await count(stack, practice, "verdict <> 'sent'") == 0


@pytest.mark.parametrize("many", [40])
async def test_a_server_that_hangs_holds_up_no_other_account(
    stack: Stack, practice: Practice, database_url: str, many: int
) -> None:
    other = await make_practice(database_url, "Southgate")
    account, server = await stack.smtp(practice)
    async with wall() as hanging:
        credentials = {"host": "127.0.0.1", "port": str(hanging.port), "security": "none"}
        dead = await make_account(stack.database, other, AccountKind.SMTP, credentials=credentials)
        stranger = await make_patient(stack.database, other)
        await write_bulk(stack, other, stranger, dead, many)
        patient = await make_patient(stack.database, practice)
        await stack.worker(sweep_interval=timedelta(seconds=0.2), lease=timedelta(seconds=60))
        await until(lambda: _has(hanging, 3))
        for _ in range(20):
            await make_message(stack.database, practice, patient, account)
        await until(lambda: _all_sent(stack, practice))
        # All of ours went while the other practice's server had said nothing to anybody.
        assert len(await received(server)) == 20
        assert await count(stack, other, "attempt_failed OR ambiguous OR verdict <> 'queued'") == 0
        assert hanging.opened <= 4


async def _has(hanging: Wall, least: int) -> bool:
    return hanging.opened >= least


async def test_a_server_that_is_down_is_probed_by_one_message_and_gets_the_rest_once_it_answers(
    stack: Stack, practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mail.retry.FIRST_DELAY", timedelta(seconds=0.4))
    port = free_port()
    credentials = {"host": "127.0.0.1", "port": str(port), "security": "none"}
    account = await make_account(stack.database, practice, AccountKind.SMTP, credentials=credentials)
    patient = await make_patient(stack.database, practice)
    await write_bulk(stack, practice, patient, account, 60)
    metrics = free_port()
    await stack.worker(sweep_interval=timedelta(seconds=0.1), metrics=("127.0.0.1", metrics))

    async def paused() -> str:
        async with httpx2.AsyncClient(trust_env=False) as client:
            text = (await client.get(f"http://127.0.0.1:{metrics}/metrics")).text
        return next(line for line in text.splitlines() if line.startswith("carepost_sending_paused_accounts"))

    async def attempted() -> int:
        async with stack.database.tenant(practice.id) as connection:
            number: int = await connection.fetchval(
                "SELECT count(*) FROM message_event WHERE kind = 'attempt_deferred'"
            )
            return number

    async def probed() -> bool:
        return await attempted() >= 6

    await until(probed)
    # Of sixty messages a handful met the server; the others wait, and show no failed attempt.
    assert await attempted() <= 12
    assert await count(stack, practice, "verdict = 'queued' AND NOT attempt_failed") >= 48
    assert await paused() == "carepost_sending_paused_accounts 1.0"
    async with smtp.running(smtp.SmtpOptions(), port=port) as server:
        await until(lambda: _all_sent(stack, practice), within=40)
        assert len(await received(server)) == 60
    assert await paused() == "carepost_sending_paused_accounts 0.0"


async def test_an_esp_that_asks_to_wait_is_left_alone_and_another_account_is_not(desk: Desk) -> None:
    base = str(desk.client.http.base_url).rstrip("/")
    slow, slow_url = await desk.stack.esp(desk.practice, base, webhook_urls=[])
    quick, server = await desk.stack.smtp(desk.practice)
    await faults(slow_url, {"send_status": 429, "retry_after": 3600, "times": 1000})
    patient = await make_patient(desk.stack.database, desk.practice, "silent@sandbox.example")
    await write_bulk(desk.stack, desk.practice, patient, slow, 50)
    await write_bulk(desk.stack, desk.practice, patient, quick, 50)
    await desk.stack.worker(sweep_interval=timedelta(seconds=0.1))
    await until(lambda: count_at_least(desk, f"account_id = '{quick.id}' AND verdict = 'sent'", 50))
    assert len(await received(server)) == 50
    await asyncio.sleep(0.5)  # five more rounds of the sweeper
    async with desk.stack.database.tenant(desk.practice.id) as connection:
        tried = await connection.fetchval("SELECT count(*) FROM message_event WHERE kind = 'attempt_deferred'")
    assert 1 <= tried <= 8  # as many as it had in its hands


async def count_at_least(desk: Desk, condition: str, least: int) -> bool:
    return await count(desk.stack, desk.practice, condition) >= least


async def test_two_who_claim_at_once_share_what_is_due_and_singles_go_first(stack: Stack, practice: Practice) -> None:
    account, _ = await stack.smtp(practice)
    patient = await make_patient(stack.database, practice)
    await write_bulk(stack, practice, patient, account, 90)
    single = await make_message(stack.database, practice, patient, account)
    lane = Lane(practice.id, account.id)

    async def claim(limit: int, *, bulk: bool = True) -> list[MessageId]:
        async with stack.database.tenant(practice.id) as connection:
            claims = await claim_due(connection, OWN_SEALER, lane, "worker", HOUR, limit, bulk=bulk)
            return [claimed.message_id for claimed in claims]

    assert await claim(10, bulk=False) == [single]
    shares = await asyncio.gather(*(claim(30) for _ in range(6)))
    taken = [message_id for share in shares for message_id in share]
    assert (len(taken), len(set(taken))) == (90, 90)


@pytest.mark.parametrize("known", ["others are sending", "nothing is due", "nothing at all"])
async def test_the_first_bulk_of_a_practice_that_the_statistics_do_not_know_reads_no_more_than_any_other(
    stack: Stack, practice: Practice, known: str
) -> None:
    owner = await asyncpg.connect(stack.database_url)
    if known != "nothing at all":
        account = await make_account(stack.database, practice, kind=AccountKind.SMTP)
        await write_bulk(stack, practice, await make_patient(stack.database, practice), account, 3000)
        await owner.execute(
            "INSERT INTO message_event (practice_id, message_id, dedupe_key, kind, verdict, occurred_at, source) "
            "SELECT practice_id, id, 'x', 'accepted', 'sent', now(), 'attempt' FROM message"
        )
        if known == "nothing is due":
            await owner.execute("UPDATE message SET due_at = NULL, verdict = 'sent'")
        await owner.execute("VACUUM ANALYZE")
    of = await make_practice(stack.database_url, "New")
    account = await make_account(stack.database, of, kind=AccountKind.SMTP)
    patient = await make_patient(stack.database, of)
    # A worker's connection, whose plans are made before there is anything to send.
    async with stack.database.tenant(of.id) as connection:
        assert await claim_due(connection, OWN_SEALER, Lane(of.id, account.id), "worker", HOUR, 8) == []
    await write_bulk(stack, of, patient, account, 3000)
    await owner.close()

    async def looked_at(connection: Connection) -> int:
        """Rows of messages and attempts, by an index or one after the other, since the session told Postgres the last
        time."""
        found: int = await connection.fetchval(
            "SELECT sum(pg_stat_get_xact_tuples_returned(t) + (SELECT sum(pg_stat_get_xact_tuples_fetched(indexrelid)) "
            "FROM pg_index WHERE indrelid = t)) FROM (VALUES ('message'::regclass), ('attempt'::regclass)) AS v(t)"
        )
        return found

    for _ in range(8):
        async with stack.database.tenant(of.id) as connection:
            before = await looked_at(connection)
            claims = await claim_due(connection, OWN_SEALER, Lane(of.id, account.id), "worker", HOUR, 8)
            assert len(claims) == 8
            assert await looked_at(connection) - before < 100
        async with stack.database.tenant(of.id) as connection:
            before = await looked_at(connection)
            await finish_all(connection, of.id, [accepted(claimed) for claimed in claims])
            assert await looked_at(connection) - before < 100


def accepted(claimed: Claim) -> Ending:
    event = Event(kind=EventKind.ACCEPTED, occurred_at=datetime.now(UTC), dedupe_key=f"attempt/{claimed.number}")
    return Ending(claimed, AttemptOutcome.ACCEPTED, event)


async def test_an_outcome_whose_row_somebody_holds_waits_for_it_and_holds_up_no_other(
    stack: Stack, practice: Practice
) -> None:
    account, _ = await stack.smtp(practice)
    patient = await make_patient(stack.database, practice)
    for _ in range(3):
        await make_message(stack.database, practice, patient, account)
    async with stack.database.tenant(practice.id) as connection:
        claims = await claim_due(connection, OWN_SEALER, Lane(practice.id, account.id), "worker", HOUR, 3)
    held, *others = [claimed.message_id for claimed in claims]
    written: list[MessageId] = []

    async def stuck() -> bool:
        return outcomes.stuck

    async with Database(stack.database_url, PoolSize(1, 2), statement_timeout_ms=200) as database:
        outcomes = Outcomes(database, Jobs(jobs.connect(stack.redis_url), enabled=False))
        async with stack.database.tenant(practice.id) as somebody:
            await somebody.execute("SELECT FROM message WHERE id = $1 FOR UPDATE", held)
            for claimed in claims:
                done = partial(written.append, claimed.message_id)
                outcomes.add(Ended(accepted(claimed), None, done))
            await until(stuck)
            assert await count(stack, practice, f"verdict = 'queued' AND id = '{held}'") == 1
        await outcomes.drain()
    assert (set(written), outcomes.stuck) == ({held, *others}, False)
    assert await count(stack, practice, "verdict = 'sent'") == 3


async def test_outcomes_of_a_batch_are_each_checked_against_their_own_token(stack: Stack, practice: Practice) -> None:
    account, _ = await stack.smtp(practice)
    patient = await make_patient(stack.database, practice)
    for _ in range(3):
        await make_message(stack.database, practice, patient, account)
    lane = Lane(practice.id, account.id)
    async with stack.database.tenant(practice.id) as connection:
        late = await claim_due(connection, OWN_SEALER, lane, "late", timedelta(0), 3)
    async with stack.database.tenant(practice.id) as connection:
        [taken] = await claim_due(connection, OWN_SEALER, lane, "other", HOUR, 1)
    endings = [accepted(claimed) for claimed in late]
    async with stack.database.tenant(practice.id) as connection:
        written = await finish_all(connection, practice.id, endings)
    assert written == {(c.message_id, 1) for c in late} - {(taken.message_id, 1)}
    assert await count(stack, practice, "verdict = 'sent'") == 2
    assert await count(stack, practice, f"id = '{taken.message_id}' AND verdict = 'queued' AND attempts = 2") == 1


async def test_what_is_put_back_is_due_again_without_a_trace_of_doubt(stack: Stack, practice: Practice) -> None:
    account, _ = await stack.smtp(practice)
    patient = await make_patient(stack.database, practice)
    await make_message(stack.database, practice, patient, account)
    lane = Lane(practice.id, account.id)
    for _ in range(2):
        async with stack.database.tenant(practice.id) as connection:
            claims = await claim_due(connection, OWN_SEALER, lane, "worker", HOUR, 5)
            assert len(claims) == 1
        async with stack.database.tenant(practice.id) as connection:
            await put_back(connection, practice.id, claims)
    assert await count(stack, practice, "due_at <= now() AND NOT ambiguous AND NOT attempt_failed") == 1
    async with stack.database.tenant(practice.id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM message_event") == 0
        # Too late: somebody else has it.
        again = await claim_due(connection, OWN_SEALER, lane, "worker", HOUR, 5)
        await put_back(connection, practice.id, claims)
        assert await connection.fetchval("SELECT attempts FROM message WHERE due_at > now()") == again[0].number
    # How long it waits for its next try doesn't grow by what was no try.
    assert (again[0].number, again[0].tries) == (3, 1)
