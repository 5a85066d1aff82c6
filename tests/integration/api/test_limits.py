"""Every limit answers with a code, and costs a bounded amount of work: rows, rates, time, subscriptions."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import asyncpg
import httpx2
import pytest

from api.addresses import webhook_url
from api.config import Limits
from api.graphql.ids import global_id
from api.rates import Rates, token_key
from db.practices import Practice
from mail.providers import PROVIDERS
from tests.integration.api.hooks import postmark_delivery, postmark_hook, sendgrid_hook
from tests.integration.api.sockets import CHANGED, LiveClient
from tests.support.practice import make_account, make_message, make_patient
from tests.support.stack import Stack, token_for, until

PAGE = "query ($n: Int!) { patients(first: $n) { nodes { name messages(first: 100) { nodes { id } } } } }"


def codes(response: httpx2.Response) -> list[str]:
    return [error["extensions"]["code"] for error in response.json().get("errors", [])]


@asynccontextmanager
async def asking(stack: Stack, practice: Practice, **limits: Any) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"authorization": f"Bearer {token_for(practice)}"}
    api = await stack.api(limits=Limits(**limits))
    async with httpx2.AsyncClient(base_url=api, headers=headers, timeout=20) as http:
        yield http


async def ask(http: httpx2.AsyncClient, query: str, **variables: Any) -> httpx2.Response:
    return await http.post("/graphql", json={"query": query, "variables": variables})


COSTS = {
    "{ viewer { role } }": 0,
    "{ patients { pageInfo { hasNextPage } } }": 25,
    "{ patients { nodes { id } } }": 25,
    "{ patients { edges { node { id } } } }": 25,
    "{ patients { nodes { id } edges { node { id } } } }": 50,
    "{ patients(first: 10) { nodes { messages(first: 20) { nodes { id } } } } }": 10 * (1 + 20),
    "{ patients(first: 10) { nodes { messages(first: 20) { nodes { patient { id } events { nodes { id } } } } } } }": 10
    * (1 + 20 * (1 + 1 + 50)),
    "{ a: patients(first: 3) { nodes { id } } b: patients(first: 4) { nodes { id } } }": 7,
    "{ patients(first: 3) { ...p } } fragment p on PatientConnection { nodes { ... on Node { id } } }": 3,
    "{ patients(first: 3) { ...p ...p } } fragment p on PatientConnection { nodes { id } }": 6,
    "{ sendingAccounts { name } }": 100,
    '{ node(id: "x") { id } message(id: "x") { resendOf { resendOf { id } } } }': 4,
    "{ patients(first: 2000000000) { nodes { id } } }": 200,
    "query ($n: Int = 7) { patients(first: $n) { nodes { id } } }": 7,
}


async def test_an_operation_costs_the_rows_that_it_may_return(stack: Stack, practice: Practice) -> None:
    async with asking(stack, practice, query_rows=1) as http:
        found = {}
        for query, rows in COSTS.items():
            [*errors] = (await ask(http, query)).json().get("errors", [])
            found[query] = errors[0]["extensions"].get("rows", 0) if errors and rows > 1 else 0
    assert found == COSTS


async def test_the_rows_of_variables_are_counted_each_time_also_for_a_document_that_is_known(
    stack: Stack, practice: Practice
) -> None:
    async with asking(stack, practice, query_rows=1000) as http:
        for n, allowed in [(1, True), (9, True), (10, False), (200, False), (9, True), (200, False)] * 3:
            response = await ask(http, PAGE, n=n)
            assert response.status_code == 200
            assert codes(response) == ([] if allowed else ["QUERY_TOO_COSTLY"]), n
        [error] = (await ask(http, PAGE, n=200)).json()["errors"]
        assert error["extensions"] == {"code": "QUERY_TOO_COSTLY", "rows": 20200, "limit": 1000}
        assert codes(await ask(http, PAGE, n="many")) == ["BAD_USER_INPUT"]
        named = {"query": f"query a {PAGE.partition(' ')[2]} query b {{ viewer {{ role }} }}", "operationName": "b"}
        for _ in range(2):
            assert codes(await http.post("/graphql", json=named)) == []
            assert codes(await http.post("/graphql", json={**named, "operationName": "a", "variables": {"n": 99}})) == [
                "QUERY_TOO_COSTLY"
            ]


async def test_the_costliest_document_is_counted_in_no_time(stack: Stack, practice: Practice) -> None:
    fragments = [f"fragment f{n} on Patient {{ ...f{n + 1} ...f{n + 1} }}" for n in range(60)]
    query = " ".join(
        ["{ patients { nodes { ...f0 } } }", *fragments, "fragment f60 on Patient { messages { nodes { id } } }"]
    )
    async with asking(stack, practice) as http:
        response = await ask(http, query)
        assert codes(response) == ["QUERY_TOO_COSTLY"]
        assert response.elapsed.total_seconds() < 2


async def test_an_operation_on_a_socket_is_counted_too(stack: Stack, practice: Practice) -> None:
    api = await stack.api(limits=Limits(query_rows=1000))
    async with LiveClient(api, token_for(practice)) as client:
        for n, kind in ((1, "next"), (200, "error")):
            answer = await client.answer(await client.start(PAGE, n=n))
            assert answer["type"] == kind, answer
        assert "QUERY_TOO_COSTLY" in str(answer)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What rates are counted by; it stands until it is moved."""
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("api.rates.time", clock)
    return clock


async def test_one_token_may_ask_so_often_and_the_others_are_served(
    stack: Stack, practice: Practice, other_practice: Practice, clock: SimpleNamespace
) -> None:
    async with asking(stack, practice, requests_per_second=2) as http:
        # The first is answered by the view, the others at the door.
        answers = [await ask(http, "{ viewer { role } }") for _ in range(30)]
        found = [answer.status_code for answer in answers]
        assert found == [200] * 10 + [429] * 20
        [refused] = [answer for answer in answers if answer.status_code == 429][-1:]
        assert codes(refused) == ["RATE_LIMITED"]
        assert int(refused.headers["retry-after"]) == 1
        other = {"authorization": f"bearer  {token_for(other_practice)}"}
        assert (await http.post("/graphql", json={"query": "{ viewer { role } }"}, headers=other)).status_code == 200
        respelled = {"authorization": "BEARER  " + http.headers["authorization"].partition(" ")[2]}
        assert (await http.post("/graphql", json={"query": "{}"}, headers=respelled)).status_code == 429
        assert (await http.post("/graphql", json={"query": "{}"}, headers={"authorization": ""})).status_code == 401
        clock.now += 0.5
        again = [(await ask(http, "{ viewer { role } }")).status_code for _ in range(2)]
        assert again == [200, 429]


async def test_operations_on_a_socket_count_for_its_token(
    stack: Stack, practice: Practice, clock: SimpleNamespace
) -> None:
    api = await stack.api(limits=Limits(requests_per_second=1))
    token = token_for(practice)
    async with LiveClient(api, token) as client:
        asked = [await client.start("{ viewer { role } }") for _ in range(10)]
        kinds = [(await client.answer(each))["type"] for each in asked]
        assert kinds == ["next"] * 5 + ["error"] * 5
        async with httpx2.AsyncClient(base_url=api, headers={"authorization": f"Bearer {token}"}) as http:
            assert (await ask(http, "{ viewer { role } }")).status_code == 429


async def test_a_flood_of_webhooks_at_one_account_leaves_the_others_served(stack: Stack, practice: Practice) -> None:
    api = await stack.api(limits=Limits(webhooks_per_second=2))
    patient = await make_patient(stack.database, practice)
    message = await make_message(stack.database, practice, patient, await make_account(stack.database, practice))
    flooded, other = await postmark_hook(stack, practice, api), await sendgrid_hook(stack, practice, api)
    async with httpx2.AsyncClient() as http:
        body = postmark_delivery(message)
        forged = [await http.post(flooded.url, json=body, headers=flooded.headers("carepost:wrong")) for _ in range(30)]
        assert {answer.status_code for answer in forged} == {401}
        answers = [await http.post(flooded.url, json=body, headers=flooded.headers()) for _ in range(30)]
        found = [answer.status_code for answer in answers]
        assert found[:10] == [200] * 10
        assert set(found[10:]) <= {200, 503}
        assert found.count(503) >= 15
        assert {answer.headers["retry-after"] for answer in answers if answer.status_code == 503} == {"1"}
        assert await other.post(http, []) == 200
    # Nothing that was answered 200 is missing, and nothing else is there.
    async with stack.database.tenant(practice.id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM webhook_delivery") == found.count(200) + 1


def test_a_provider_that_gives_up_after_another_status_is_told_its_own() -> None:
    assert {esp.unavailable_status for esp in PROVIDERS.values()} == {429, 503}
    assert PROVIDERS["brevo"].unavailable_status == 429


def test_a_bucket_fills_at_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("api.rates.time.monotonic", lambda: now[0])
    rates = Rates(2)
    assert [rates.take("a") for _ in range(10)] == [0.0] * 10
    assert rates.take("a") == pytest.approx(0.5)
    assert rates.take("b") == 0.0
    now[0] += 0.5
    assert [rates.take("a"), rates.take("a")] == [0.0, pytest.approx(0.5)]
    assert [Rates(0).take("a") for _ in range(1000)] == [0.0] * 1000
    assert [Rates(0.01).take("a")] == [0.0]


def test_a_flood_of_keys_takes_bounded_memory() -> None:
    rates = Rates(0.01)
    for number in range(100_000):
        rates.take(number)
    assert len(rates._full_at) <= 20_000


def test_the_key_of_a_token_is_not_the_token() -> None:
    assert token_key(b"Bearer secret") == token_key(b"bearer   secret") == token_key(b"secret")
    assert b"secret" not in token_key(b"Bearer secret")
    assert len(token_key(b"x" * 100_000)) == 16


async def test_a_practice_has_so_many_subscriptions_and_no_more(
    stack: Stack, practice: Practice, other_practice: Practice
) -> None:
    api = await stack.api(limits=Limits(subscriptions_per_practice=2))
    async with (
        LiveClient(api, token_for(practice)) as first,
        LiveClient(api, token_for(practice)) as second,
        LiveClient(api, token_for(other_practice)) as elsewhere,
    ):
        await first.watch()
        await second.watch()
        assert "SUBSCRIPTION_LIMIT" in str(await second.answer(await second.start(CHANGED)))
        refused = await second.start("subscription { accountHealthChanged { id } }")
        assert "SUBSCRIPTION_LIMIT" in str(await second.answer(refused))
        await elsewhere.watch()


async def test_a_statement_that_takes_too_long_ends_in_a_code(
    stack: Stack, practice: Practice, database_url: str
) -> None:
    owner = await asyncpg.connect(database_url)
    query = "{ patients { nodes { id } } }"
    try:
        async with asking(stack, practice, statement_seconds=0.3) as http:
            for _ in range(2):
                assert codes(await ask(http, query)) == []
            async with owner.transaction():
                await owner.execute("LOCK TABLE patient IN ACCESS EXCLUSIVE MODE")
                for _ in range(2):
                    assert (await ask(http, query)).json() == {
                        "data": None,
                        "errors": [
                            {
                                "message": "It took too long; ask for less, or try again later.",
                                "locations": [{"line": 1, "column": 3}],
                                "path": ["patients"],
                                "extensions": {"code": "TIMEOUT"},
                            }
                        ],
                    }
            assert codes(await ask(http, query)) == []
    finally:
        await owner.close()


async def test_a_mutation_that_postgres_ended_for_another_may_be_tried_again(
    stack: Stack, practice: Practice, database_url: str
) -> None:
    """Each of two transactions waits for what the other one has changed."""
    patient = await make_patient(stack.database, practice)
    client = await stack.client(await stack.api(), practice)
    owner = await asyncpg.connect(database_url, server_settings={"deadlock_timeout": "1min"})

    async def waits() -> bool:
        waiting: bool = await owner.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        return waiting

    try:
        async with owner.transaction():
            await owner.execute("LOCK TABLE audit_entry IN EXCLUSIVE MODE")
            changing = asyncio.create_task(
                client.raw(
                    "mutation ($input: UpdatePatientInput!) { updatePatient(input: $input) { patient { name } } }",
                    input={"patientId": global_id("Patient", patient.id), "name": "Pat New"},
                )
            )
            await until(waits)
            await owner.execute("UPDATE patient SET name = 'Pat Other' WHERE id = $1", patient.id)
            [error] = (await changing)["errors"]
        assert error["extensions"] == {"code": "UNAVAILABLE"}
        assert "try again" in error["message"]
    finally:
        await owner.close()


@pytest.mark.parametrize(("path", "status"), [("/graphql", 408), ("postmark", 503), ("brevo", 429)])
async def test_a_body_that_comes_too_slowly_is_given_up(
    stack: Stack, practice: Practice, path: str, status: int
) -> None:
    """A webhook is answered so that its ESP comes again."""
    api = await stack.api(limits=Limits(body_seconds=0.3))
    target = path
    if path != "/graphql":
        account = await make_account(stack.database, practice, provider=path, secrets=["carepost:8Zk2vQzT"])
        target = webhook_url("", path, practice.id, account.id)
    for length in (10, 100_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(api.rpartition(":")[2]))
        head = (
            f"POST {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token_for(practice)}\r\n"
            f"content-type: application/json\r\ncontent-length: {length}\r\n\r\n{{"
        )
        writer.write(head.encode())
        async with asyncio.timeout(5):
            assert (await reader.readline()).split()[1] == str(status).encode()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_client_that_reads_slowly_holds_up_nobody(stack: Stack, practice: Practice) -> None:
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    await make_message(stack.database, practice, patient, account, text="x" * 900_000)
    api = await stack.api()
    query = f'{{ patient(id: "{global_id("Patient", patient.id)}") {{ messages {{ nodes {{ text }} }} }} }}'
    body = json.dumps({"query": query}).encode()
    head = (
        f"POST /graphql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token_for(practice)}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    slow = []
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", int(api.rpartition(":")[2]), limit=1024)
        writer.write(head.encode() + body)
        slow.append(writer)
    client = await stack.client(api, practice)
    async with asyncio.timeout(10):
        assert await client("{ viewer { role } }") == {"viewer": {"role": "STAFF"}}
    for writer in slow:
        writer.transport.abort()
