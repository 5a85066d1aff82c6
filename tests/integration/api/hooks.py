"""Webhooks as an ESP posts them."""

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx2
import orjson

from api.addresses import webhook_url
from carepost.sandbox.vendors.sendgrid.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, SigningKey
from db.accounts import Account
from db.practices import Practice
from mail.ids import MessageId
from tests.support.practice import make_account
from tests.support.stack import Stack

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class SendGridHook:
    """An account whose webhooks we sign."""

    account: Account
    url: str
    key: SigningKey = field(repr=False)

    def headers(self, body: bytes, timestamp: str = "1588788367") -> dict[str, str]:
        return {SIGNATURE_HEADER: self.key.sign(timestamp, body), TIMESTAMP_HEADER: timestamp}

    async def post(self, http: httpx2.AsyncClient, events: Any) -> int:
        """Posts events, or a body of bytes as it is; gives the status."""
        body = events if isinstance(events, bytes) else orjson.dumps(events)
        response = await http.post(self.url, content=body, headers=self.headers(body))
        return response.status_code


async def sendgrid_hook(stack: Stack, practice: Practice, api_url: str) -> SendGridHook:
    key = SigningKey.generate()
    account = await make_account(stack.database, practice, secrets=[key.public_key])
    return SendGridHook(account, webhook_url(api_url, "sendgrid", practice.id, account.id), key)


@dataclass(frozen=True)
class PostmarkHook:
    account: Account
    url: str
    secret: str

    def headers(self, secret: str | None = None) -> dict[str, str]:
        return {"authorization": "Basic " + base64.b64encode((secret or self.secret).encode()).decode()}


async def postmark_hook(stack: Stack, practice: Practice, api_url: str) -> PostmarkHook:
    secret = "carepost:8Zk2vQzT"
    account = await make_account(
        stack.database, practice, provider="postmark", credentials={"server_token": "x"}, secrets=[secret]
    )
    return PostmarkHook(account, webhook_url(api_url, "postmark", practice.id, account.id), secret)


def sendgrid_event(
    name: str, message_id: MessageId | None = None, *, at: datetime = NOON, sg_message_id: str = "sg-1", **more: Any
) -> dict[str, Any]:
    event = {
        "event": name,
        "email": "pat@mail.example",
        "timestamp": int(at.timestamp()),
        "sg_message_id": f"{sg_message_id}.filter001",
        **more,
    }
    return event if message_id is None else {**event, "carepost_message_id": str(message_id)}


def postmark_delivery(message_id: MessageId, *, at: str = "2026-03-02T12:00:00Z") -> dict[str, Any]:
    return {
        "RecordType": "Delivery",
        "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483",
        "Recipient": "pat@mail.example",
        "DeliveredAt": at,
        "Details": "Test",
        "Metadata": {"carepost_message_id": str(message_id)},
    }
