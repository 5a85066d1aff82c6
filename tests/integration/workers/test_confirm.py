"""A webhook's subscription is confirmed after what asked for it was applied, and tried again until it is."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.roles import Role
from db.accounts import Account
from db.practices import Practice
from mail.providers.base import HttpRequest, Reading
from mail.providers.sendgrid import SendGrid
from tests.integration.workers.sending import OFTEN
from tests.support.databases import OWN_SEALER
from tests.support.practice import make_account, make_delivery
from tests.support.stack import LOOPBACK, Stack, serving_app, until
from workers import jobs
from workers.apply import Applier
from workers.confirm import Confirmer
from workers.jobs import Jobs
from workers.transports.http import HttpTransport
from workers.transports.outgoing import Outgoing

HEALTH = "{ sendingAccounts { health { unconfirmedSubscriptions webhookConfirmedAt advice { code severity } } } }"


@dataclass
class Topic:
    """Where a subscription is confirmed, and how that is answered."""

    url: str = ""
    status: int = 200
    asked: list[str] = field(default_factory=list)

    async def confirm(self, request: Request) -> Response:
        self.asked.append(str(request.url.query))
        return Response(status_code=self.status)


@pytest.fixture
async def topic(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Topic]:
    """A topic, and an ESP whose webhooks all want it confirmed."""
    it = Topic()

    def read_webhook(self: SendGrid, body: bytes, headers: Any) -> Reading:
        return Reading(confirmation=HttpRequest("GET", f"{it.url}/confirm?token={body.decode()}", {}, b""))

    monkeypatch.setattr(SendGrid, "read_webhook", read_webhook)
    async with serving_app(Starlette(routes=[Route("/confirm", it.confirm)])) as url:
        it.url = url
        yield it


@pytest.fixture
async def account(stack: Stack, practice: Practice) -> Account:
    return await make_account(stack.database, practice)


async def delivery(stack: Stack, practice: Practice) -> Any:
    async with stack.database.tenant(practice.id) as connection:
        return await connection.fetchrow("SELECT *, now() AS now FROM webhook_delivery")


async def apply(stack: Stack, hurry: Jobs) -> list[bool]:
    """Applies the inbox; gives what it told about confirmations."""
    told: list[bool] = []
    await Applier(stack.database, OWN_SEALER, hurry, lambda: told.append(True)).apply_pending()
    return told


@pytest.fixture
async def hurry(stack: Stack) -> AsyncIterator[Jobs]:
    client = jobs.connect(stack.redis_url)
    yield Jobs(client)
    await client.aclose(close_connection_pool=True)


@pytest.fixture
async def confirmer(stack: Stack, hurry: Jobs) -> AsyncIterator[Confirmer]:
    async with HttpTransport(Outgoing(LOOPBACK)) as http:
        yield Confirmer(stack.database, OWN_SEALER, hurry, http, timedelta(hours=1))


async def test_a_subscription_is_confirmed_at_once_and_noted_on_the_account(
    stack: Stack, practice: Practice, account: Account, topic: Topic
) -> None:
    client = await stack.client(await stack.api(), practice, Role.ADMIN)
    await make_delivery(stack.database, practice, account.id, b"first")
    await stack.worker(sweep_interval=OFTEN)

    async def confirmed() -> Any:
        [found] = (await client(HEALTH))["sendingAccounts"]
        return found["health"] if found["health"]["webhookConfirmedAt"] else None

    health = await until(confirmed)
    assert (health["unconfirmedSubscriptions"], health["advice"]) == (0, [{"code": "OK", "severity": "OK"}])
    assert topic.asked == ["token=first"]
    row = await delivery(stack, practice)
    assert (row["state"], row["confirm_at"], row["confirmations"]) == ("applied", None, 1)
    assert row["confirmed_at"] is not None


async def test_what_is_not_confirmed_shows_and_is_tried_again_with_growing_pauses(
    stack: Stack, practice: Practice, account: Account, topic: Topic, hurry: Jobs, confirmer: Confirmer
) -> None:
    topic.status = 503
    await make_delivery(stack.database, practice, account.id, b"first")
    assert await apply(stack, hurry) == [True]
    assert topic.asked == []  # applying makes no request
    pauses = []
    for _ in range(4):
        await confirmer.confirm_due(asyncio.Event())
        await confirmer.confirm_due(asyncio.Event())  # too early
        row = await delivery(stack, practice)
        pauses.append(round((row["confirm_at"] - row["now"]).total_seconds()))
        async with stack.database.tenant(practice.id) as connection:
            await connection.execute("UPDATE webhook_delivery SET confirm_at = now()")
    assert pauses == [10, 20, 40, 80]
    assert len(topic.asked) == 4
    client = await stack.client(await stack.api(), practice, Role.ADMIN)
    [found] = (await client(HEALTH))["sendingAccounts"]
    assert found["health"] == {
        "unconfirmedSubscriptions": 1,
        "webhookConfirmedAt": None,
        "advice": [{"code": "SUBSCRIPTION_UNCONFIRMED", "severity": "PROBLEM"}],
    }
    topic.status = 200
    await confirmer.confirm_due(asyncio.Event())
    assert (await delivery(stack, practice))["confirmed_at"] is not None


async def test_it_is_given_up_after_three_days_and_still_shows(
    stack: Stack, practice: Practice, account: Account, topic: Topic, hurry: Jobs, confirmer: Confirmer
) -> None:
    topic.status = 404
    await make_delivery(stack.database, practice, account.id, b"first")
    await apply(stack, hurry)
    async with stack.database.tenant(practice.id) as connection:
        await connection.execute("UPDATE webhook_delivery SET received_at = now() - interval '3 days'")
    await confirmer.confirm_due(asyncio.Event())
    row = await delivery(stack, practice)
    assert (row["confirm_at"], row["confirmations"], row["confirmed_at"]) == (None, 1, None)
    client = await stack.client(await stack.api(), practice, Role.ADMIN)
    [found] = (await client(HEALTH))["sendingAccounts"]
    assert found["health"]["unconfirmedSubscriptions"] == 1


async def test_two_workers_confirm_once(
    stack: Stack, practice: Practice, account: Account, topic: Topic, hurry: Jobs, confirmer: Confirmer
) -> None:
    for number in range(5):
        await make_delivery(stack.database, practice, account.id, f"{number}".encode())
    await apply(stack, hurry)
    await asyncio.gather(*(confirmer.confirm_due(asyncio.Event()) for _ in range(4)))
    assert sorted(topic.asked) == [f"token={number}" for number in range(5)]


async def test_a_webhook_that_is_read_again_is_not_confirmed_again(
    stack: Stack, practice: Practice, account: Account, topic: Topic, hurry: Jobs, confirmer: Confirmer
) -> None:
    await make_delivery(stack.database, practice, account.id, b"first")
    for _ in range(2):
        await apply(stack, hurry)
        await confirmer.confirm_due(asyncio.Event())
        async with stack.database.tenant(practice.id) as connection:
            await connection.execute("UPDATE webhook_delivery SET state = 'pending'")
    assert topic.asked == ["token=first"]
