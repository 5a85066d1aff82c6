"""Amazon SNS is no way out: nothing is fetched unless it is SNS itself that we are sent to, for a topic of ours."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.addresses import webhook_url
from db.practices import Practice
from tests.support.practice import make_account
from tests.support.providers import sns
from tests.support.providers.amazon_ses import CERTIFICATE_URL, KEY_NAME, SAMPLE, TOPIC
from tests.support.stack import Stack, serving_app, until


@dataclass
class Listener:
    """Somebody who waits for a visit."""

    port: int
    visits: int = 0


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    found = Listener(0)

    async def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.visits += 1
        writer.close()

    server = await asyncio.start_server(come, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found


@asynccontextmanager
async def sns_itself(asked: list[tuple[str, dict[str, list[str]]]]) -> AsyncIterator[str]:
    async def answer(request: Request) -> Response:
        asked.append((request.url.path, parse_qs((await request.body()).decode())))
        return Response(SAMPLE.certificate if request.url.path.endswith(".pem") else b"<ConfirmSubscriptionResponse/>")

    async with serving_app(Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])) as url:
        yield url


def confirmation(subscribe_url: str, certificate_url: str = CERTIFICATE_URL, topic: str = TOPIC) -> bytes:
    """ "Parsing Amazon SNS message formats": a SubscriptionConfirmation, signed as SNS does."""
    envelope = {
        "Type": "SubscriptionConfirmation",
        "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "Token": "2336412f37fb687f5d51e6e241d09c80",
        "TopicArn": topic,
        "Message": "You have chosen to subscribe to the topic.",
        "SubscribeURL": subscribe_url,
        "Timestamp": "2026-03-01T09:00:00.000Z",
        "SignatureVersion": "2",
        "SigningCertURL": certificate_url,
    }
    return json.dumps({**envelope, "Signature": sns.sign(envelope, sns.key(KEY_NAME), "2")}).encode()


@pytest.fixture
async def hook(practice: Practice, stack: Stack) -> str:
    account = await make_account(
        stack.database, practice, provider="amazon_ses", credentials=dict(SAMPLE.credentials), secrets=[TOPIC]
    )
    return urlsplit(webhook_url("http://carepost.example", "amazon_ses", practice.id, account.id)).path


async def post(url: str, body: bytes) -> int:
    async with httpx2.AsyncClient(timeout=10) as client:
        return (await client.post(url, content=body, headers=dict(SAMPLE.sign(body, TOPIC)))).status_code


async def test_a_certificate_from_anywhere_else_or_for_another_topic_is_not_fetched(stack: Stack, hook: str) -> None:
    asked: list[tuple[str, dict[str, list[str]]]] = []
    async with listening() as stranger, sns_itself(asked) as sns_url:
        api = await stack.api(sns_url=sns_url)
        path = "/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem"
        here = f"127.0.0.1:{stranger.port}"
        for url in (
            f"http://{here}{path}",
            f"https://{here}{path}",
            f"https://sns.eu-west-1.amazonaws.com@{here}{path}",
            f"https://{here}\\@sns.eu-west-1.amazonaws.com{path}",
            f"https://{here}/%2e%2e/sns.eu-west-1.amazonaws.com{path}",
            "https://169.254.169.254/latest/meta-data/",
            f"https://sns-eu-west-1.s3.amazonaws.com{path}",
            f"file://{path}",
            "",
        ):
            body = confirmation(CERTIFICATE_URL, certificate_url=url)
            assert await post(api + hook, body) == 401, url
        foreign = confirmation(CERTIFICATE_URL, topic="arn:aws:sns:eu-west-1:999999999999:anybodys")
        assert await post(api + hook, foreign) == 401
        assert stranger.visits == 0
        assert asked == []


async def test_a_subscription_is_confirmed_at_sns_and_not_where_the_webhook_says(stack: Stack, hook: str) -> None:
    asked: list[tuple[str, dict[str, list[str]]]] = []
    async with listening() as stranger, sns_itself(asked) as sns_url:
        api = await stack.api(sns_url=sns_url)
        await stack.worker(sns_url=sns_url)
        assert (
            await post(api + hook, confirmation(f"http://127.0.0.1:{stranger.port}/?Action=ConfirmSubscription")) == 200
        )

        async def confirmed() -> bool:
            return any(path == "/" for path, _ in asked)

        await until(confirmed)
        [fields] = [fields for path, fields in asked if path == "/"]
        assert fields["Action"] == ["ConfirmSubscription"]
        assert fields["TopicArn"] == [TOPIC]
        assert stranger.visits == 0
