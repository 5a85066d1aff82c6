import asyncio
import base64
import json
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from carepost.sandbox import esp, process
from carepost.sandbox.esp import EspOptions

DEADLINE = 10.0


class Receiver:
    """A webhook endpoint that keeps what was posted and answers as it is told, else 200."""

    def __init__(self) -> None:
        self.url = ""
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self._about: re.Pattern[bytes] = re.compile(b"")
        self._changed = asyncio.Condition()

    async def endpoint(self, request: Request) -> Response:
        body = await request.body()
        async with self._changed:
            self.posts.append((dict(request.headers), body))
            self._changed.notify_all()
        return Response(status_code=self.answers.pop(0) if self.answers and self._about.search(body) else 200)

    def answers_to(self, about: bytes, answers: list[int]) -> None:
        """Answers the next POSTs about something like this."""
        self._about, self.answers = re.compile(about), list(answers)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits until it holds, and fails after the deadline."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(holds)

    @property
    def events(self) -> list[dict]:
        return [event for _, body in self.posts for event in json.loads(body)]

    def of(self, email: str) -> list[dict]:
        """The events of an address, each once, in the order of their first POST."""
        found: dict[str, dict] = {}
        for event in self.events:
            if event["email"] == email:
                found.setdefault(event["sg_event_id"], event)
        return list(found.values())

    def kinds(self, email: str) -> Counter[str]:
        return Counter(event["event"] for event in self.of(email))

    def by_message(self) -> dict[str, list[dict]]:
        grouped = defaultdict(list)
        for event in self.events:
            grouped[event["sg_message_id"].partition(".")[0]].append(event)
        return grouped


class Esp:
    """A running sandbox ESP and one who calls it."""

    def __init__(self, url: str, client: httpx2.AsyncClient) -> None:
        self.url = url
        self.client = client

    async def send(self, to: str, *, key: str = "SG.one", **more: object) -> httpx2.Response:
        return await self.client.post("/v3/mail/send", json=email_to(to, **more), headers=bearer(key))

    async def configure(self, url: str, *, key: str = "SG.one") -> str:
        """Points the webhook of a key at a URL, signed; returns the public key."""
        settings = "/v3/user/webhooks/event/settings"
        answer = await self.client.patch(settings, json={"url": url, "enabled": True}, headers=bearer(key))
        assert answer.status_code == 200
        answer = await self.client.patch(f"{settings}/signed", json={"enabled": True}, headers=bearer(key))
        return answer.json()["public_key"]

    async def messages(self, to: str) -> list[dict]:
        return (await self.client.get("/messages", params={"to": to})).json()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def email_to(to: str, **more: object) -> dict[str, object]:
    return {
        "personalizations": [{"to": [{"email": to, "name": "Pat"}], "custom_args": {"carepost_id": "m-1"}}],
        "from": {"email": "desk@practice.example"},
        "subject": "Your appointment",
        "content": [{"type": "text/plain", "value": "Tuesday"}, {"type": "text/html", "value": "<p>Tuesday</p>"}],
        **more,
    }


def verify(public_key: str, headers: dict[str, str], body: bytes) -> None:
    """Raises InvalidSignature, the way a consumer of SendGrid's would."""
    key = serialization.load_der_public_key(base64.b64decode(public_key))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    signature = base64.b64decode(headers["x-twilio-email-event-webhook-signature"])
    timestamp = headers["x-twilio-email-event-webhook-timestamp"].encode()
    key.verify(signature, timestamp + body, ec.ECDSA(hashes.SHA256()))


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = Starlette(routes=[Route("/hook", receiver.endpoint, methods=["POST"])])
    async with process.serving(app, "127.0.0.1", 0) as url:
        receiver.url = f"{url}/hook"
        yield receiver


@asynccontextmanager
async def running_esp(**options: object) -> AsyncIterator[Esp]:
    """A fast one: everything happens in a third of a second."""
    given = {"api_keys": ("SG.one", "SG.two"), "seed": "7", "max_delay": 0.3, **options}
    async with (
        esp.running(EspOptions(**given)) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False, verify=False, timeout=DEADLINE) as client,
    ):
        yield Esp(url, client)


@pytest.fixture
async def sandbox() -> AsyncIterator[Esp]:
    async with running_esp() as running:
        yield running


@pytest.fixture
def start_esp() -> Callable[..., object]:
    return running_esp


@pytest.fixture
def verify_signature() -> Callable[..., None]:
    return verify
