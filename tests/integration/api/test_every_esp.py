"""Every ESP, over the wire in both directions: mutation, the documented request, signed webhooks, status."""

import base64
import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.graphql.ids import uuid_of
from api.roles import Role
from db.practices import Practice
from mail.ids import MessageId
from mail.message import Address
from mail.providers.base import HttpRequest, Proof, Provider
from tests.support.providers.sample import EMAIL, Sample
from tests.support.providers.samples import SAMPLES, each_provider
from tests.support.stack import GraphQLClient, Stack, serving_app, until

CREATE = """mutation ($input: CreateSendingAccountInput!) { createSendingAccount(input: $input) {
  account { id } webhookUrl errors { field message code } } }"""
PATIENT = """mutation { createPatient(input: {name: "Ada \\"Countess\\" Lovelace", email: "ada@patient.example",
  openTracking: true}) { patient { id } errors { code } } }"""
SEND = (
    """mutation ($input: SendMessageInput!) { sendMessage(input: $input) { message { id } errors { field code } } }"""
)
READ = """query ($id: ID!) { message(id: $id) { status queuedAt explanation { code }
  events(first: 100) { nodes { kind occurredAt source machine detail failure { kind smtpCode enhancedCode } } } } }"""


@dataclass
class Vendor:
    """A stand-in for an ESP's cloud: takes what comes, answers as documented, serves a certificate where it has one."""

    sample: Sample
    url: str
    requests: list[HttpRequest]


@contextlib.asynccontextmanager
async def vendor(sample: Sample) -> AsyncIterator[Vendor]:
    requests: list[HttpRequest] = []

    async def answer(request: Request) -> Response:
        path = request.url.path
        if sample.certificate_url and path == urlsplit(sample.certificate_url).path:
            return Response(sample.certificate)
        headers = {name.lower(): value for name, value in request.headers.items()}
        query = f"?{request.url.query}" if request.url.query else ""
        requests.append(HttpRequest(request.method, path + query, headers, await request.body()))
        return Response(sample.accepted.body, sample.accepted.status, dict(sample.accepted.headers))

    async with serving_app(Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST", "PUT"])])) as url:
        yield Vendor(sample, url, requests)


@dataclass
class Clinic:
    """A practice with an account of one ESP; `secret` proves its webhooks, `hook` is where they go."""

    stack: Stack
    practice: Practice
    api: str
    client: GraphQLClient
    account_id: str
    secret: str
    hook: str
    sample: Sample
    vendor: Vendor

    async def post(self, body: bytes, *, secret: str | None = None, hook: str | None = None) -> int:
        """Posts a document as the ESP would; gives the status."""
        request = self.sample.request(body, secret or self.secret, hook or self.hook)
        return await self.deliver(request.body, request.headers, hook)

    async def deliver(self, body: bytes, headers: Mapping[str, str], hook: str | None = None) -> int:
        url = self.api + urlsplit(hook or self.hook).path
        response = await self.client.http.post(url, content=body, headers=dict(headers))
        return response.status_code

    async def all_read(self) -> bool:
        """Whether no webhook waits any more."""
        async with self.stack.database.tenant(self.practice.id) as connection:
            read: bool = await connection.fetchval(
                "SELECT NOT EXISTS (SELECT FROM webhook_delivery WHERE state = 'pending')"
            )
        return read

    async def send(self, subject: str) -> tuple[str, MessageId]:
        patient = (await self.client(PATIENT))["createPatient"]["patient"]["id"]
        wish = {
            "patientId": patient,
            "accountId": self.account_id,
            "subject": subject,
            "text": EMAIL.text,
            "html": EMAIL.html,
        }
        sent = (await self.client(SEND, input=wish))["sendMessage"]
        assert sent["errors"] == []
        key = uuid_of("Message", sent["message"]["id"])
        assert key is not None
        return sent["message"]["id"], MessageId(key)

    async def read(self, message: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.client(READ, id=message))["message"]
        return found

    async def reaches(self, message: str, status: str, events: int = 0) -> dict[str, Any]:
        async def there() -> dict[str, Any] | None:
            found = await self.read(message)
            return found if found["status"] == status and len(found["events"]["nodes"]) >= events else None

        try:
            found: dict[str, Any] = await until(there)
        except TimeoutError:
            raise AssertionError(f"it stayed {await self.read(message)}") from None
        return found


async def open_account(stack: Stack, practice: Practice, each: Provider, there: Vendor, api: str) -> Clinic:
    """An account set up as an administrator does it."""
    sample = SAMPLES[each.name]
    admin = await stack.client(api, practice, Role.ADMIN)
    credentials = {**sample.credentials, "base_url": there.url}
    secret = None if each.generates_webhook_secret else sample.secret
    answer = (
        await admin(
            CREATE,
            input={
                "kind": "ESP",
                "provider": each.name,
                "name": each.label,
                "fromAddress": EMAIL.sender.email,
                "fromName": EMAIL.sender.name,
                "replyTo": EMAIL.reply_to.email if EMAIL.reply_to else None,
                "credentials": [{"name": name, "value": value} for name, value in credentials.items()],
                "webhookSecret": secret,
            },
        )
    )["createSendingAccount"]
    assert answer["errors"] == []
    url = httpx2.URL(answer["webhookUrl"])
    if secret is None:
        secret = f"{url.username}:{url.password}"
    hook = str(url.copy_with(userinfo=b""))
    return Clinic(stack, practice, api, admin, answer["account"]["id"], secret, hook, sample, there)


@pytest.fixture
async def clinic(stack: Stack, practice: Practice, each: Provider) -> AsyncIterator[Clinic]:
    async with vendor(SAMPLES[each.name]) as there:
        api = await stack.api(sns_url=there.url)
        yield await open_account(stack, practice, each, there, api)


async def stored(stack: Stack, practice: Practice) -> int:
    async with stack.database.tenant(practice.id) as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM webhook_delivery")
        return count


@each_provider
async def test_an_email_goes_out_as_documented_and_its_webhooks_make_its_status(
    stack: Stack, practice: Practice, each: Provider, clinic: Clinic
) -> None:
    sample = clinic.sample
    await stack.worker(sns_url=clinic.vendor.url)
    message, key = await clinic.send(EMAIL.subject)
    sent = await clinic.reaches(message, "SENT")
    documented = urlsplit(each.send_request(EMAIL, sample.credentials).url)
    # The worker may have asked there whether the key is taken, too.
    [request] = [each for each in clinic.vendor.requests if urlsplit(each.url).path == documented.path]
    email = replace(
        EMAIL,
        id=key,
        recipient=Address("ada@patient.example", 'Ada "Countess" Lovelace'),
        reply_to=Address(EMAIL.reply_to.email) if EMAIL.reply_to else None,
    )
    # The host is the stand-in's; all else is as it went over the wire.
    sample.assert_documented(replace(request, url=f"{documented.scheme}://{documented.netloc}{request.url}"), email)
    assert [event["kind"] for event in sent["events"]["nodes"]] == ["ACCEPTED"]
    for body, status in sample.life(key, sample.provider_message_id or "id-1", 1):
        assert await clinic.post(body) == 200
        await clinic.reaches(message, status)


@each_provider
async def test_the_same_events_three_times_and_shuffled_end_the_same(
    stack: Stack, practice: Practice, other_practice: Practice, each: Provider, clinic: Clinic
) -> None:
    other = await open_account(stack, other_practice, each, clinic.vendor, clinic.api)
    await stack.worker(sns_url=clinic.vendor.url)
    ends = []
    for house, repeats in ((clinic, 1), (other, 3)):
        message, key = await house.send(EMAIL.subject)
        await house.reaches(message, "SENT")
        life = house.sample.life(key, house.sample.provider_message_id or "id-1", 1)
        bodies = [body for body, _ in life] * repeats
        if repeats > 1:
            random.Random(7).shuffle(bodies)
        for body in bodies:
            assert await house.post(body) == 200
        await house.reaches(message, life[-1][1], events=1 + len(life))
        await until(house.all_read)
        found = await house.read(message)
        events = [event for event in found["events"]["nodes"] if event["source"] == "WEBHOOK"]
        ends.append((found["status"], found["explanation"], events))
    assert ends[0] == ends[1]


@each_provider
async def test_what_is_forged_tampered_or_another_accounts_is_refused_and_leaves_no_row(
    stack: Stack, practice: Practice, other_practice: Practice, each: Provider, clinic: Clinic
) -> None:
    sample = clinic.sample
    neighbour = await open_account(stack, other_practice, each, clinic.vendor, clinic.api)
    body = sample.life(MessageId(EMAIL.id), sample.provider_message_id or "id-1", 1)[0][0]
    proven = sample.request(body, clinic.secret, clinic.hook)
    forged: dict[str, tuple[bytes, Mapping[str, str]]] = {
        "no proof at all": (body, {}),
        "beyond ASCII": (body, dict.fromkeys(proven.headers, "é")),
    }
    if each.capabilities.proof is Proof.PASSWORD:
        wrong = base64.b64encode(b"carepost:guessed").decode()
        forged["a guessed password"] = (body, {"authorization": f"Basic {wrong}"})
    else:
        other = sample.request(body, sample.other_secret, clinic.hook)
        forged["another account's key"] = (other.body, other.headers)
    if sample.covers_body:
        tampered = proven.body.replace(b"patient.example", b"patient.exomple", 1)
        if tampered == proven.body:
            tampered = proven.body.replace(b"e", b"3", 1)
        forged["tampered"] = (tampered, proven.headers)
        forged["cut short"] = (proven.body[:-2], proven.headers)
    for name, (sent, headers) in forged.items():
        encoded = {key: value.encode("latin-1") for key, value in headers.items()}
        assert await clinic.deliver(sent, encoded) == 401, name  # type: ignore[arg-type]
    assert await stored(stack, practice) == 0
    if each.capabilities.proof is Proof.PASSWORD:
        assert await neighbour.deliver(proven.body, proven.headers) == 401
        assert await stored(stack, other_practice) == 0
    assert await clinic.deliver(proven.body, proven.headers) == 200
    assert await stored(stack, practice) == 1


@each_provider
async def test_a_probe_finds_the_address_and_leaves_nothing(
    stack: Stack, practice: Practice, each: Provider, clinic: Clinic
) -> None:
    url = clinic.api + urlsplit(clinic.hook).path
    for method in each.probe_methods:
        assert (await clinic.client.http.request(method, url)).status_code == 200
    assert (await clinic.client.http.put(url)).status_code == 405
    longest = b" " * each.webhook_bytes
    assert (await clinic.client.http.post(url, content=longest)).status_code == 401  # read whole, and not proven
    assert (await clinic.client.http.post(url, content=longest + b" ")).status_code == 413
    assert await stored(stack, practice) == 0
