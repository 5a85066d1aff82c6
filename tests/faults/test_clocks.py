"""Wrong clocks: what is stored, sent and tried again goes by Postgres' clock, whatever a process's own one shows."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from api.roles import Role
from mail.retry import FIRST_DELAY
from tests.faults import books, house
from tests.faults.house import House
from tests.faults.load import Sends
from tests.faults.servers import Servers
from tests.support.stack import GraphQLClient, token_for, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
HOUR, BEYOND_TRYING = 3600.0, 180_000.0
WHO = "{ viewer { subject } }"
CLOCKS = {"api-1": 500 * 86_400.0, "api-2": -HOUR, "worker-1": BEYOND_TRYING, "worker-2": -BEYOND_TRYING}
SEND = """mutation ($input: SendMessageInput!) {
  sendMessage(input: $input) { message { id status scheduledAt } errors { message } }
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home(durable_servers: Servers) -> AsyncIterator[House]:
    async with house.furnished(durable_servers, clocks=CLOCKS) as built:
        yield built


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sends(home: House) -> Sends:
    staff = Sends(home, Random(1))
    await staff.prepare()
    staff.patients["greylisted"] = await staff.add_patient("greylisted@sandbox.example")
    return staff


async def test_messages_go_out_once_and_are_tried_again_as_by_a_right_clock(home: House, sends: Sends) -> None:
    # A server that asks to try again: who judged the 48 hours by the workers' clocks would give up at once.
    for life in ("greylisted", "smtp", "delivered", "deferred") * 3:
        await sends.send(life=life)
    found = await books.balance(home, sends, [])
    assert (found.acknowledged, found.sent_twice, found.ambiguous) == (12, 0, 0)
    rows = await home.ask(
        "SELECT count(*) AS all, count(*) FILTER (WHERE verdict = 'failed') AS failed, "
        "max(abs(extract(epoch FROM queued_at - now()))) AS queued, "
        "max(abs(extract(epoch FROM sent_at - now()))) AS sent FROM message"
    )
    assert (rows[0]["all"], rows[0]["failed"]) == (12, 0)
    assert max(rows[0]["queued"], rows[0]["sent"]) < HOUR / 2
    waits = await home.ask(
        "SELECT second.started_at - first.started_at AS pause FROM attempt first "
        "JOIN attempt second ON second.message_id = first.message_id AND second.number = first.number + 1 "
        "WHERE first.outcome = 'deferred'"
    )
    # Half of the first delay at least: neither at once nor in days.
    assert len(waits) == 3
    assert all(row["pause"] >= FIRST_DELAY / 2 for row in waits)


async def test_a_webhook_is_taken_whatever_the_time_that_its_signature_names(home: House, sends: Sends) -> None:
    # The ESP signs the real time. A window would have the webhook refused by both API processes.
    await sends.send(life="delivered")
    await books.balance(home, sends, [])
    rows = await home.ask("SELECT sum(signature_failures)::integer AS refused FROM sending_account")
    assert rows[0]["refused"] == 0
    rows = await home.ask(
        "SELECT count(*) FROM webhook_delivery WHERE abs(extract(epoch FROM received_at - now())) > 3600"
    )
    assert rows[0][0] == 0


@pytest.mark.parametrize("number", [0, 1])
async def test_a_time_to_send_at_is_postgres_time(home: House, sends: Sends, number: int) -> None:
    now: datetime = (await home.ask("SELECT now()"))[0][0]
    at = now + timedelta(minutes=20)
    wish = {"patientId": sends.patients["silent"], "subject": "Later", "text": "x", "sendAt": at.isoformat()}
    message = (await ask_one(home, number, home.client.token, SEND, input=wish))["data"]["sendMessage"]["message"]
    assert message["status"] == "QUEUED"
    assert datetime.fromisoformat(message["scheduledAt"]) == at
    assert (await home.ask("SELECT count(*) FROM message WHERE due_at = $1", at))[0][0] == 1


async def test_a_token_is_judged_by_the_clock_of_the_process_that_is_asked(home: House) -> None:
    token = token_for(home.practice, Role.STAFF, timedelta(hours=1))
    codes = []
    for number in range(2):
        answer = await ask_one(home, number, token, WHO)
        codes.append([error["extensions"]["code"] for error in answer["errors"]])
    assert codes == [["UNAUTHENTICATED"]] * 2  # past its end, and before its beginning
    for process in home.apis:
        process.set_clock(0)

    async def is_taken() -> bool:
        answers = [await ask_one(home, number, token, WHO) for number in range(2)]
        return all("errors" not in answer for answer in answers)

    await until(is_taken)


async def ask_one(home: House, number: int, token: str, query: str, **variables: Any) -> dict[str, Any]:
    """What one API process answers."""
    async with httpx2.AsyncClient(base_url=home.api_urls[number], timeout=15, trust_env=False) as http:
        return await GraphQLClient(http, token).raw(query, **variables)
