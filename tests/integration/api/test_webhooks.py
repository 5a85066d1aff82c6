"""Webhooks in: what is proven is kept before it is answered, what isn't leaves nothing but a count."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import asyncpg
import httpx2
import orjson
import pytest

from api.addresses import webhook_url
from api.at_once import Answer
from api.config import Limits
from api.graphql.ids import global_id
from api.roles import Role
from api.webhooks.endpoint import WebhookEndpoint
from db.practices import Practice
from mail.ids import AccountId
from mail.providers import PROVIDERS
from tests.integration.api.hooks import postmark_delivery, postmark_hook, sendgrid_event, sendgrid_hook
from tests.support.databases import OWN_SEALER
from tests.support.practice import make_message, make_patient
from tests.support.stack import Stack, until
from workers.apply import Applier

MESSAGE = "query ($id: ID!) { message(id: $id) { status deliveredAt events { nodes { kind source detail } } } }"
HEALTH = "{ sendingAccounts { health { lastEventAt signatureFailures unreadable parked } } }"


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=20) as client:
        yield client


async def stored(stack: Stack, practice: Practice) -> list[tuple[str, bytes]]:
    """State and body of every webhook kept."""
    async with stack.database.tenant(practice.id) as connection:
        rows = await connection.fetch("SELECT id, state, body FROM webhook_delivery ORDER BY received_at, id")
    return [
        (row["state"], OWN_SEALER.open(row["body"], "webhook_delivery.body", practice.id, row["id"])) for row in rows
    ]


async def failures(stack: Stack, practice: Practice, account_id: AccountId) -> int:
    async with stack.database.tenant(practice.id) as connection:
        count: int = await connection.fetchval(
            "SELECT signature_failures FROM sending_account WHERE id = $1", account_id
        )
    return count


async def test_a_webhook_of_sendgrid_is_kept_raw_and_applied(
    stack: Stack, practice: Practice, http: httpx2.AsyncClient, applier: Applier
) -> None:
    api = await stack.api()
    hook = await sendgrid_hook(stack, practice, api)
    patient = await make_patient(stack.database, practice)
    message = await make_message(stack.database, practice, patient, hook.account)
    body = b"  " + orjson.dumps([sendgrid_event("processed", message), sendgrid_event("delivered", message)]) + b"\n"
    response = await http.post(hook.url, content=body, headers=hook.headers(body))
    assert (response.status_code, response.content) == (200, b"")
    assert await stored(stack, practice) == [("pending", body)]
    assert await applier.apply_pending() == 1
    assert await stored(stack, practice) == [("applied", body)]
    client = await stack.client(api, practice)
    found = (await client(MESSAGE, id=global_id("Message", message)))["message"]
    assert (found["status"], found["deliveredAt"]) == ("DELIVERED", "2026-03-02T12:00:00+00:00")
    assert sorted(found["events"]["nodes"], key=lambda event: event["kind"]) == [
        {"kind": "DELIVERED", "source": "WEBHOOK", "detail": "delivered"},
        {"kind": "QUEUED", "source": "WEBHOOK", "detail": "processed"},
    ]
    [account] = (await client(HEALTH))["sendingAccounts"]
    assert account["health"].pop("lastEventAt") is not None
    assert account["health"] == {"signatureFailures": 0, "unreadable": 0, "parked": 0}


async def test_a_webhook_of_postmark_is_kept_raw_and_applied(
    stack: Stack, practice: Practice, http: httpx2.AsyncClient, applier: Applier
) -> None:
    api = await stack.api()
    hook = await postmark_hook(stack, practice, api)
    patient = await make_patient(stack.database, practice)
    message = await make_message(stack.database, practice, patient, hook.account)
    body = orjson.dumps(postmark_delivery(message))
    assert (await http.post(hook.url, content=body, headers=hook.headers())).status_code == 200
    assert await stored(stack, practice) == [("pending", body)]
    await applier.apply_pending()
    client = await stack.client(api, practice)
    found = (await client(MESSAGE, id=global_id("Message", message)))["message"]
    assert (found["status"], found["deliveredAt"]) == ("DELIVERED", "2026-03-02T12:00:00+00:00")
    async with stack.database.tenant(practice.id) as connection:
        headers = await connection.fetchval("SELECT headers::text FROM webhook_delivery")
    assert headers == "{}"


async def test_a_webhook_that_is_not_proven_is_answered_401_and_leaves_a_count_alone(
    stack: Stack, practice: Practice, http: httpx2.AsyncClient
) -> None:
    api = await stack.api()
    sendgrid, another = [await sendgrid_hook(stack, practice, api) for _ in range(2)]
    postmark = await postmark_hook(stack, practice, api)
    body = orjson.dumps([sendgrid_event("delivered")])
    signature, timestamp = sendgrid.headers(body).items()
    forgeries: dict[str, tuple[str, Any]] = {
        "wrong signature": (sendgrid.url, another.headers(body)),
        "tampered body": (sendgrid.url, sendgrid.headers(body + b" ")),
        "tampered timestamp": (sendgrid.url, dict([signature, (timestamp[0], "1588788368")])),
        "one account's at another's URL": (another.url, sendgrid.headers(body)),
        "no headers": (sendgrid.url, {}),
        "no timestamp": (sendgrid.url, dict([signature])),
        "no signature": (sendgrid.url, dict([timestamp])),
        "empty signature": (sendgrid.url, dict([(signature[0], ""), timestamp])),
        "a signature that is no base64": (sendgrid.url, dict([(signature[0], "%%%"), timestamp])),
        "a signature beyond ASCII": (sendgrid.url, {signature[0].encode(): b"\xff\xfe", timestamp[0].encode(): b"1"}),
        "a timestamp beyond ASCII": (
            sendgrid.url,
            {signature[0].encode(): signature[1].encode(), timestamp[0].encode(): "١٢".encode()},
        ),
        "Postmark without a password": (postmark.url, {}),
        "Postmark with a wrong password": (postmark.url, postmark.headers("carepost:8Zk2vQzX")),
        "Postmark with another scheme": (postmark.url, {"authorization": "Bearer x"}),
        "Postmark beyond ASCII": (postmark.url, {b"authorization": b"Basic \xff\xfe"}),
        "Postmark with SendGrid's proof": (postmark.url, sendgrid.headers(body)),
    }
    found = {}
    for name, (url, headers) in forgeries.items():
        found[name] = (await http.post(url, content=body, headers=headers)).status_code
    assert found == dict.fromkeys(forgeries, 401)
    assert await stored(stack, practice) == []

    async def counted() -> bool:
        hooks = (sendgrid, another, postmark)
        return [await failures(stack, practice, hook.account.id) for hook in hooks] == [10, 1, 5]

    await until(counted)


async def test_an_address_of_nobody_is_404(
    stack: Stack, practice: Practice, other_practice: Practice, http: httpx2.AsyncClient
) -> None:
    api = await stack.api()
    hook = await sendgrid_hook(stack, practice, api)
    body = b"[]"
    urls = [
        f"{api}/webhooks/sendgrid/junk",
        f"{api}/webhooks/sendgrid/{'A' * 43}",
        f"{api}/webhooks/sendgrid/{'%C3%A9' * 43}",
        hook.url.replace("sendgrid", "postmark"),
        hook.url.replace("sendgrid", "mailcarrier"),
        webhook_url(api, "sendgrid", other_practice.id, hook.account.id),
    ]
    for url in urls:
        response = await http.post(url, content=body, headers=hook.headers(body))
        assert response.status_code == 404, url
    assert (await http.get(hook.url)).status_code == 405
    assert await stored(stack, practice) == []
    assert await failures(stack, practice, hook.account.id) == 0


async def test_what_is_proven_and_cannot_be_read_is_kept_and_visible(
    stack: Stack, practice: Practice, http: httpx2.AsyncClient, applier: Applier
) -> None:
    api = await stack.api()
    hook = await sendgrid_hook(stack, practice, api)
    bodies = [b"", b"hello", b'{"a": 1}', b"[" * 100_000, b"\xff\xfe", b'["x", 1, null]', b"\x1f\x8b\x08\x00"]
    for body in bodies:
        assert await hook.post(http, body) == 200
    assert await applier.apply_pending() == len(bodies)
    assert sorted(await stored(stack, practice)) == sorted(("unreadable", body) for body in bodies)
    [account] = (await (await stack.client(api, practice))(HEALTH))["sendingAccounts"]
    assert account["health"]["unreadable"] == len(bodies)
    assert account["health"]["lastEventAt"] is None


async def test_a_body_beyond_the_limit_is_413_and_nothing_is_kept(
    stack: Stack, practice: Practice, http: httpx2.AsyncClient
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100

    api = await stack.api(limits=Limits(webhook_bytes=1000))
    hook = await sendgrid_hook(stack, practice, api)
    assert await hook.post(http, b" " * 1001) == 413
    response = await http.post(hook.url, content=chunks(), headers=hook.headers(b" " * 2000))
    assert response.status_code == 413
    assert await stored(stack, practice) == []
    assert await hook.post(http, b" " * 1000) == 200
    assert await failures(stack, practice, hook.account.id) == 0


async def test_most_are_answered_without_asgi_and_all_as_by_it(
    stack: Stack, practice: Practice, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_asgi = 0
    answer = WebhookEndpoint._answer

    async def count(*arguments: Any) -> Answer:
        nonlocal by_asgi
        by_asgi += 1
        return await answer(*arguments)

    monkeypatch.setattr(WebhookEndpoint, "_answer", count)
    monkeypatch.setattr("api.rates.time", SimpleNamespace(monotonic=lambda: 100.0))
    api = await stack.api(limits=Limits(webhook_bytes=1000, webhooks_per_second=1))
    hook, busy = [await sendgrid_hook(stack, practice, api) for _ in range(2)]
    postmark = await postmark_hook(stack, practice, api)
    body = orjson.dumps([sendgrid_event("delivered")])
    for _ in range(5):
        assert await busy.post(http, body) == 200
    assert by_asgi == 0
    nobody = webhook_url(api, "sendgrid", practice.id, practice.id)
    for url, headers, content, status in (
        (hook.url, hook.headers(body), body, 200),
        (hook.url, hook.headers(body), body + b" ", 401),
        (postmark.url, {}, body, 401),
        (nobody, hook.headers(body), body, 404),
        (busy.url, busy.headers(body), body, 503),
    ):
        before = by_asgi
        at_once = await http.post(url, content=content, headers=headers)
        assert by_asgi == before
        told = await http.post(url + "?", content=content, headers=headers)
        assert by_asgi == before + 1
        for response in (at_once, told):
            response.headers.pop("date")
        assert (at_once.status_code, at_once.headers, at_once.content) == (status, told.headers, told.content)
        assert told.status_code == status
    assert at_once.headers["retry-after"] == "1"
    before = by_asgi
    long = b" " * 1001
    assert (await http.post(hook.url, content=long, headers=hook.headers(long))).status_code == 413
    assert (await http.post(f"{api}/webhooks/sendgrid/nobody")).status_code == 404
    assert by_asgi == before + 2


async def test_while_the_database_is_away_the_esp_is_told_to_come_again(
    stack: Stack, practice: Practice, http: httpx2.AsyncClient, servers: Any
) -> None:
    api = await stack.api()
    sendgrid = await sendgrid_hook(stack, practice, api)
    postmark = await postmark_hook(stack, practice, api)
    name = stack.database_url.partition("?")[0].rpartition("/")[2]
    owner = await asyncpg.connect(servers.database_url)
    try:
        await owner.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        response = await http.post(postmark.url, content=b"{}", headers=postmark.headers())
        assert response.status_code == PROVIDERS["postmark"].unavailable_status == 503
        assert await sendgrid.post(http, []) == PROVIDERS["sendgrid"].unavailable_status == 503
        assert (await http.get(f"{api}/readyz")).status_code == 503
        assert (await http.get(f"{api}/healthz")).status_code == 200
        await owner.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    finally:
        await owner.close()

    async def taken() -> bool:
        return await sendgrid.post(http, []) == 200

    await until(taken)
    assert await stored(stack, practice) == [("pending", b"[]")]
    assert (await http.get(f"{api}/readyz")).status_code == 200


async def test_a_secret_that_is_rotated_holds_beside_the_new_one_until_the_next(
    stack: Stack, practice: Practice, http: httpx2.AsyncClient
) -> None:
    api = await stack.api(public_url="http://carepost.example/base")
    hooks = [await sendgrid_hook(stack, practice, api) for _ in range(3)]
    url = hooks[0].url
    admin = await stack.client(api, practice, Role.ADMIN)
    rotate = """mutation ($input: RotateWebhookSecretInput!) { rotateWebhookSecret(input: $input) {
      account { health { signatureFailures } } webhookUrl errors { field code } } }"""

    async def statuses() -> list[int]:
        return [(await http.post(url, content=b"[]", headers=hook.headers(b"[]"))).status_code for hook in hooks]

    async def turn(**more: Any) -> Any:
        wish = {"accountId": global_id("SendingAccount", hooks[0].account.id), **more}
        return (await admin(rotate, input=wish))["rotateWebhookSecret"]

    assert await statuses() == [200, 401, 401]
    answer = await turn(secret=hooks[1].key.public_key)
    assert answer["errors"] == []
    assert answer["account"] == {"health": {"signatureFailures": 0}}
    assert answer["webhookUrl"].startswith("http://carepost.example/base/webhooks/sendgrid/")
    assert await statuses() == [200, 200, 401]
    await turn(secret=hooks[2].key.public_key)
    assert await statuses() == [401, 200, 200]
    await turn(secret=hooks[2].key.public_key, keepOld=False)
    assert await statuses() == [401, 401, 200]
    assert (await turn())["errors"] == [{"field": "secret", "code": "REQUIRED"}]
    assert (await turn(secret="junk"))["errors"] == [{"field": "secret", "code": "INVALID_VALUE"}]
    assert await statuses() == [401, 401, 200]


async def test_a_password_of_our_own_making_stands_in_the_url_shown_once(
    stack: Stack, practice: Practice, http: httpx2.AsyncClient
) -> None:
    api = await stack.api()
    admin = await stack.client(api, practice, Role.ADMIN)
    created = await admin(
        """mutation { createSendingAccount(input: { kind: ESP, provider: "postmark", name: "Letters",
          fromAddress: "hello@northgate.example", credentials: [{name: "server_token", value: "abc"}] }) {
            account { id webhookUrl } webhookUrl errors { code } } }"""
    )
    payload = created["createSendingAccount"]
    assert payload["errors"] == []
    shown = httpx2.URL(payload["webhookUrl"])
    assert shown.username == "carepost"
    assert len(shown.password) >= 32
    assert payload["account"]["webhookUrl"] == str(shown.copy_with(userinfo=b""))

    async def post(url: httpx2.URL) -> int:
        return (await http.post(f"{api}{url.path}", content=b"{}", auth=(url.username, url.password))).status_code

    assert await post(shown) == 200
    rotated = await admin(
        """mutation ($id: ID!) { rotateWebhookSecret(input: {accountId: $id, keepOld: false}) { webhookUrl } }""",
        id=payload["account"]["id"],
    )
    assert [await post(shown), await post(httpx2.URL(rotated["rotateWebhookSecret"]["webhookUrl"]))] == [401, 200]


async def test_50_identical_webhooks_at_once_are_kept_and_count_once(
    stack: Stack, practice: Practice, http: httpx2.AsyncClient, applier: Applier
) -> None:
    api = await stack.api()
    hook = await sendgrid_hook(stack, practice, api)
    patient = await make_patient(stack.database, practice)
    message = await make_message(stack.database, practice, patient, hook.account)
    body = orjson.dumps([sendgrid_event("delivered", message), sendgrid_event("open", message, sg_message_id="sg-1")])
    headers = hook.headers(body)
    answers = await asyncio.gather(*(http.post(hook.url, content=body, headers=headers) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    await asyncio.gather(*(applier.apply_pending() for _ in range(3)))
    assert await stored(stack, practice) == [("applied", body)] * 50
    client = await stack.client(api, practice)
    found = (await client(MESSAGE, id=global_id("Message", message)))["message"]
    assert found["status"] == "OPENED"
    assert sorted(event["kind"] for event in found["events"]["nodes"]) == ["DELIVERED", "OPENED"]
