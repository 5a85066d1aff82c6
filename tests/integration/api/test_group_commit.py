"""The way into the inbox: what waits shares a commit, and each webhook is answered after its own."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from api.addresses import webhook_url
from api.webhooks import group_commit
from api.webhooks.certificates import Certificates, CertificateUnavailable
from api.webhooks.group_commit import GroupCommit, Overloaded
from db import inbox
from db.ids import uuid7
from db.inbox import NewDelivery
from db.practices import Practice
from mail.errors import WebhookRejected
from mail.ids import AccountId, DeliveryId
from tests.integration.api.hooks import postmark_hook, sendgrid_hook
from tests.support.databases import OWN_SEALER
from tests.support.practice import make_account
from tests.support.stack import Stack, serving_app


def new(practice: Practice, account_id: AccountId, body: bytes = b"[]", token: str | None = None) -> NewDelivery:
    return NewDelivery(
        practice_id=practice.id,
        id=DeliveryId(uuid7(datetime.now(UTC))),
        account_id=account_id,
        provider="sendgrid",
        headers={},
        body=body,
        token=token,
    )


class Door:
    """A group commit that counts its commits and its wake-ups."""

    def __init__(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.woken = 0
        self.held: asyncio.Event | None = None
        store = inbox.store_deliveries

        async def counted(pool: object, sealer: object, deliveries: Sequence[NewDelivery]) -> None:
            self.sizes.append(len(deliveries))
            if self.held is not None:
                await self.held.wait()
            await store(stack.database.inbox, OWN_SEALER, deliveries)

        monkeypatch.setattr("api.webhooks.group_commit.inbox.store_deliveries", counted)
        self.commit = GroupCommit(stack.database, OWN_SEALER, self._wake)

    async def _wake(self) -> None:
        self.woken += 1


@pytest.fixture
def door(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Door:
    return Door(stack, monkeypatch)


async def count(stack: Stack, practice: Practice) -> int:
    async with stack.database.tenant(practice.id) as connection:
        stored: int = await connection.fetchval("SELECT count(*) FROM webhook_delivery")
        return stored


async def test_what_waits_shares_a_commit_whoever_it_is_for(
    stack: Stack, practice: Practice, other_practice: Practice, door: Door
) -> None:
    ours = await make_account(stack.database, practice)
    theirs = await make_account(stack.database, other_practice)
    deliveries = [new(practice, ours.id) if n % 2 else new(other_practice, theirs.id) for n in range(600)]
    await asyncio.gather(*(door.commit.store(delivery) for delivery in deliveries))
    await door.commit.close()
    assert [await count(stack, each) for each in (practice, other_practice)] == [300, 300]
    assert sum(door.sizes) == 600
    assert len(door.sizes) <= 5
    assert door.woken == len(door.sizes)


async def test_one_alone_waits_for_nobody(stack: Stack, practice: Practice, door: Door) -> None:
    account = await make_account(stack.database, practice)
    for number in range(3):
        await door.commit.store(new(practice, account.id))
        assert await count(stack, practice) == number + 1
    assert door.sizes == [1, 1, 1]


async def test_one_that_postgres_refuses_takes_no_other_with_it(stack: Stack, practice: Practice, door: Door) -> None:
    account = await make_account(stack.database, practice)
    good = [new(practice, account.id) for _ in range(20)]
    stranger = new(practice, AccountId(uuid4()))
    answers = await asyncio.gather(
        *(door.commit.store(each) for each in [*good[:10], stranger, *good[10:]]), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [
        *[type(None)] * 10,
        asyncpg.ForeignKeyViolationError,
        *[type(None)] * 10,
    ]
    assert await count(stack, practice) == 20


async def test_more_than_memory_is_for_is_refused_at_once_and_the_rest_is_stored(
    stack: Stack, practice: Practice, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "_WAITING", 10)
    account = await make_account(stack.database, practice)
    door.held = asyncio.Event()
    waiting = [asyncio.create_task(door.commit.store(new(practice, account.id))) for _ in range(2)]
    while len(door.sizes) < 1:
        await asyncio.sleep(0)
    waiting += [asyncio.create_task(door.commit.store(new(practice, account.id))) for _ in range(20)]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert all(isinstance(task.exception(), Overloaded) for task in done)
    door.held.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Overloaded)]
    assert refused
    assert await count(stack, practice) == 22 - len(refused) >= 10


async def test_one_whose_sender_gave_up_is_left_out(stack: Stack, practice: Practice, door: Door) -> None:
    account = await make_account(stack.database, practice)
    door.held = asyncio.Event()
    busy = [asyncio.create_task(door.commit.store(new(practice, account.id))) for _ in range(1)]
    while len(door.sizes) < 1:
        await asyncio.sleep(0)
    second = asyncio.create_task(door.commit.store(new(practice, account.id)))
    while len(door.sizes) < 2:
        await asyncio.sleep(0)
    late = asyncio.create_task(door.commit.store(new(practice, account.id)))
    await asyncio.sleep(0)
    late.cancel()
    door.held.set()
    await asyncio.gather(*busy, second)
    await door.commit.close()
    assert await count(stack, practice) == 2


async def test_a_token_is_taken_once_by_an_account(stack: Stack, practice: Practice, door: Door) -> None:
    first, second = [await make_account(stack.database, practice) for _ in range(2)]
    await door.commit.store(new(practice, first.id, b"[1]", token="t"))
    await door.commit.store(new(practice, first.id, b"[2]", token="t"))
    await asyncio.gather(*(door.commit.store(new(practice, first.id, b"[3]", token="u")) for _ in range(10)))
    await door.commit.store(new(practice, second.id, b"[4]", token="t"))
    assert await count(stack, practice) == 3


async def test_the_role_of_the_inbox_appends_and_sees_nothing(stack: Stack, practice: Practice) -> None:
    account = await make_account(stack.database, practice)
    await inbox.store_deliveries(stack.database.inbox, OWN_SEALER, [new(practice, account.id)])
    for statement in (
        "SELECT id FROM webhook_delivery",
        "SELECT id FROM message",
        "SELECT id FROM sending_account",
        "UPDATE webhook_delivery SET provider = 'x'",
        "DELETE FROM webhook_delivery",
        "INSERT INTO webhook_delivery (practice_id, account_id, provider, headers, body, state) "
        "SELECT gen_random_uuid(), gen_random_uuid(), '', '{}', '', 'applied'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await stack.database.inbox.execute(statement)


async def test_a_probe_is_answered_and_another_method_refused(stack: Stack, practice: Practice) -> None:
    api = await stack.api()
    client = await stack.client(api, practice)
    sendgrid, postmark = await sendgrid_hook(stack, practice, api), await postmark_hook(stack, practice, api)
    for hook in (sendgrid, postmark):
        assert (await client.http.head(hook.url)).status_code == 200
        refused = await client.http.put(hook.url, content=b"[]")
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST, HEAD")
    nobodys = webhook_url(api, "sendgrid", practice.id, AccountId(uuid4()))
    for url in (nobodys, sendgrid.url[:-1]):
        assert (await client.http.head(url)).status_code == 404
    assert await count(stack, practice) == 0


def certificate(valid_for: timedelta = timedelta(days=1)) -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.example")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=2), now + valid_for)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


async def test_a_certificate_is_fetched_once_and_only_a_valid_one_is_taken(tmp_path: Path) -> None:
    asked: list[str] = []
    served = {"/good.pem": certificate(), "/old.pem": certificate(-timedelta(hours=1)), "/long.pem": b"x" * 70_000}

    async def serve(request: Request) -> Response:
        asked.append(request.url.path)
        if request.url.path == "/moved.pem":
            return RedirectResponse("/good.pem")
        found = served.get(request.url.path)
        return Response(found, status_code=200 if found else 404)

    async with serving_app(Starlette(routes=[Route("/{path}", serve)])) as url:
        certificates = Certificates(url)
        there = "https://sns.eu-west-1.amazonaws.com"
        answers = await asyncio.gather(*(certificates.find(f"{there}/good.pem") for _ in range(10)))
        assert set(answers) == {served["/good.pem"]}
        assert await certificates.find(f"{there}/good.pem") == served["/good.pem"]
        assert asked == ["/good.pem"]
        for path in ("/old.pem", "/long.pem"):
            with pytest.raises(WebhookRejected):
                await certificates.find(there + path)
        for path in ("/missing.pem", "/moved.pem"):
            with pytest.raises(CertificateUnavailable):
                await certificates.find(there + path)
        assert asked == ["/good.pem", "/old.pem", "/long.pem", "/missing.pem", "/moved.pem"]
        await certificates.close()
    gone = Certificates(url)
    with pytest.raises(CertificateUnavailable):
        await gone.find(f"{there}/good.pem")
    await gone.close()
