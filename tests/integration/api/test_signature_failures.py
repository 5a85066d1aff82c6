"""Webhooks that are refused are counted without a row update each, and show at once."""

import asyncio
import itertools
from datetime import timedelta

import asyncpg
import httpx2
import pytest

from api.graphql.ids import global_id
from api.roles import Role
from api.webhooks.failures import SignatureFailures
from db.practices import Practice
from tests.integration.api.hooks import SendGridHook, sendgrid_event, sendgrid_hook
from tests.integration.api.sockets import LiveClient
from tests.support.practice import make_account
from tests.support.stack import Stack, token_for, until
from workers.jobs import Jobs

HEALTH = "subscription { accountHealthChanged { id health { signatureFailures advice { code severity nextStep } } } }"


async def refuse(http: httpx2.AsyncClient, hook: SendGridHook) -> None:
    response = await http.post(hook.url, content=b"[]", headers=hook.headers(b"[{}]"))
    assert response.status_code == 401


async def test_a_bad_signature_shows_within_seconds_with_what_to_do(
    stack: Stack, practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.live._FALLBACK", 60.0)  # nothing but the notice tells it
    api = await stack.api()
    hook = await sendgrid_hook(stack, practice, api)
    async with LiveClient(api, token_for(practice, Role.ADMIN)) as client, httpx2.AsyncClient() as http:
        watching = await client.start(HEALTH)
        first = await client.answer(watching)
        health = first["payload"]["data"]["accountHealthChanged"]["health"]
        assert health == {"signatureFailures": 0, "advice": [{"code": "OK", "severity": "OK", "nextStep": ""}]}
        await refuse(http, hook)
        second = await client.answer(watching, within=3)
    told = second["payload"]["data"]["accountHealthChanged"]
    assert told["id"] == global_id("SendingAccount", hook.account.id)
    assert told["health"]["signatureFailures"] == 1
    [advice] = told["health"]["advice"]
    assert (advice["code"], advice["severity"]) == ("SIGNATURES_REFUSED", "PROBLEM")
    assert "rotateWebhookSecret" in advice["nextStep"]


async def test_a_flood_costs_an_update_a_second_and_every_one_is_counted(
    stack: Stack, practice: Practice, database_url: str
) -> None:
    api = await stack.api()
    hook = await sendgrid_hook(stack, practice, api)
    owner = await asyncpg.connect(database_url)
    await owner.execute("CREATE TABLE updated (at timestamptz NOT NULL)")
    await owner.execute("GRANT INSERT ON updated TO carepost_app")
    await owner.execute(
        "CREATE FUNCTION note_update() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN INSERT INTO updated VALUES (clock_timestamp()); RETURN NULL; END$$"
    )
    await owner.execute(
        "CREATE TRIGGER noted AFTER UPDATE ON sending_account FOR EACH ROW EXECUTE FUNCTION note_update()"
    )
    async with httpx2.AsyncClient() as http:
        for _ in range(3):
            await asyncio.gather(*(refuse(http, hook) for _ in range(100)))

    async def counted() -> bool:
        return bool(await owner.fetchval("SELECT signature_failures FROM sending_account") == 300)

    await until(counted)
    at = [row["at"] for row in await owner.fetch("SELECT at FROM updated ORDER BY at")]
    await owner.close()
    assert 1 <= len(at) <= 20
    assert all(later - earlier >= timedelta(seconds=0.9) for earlier, later in itertools.pairwise(at))


async def test_what_was_counted_is_written_when_the_process_ends(stack: Stack, practice: Practice) -> None:
    async with Stack(stack.database_url, stack.redis_url, stack.database, stack.folder) as passing:
        api = await passing.api()
        hook = await sendgrid_hook(stack, practice, api)
        async with httpx2.AsyncClient() as http:
            for _ in range(5):
                await refuse(http, hook)
    async with stack.database.tenant(practice.id) as connection:
        assert await connection.fetchval("SELECT signature_failures FROM sending_account") == 5


async def test_what_comes_while_another_is_written_is_not_lost_when_the_process_ends(
    stack: Stack, practice: Practice, database_url: str, hurry: Jobs
) -> None:
    account = await make_account(stack.database, practice)
    failures = SignatureFailures(stack.database, hurry)
    owner = await asyncpg.connect(database_url)
    held = owner.transaction()
    await held.start()
    await owner.execute("SELECT FROM sending_account FOR UPDATE")
    failures.note(practice.id, account.id)

    async def is_being_written() -> bool:
        return bool(await stack.database.app.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    await until(is_being_written)
    for _ in range(4):
        failures.note(practice.id, account.id)
    ending = asyncio.create_task(failures.close())
    await asyncio.sleep(0)  # told to end, in the middle of the first
    await held.commit()
    await ending
    assert await owner.fetchval("SELECT signature_failures FROM sending_account") == 5
    await owner.close()


async def test_some_bad_signatures_among_good_webhooks_are_no_problem(stack: Stack, practice: Practice) -> None:
    api = await stack.api()
    await stack.worker()
    hook = await sendgrid_hook(stack, practice, api)
    client = await stack.client(api, practice, Role.ADMIN)

    async def advice() -> list[str]:
        answer = await client("{ sendingAccounts { health { advice { code } } } }")
        return [each["code"] for each in answer["sendingAccounts"][0]["health"]["advice"]]

    async with httpx2.AsyncClient() as http:
        await refuse(http, hook)
        await until(lambda: _is(advice, ["SIGNATURES_REFUSED"]))
        assert await hook.post(http, [sendgrid_event("delivered", sg_message_id="nobody's")]) == 200
    await until(lambda: _is(advice, ["SOME_SIGNATURES_REFUSED", "PARKED"]))


async def _is(advice: object, expected: list[str]) -> bool:
    return bool(await advice() == expected)  # type: ignore[operator]
