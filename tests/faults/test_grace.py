"""Degrading with grace: what still goes on while something is away, and that all is well afterwards by itself."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio

from carepost.sandbox.vendors.sendgrid.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER
from mail.ids import PracticeId
from tests.faults import books, house
from tests.faults.house import House
from tests.faults.load import Sends, Watcher
from tests.faults.process import PATIENCE, Process
from tests.faults.proxy import Link
from tests.faults.servers import Servers
from tests.support.stack import GraphQLClient, token_for, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
READ = """query ($id: ID!) { message(id: $id) { status explanation { code } } }"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home(durable_servers: Servers) -> AsyncIterator[House]:
    async with house.furnished(durable_servers) as built:
        yield built


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sends(home: House) -> Sends:
    staff = Sends(home, random.Random(1))
    await staff.prepare()
    return staff


async def reaches(home: House, message_id: str, *statuses: str, within: float = PATIENCE) -> None:
    async def look() -> bool:
        message = (await home.client(READ, id=message_id))["message"]
        return message["status"] in statuses

    await until(look, within)


async def starts_anew(worker: Process) -> None:
    before = worker.printed.count("worker is ready")
    worker.start()
    await until(lambda: _true(worker.printed.count("worker is ready") > before), PATIENCE)


async def last(sends: Sends, **options: Any) -> str:
    await sends.send(**options)
    return list(sends.taken.values())[-1]


async def test_without_valkey_work_goes_on_and_live_updates_come_late(home: House, sends: Sends) -> None:
    done = asyncio.Event()
    watcher = Watcher(home)
    watching = asyncio.create_task(watcher.watch(done))
    await until(lambda: _true(watcher.connections > 0))
    await home.link("valkey", Link.REFUSING)
    try:

        async def says_so() -> bool:
            told = [await home.readiness(number) for number in range(2)]
            return all(code == 200 and "delayed" in answer["live"] for code, answer in told)

        await until(says_so)
        for share in (0.0, 0.0, 1.0):
            message_id = await last(sends, smtp_share=share)
            await reaches(home, message_id, "SENT", "DELIVERED", "OPENED", "NOT_DELIVERED")
            # Told by the round that needs no notice: 5 s, and a busy machine's delay.
            await until(lambda key=message_id: _true(watcher.statuses.get(key) not in {None, "QUEUED"}), 15)
    finally:
        await home.link("valkey", Link.OPEN)
    await home.ready()
    await books.balance(home, sends, [watcher])
    done.set()
    await watching


async def test_connections_to_valkey_that_lead_nowhere_are_given_up(home: House) -> None:
    await home.ready()
    opened = home.links["valkey-api"].opened
    assert home.links["valkey-api"].lose() > 0
    await until(lambda: _true(home.links["valkey-api"].opened >= opened + 2), 30)
    await home.ready()


async def test_without_postgres_errors_are_coded_and_all_recovers_without_a_restart(home: House, sends: Sends) -> None:
    pids = [process.pid for process in home.processes]
    before = await last(sends, smtp_share=0)
    await home.order("postgres crash")
    try:
        answer = await home.client.raw(READ, id=before)
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAVAILABLE"]
        wish = {"patientId": sends.patients["silent"], "subject": "x", "text": "x"}
        mutation = "mutation ($input: SendMessageInput!) { sendMessage(input: $input) { message { id } } }"
        answer = await home.client.raw(mutation, input=wish)
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAVAILABLE"]
        # Somebody whom no process has seen yet: whether the token was revoked can't be looked up.
        stranger = token_for(replace(home.practice, id=PracticeId(uuid4())))
        async with httpx2.AsyncClient(base_url=home.url, timeout=15, trust_env=False) as http:
            answer = await GraphQLClient(http, stranger).raw(READ, id=before)
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAVAILABLE"]
        for number in range(2):
            code, told = await home.readiness(number)
            assert (code, told["database"]) == (503, "out of reach")
        async with httpx2.AsyncClient(trust_env=False) as client:
            refused = await client.post(
                home.hook, content=b"[]", headers={SIGNATURE_HEADER: "MA==", TIMESTAMP_HEADER: "1"}
            )
        # 401 where the secret is remembered: the signature isn't one. Never a 2xx for what can't be kept.
        assert refused.status_code in {401, 503}
    finally:
        await home.order("postgres start")
    await home.ready()
    await reaches(home, before, "SENT", "DELIVERED", "OPENED", "NOT_DELIVERED")
    assert [process.pid for process in home.processes] == pids
    assert all(process.is_running for process in home.processes)
    await books.balance(home, sends, [])


async def test_an_answer_that_came_while_postgres_was_away_is_written_once_it_is_back(
    home: House, sends: Sends
) -> None:
    before = await books.balance(home, sends, [])
    home.workers[1].kill()
    home.workers[0].environment["CAREPOST_LEASE_SECONDS"] = "120"  # as long as the test may take
    await starts_anew(home.workers[0])
    await home.links["smtp"].set(Link.SILENT)
    message_id = await last(sends, life="smtp")

    async def is_on_its_way() -> bool:
        return bool((await home.ask("SELECT count(*) FROM attempt WHERE ended_at IS NULL"))[0][0])

    await until(is_on_its_way, PATIENCE)
    await home.links["postgres-worker"].set(Link.REFUSING)
    await home.links["smtp"].set(Link.OPEN)
    await home.workers[0].says("outcomes wait for postgres")
    assert (await home.client(READ, id=message_id))["message"]["status"] == "QUEUED"
    await home.links["postgres-worker"].set(Link.OPEN)
    await reaches(home, message_id, "SENT")
    home.workers[0].environment["CAREPOST_LEASE_SECONDS"] = home.workers[1].environment["CAREPOST_LEASE_SECONDS"]
    for process in home.workers:
        await starts_anew(process)
    found = await books.balance(home, sends, [])
    assert (found.sent_twice, found.ambiguous) == (before.sent_twice, before.ambiguous)


@pytest.mark.parametrize(("broken", "other"), [("esp", "smtp"), ("smtp", "esp")])
async def test_one_mail_server_away_leaves_the_others_their_pace(
    home: House, sends: Sends, broken: str, other: str
) -> None:
    await home.link(broken, Link.SILENT)
    try:
        waiting = [await last(sends, smtp_share=float(broken == "smtp")) for _ in range(8)]
        began = time.monotonic()
        for _ in range(5):
            passing = await last(sends, smtp_share=float(other == "smtp"))
            await reaches(home, passing, "SENT", "DELIVERED", "OPENED", "NOT_DELIVERED", within=10)
        assert time.monotonic() - began < 20
        for message_id in waiting:
            assert (await home.client(READ, id=message_id))["message"]["status"] == "QUEUED"
    finally:
        await home.link(broken, Link.OPEN)
    await books.balance(home, sends, [])


async def test_processes_told_to_stop_finish_what_they_have_in_hand(home: House, sends: Sends) -> None:
    before = await books.balance(home, sends, [])
    stop = asyncio.Event()
    sending = asyncio.create_task(sends.keep_sending(stop, 20))
    try:
        for process in (home.workers[0], home.apis[0]):
            await asyncio.sleep(0.5)
            process.tell(signal.SIGTERM)
            assert await process.ends() == 0
            assert "Traceback" not in process.printed.rpartition("worker is ready")[2]
            process.start()
    finally:
        stop.set()
        await sending
    await home.ready()
    found = await books.balance(home, sends, [])
    assert found.acknowledged > before.acknowledged
    assert (found.sent_twice, found.ambiguous) == (before.sent_twice, before.ambiguous)


async def _true(answer: bool) -> bool:
    return answer
