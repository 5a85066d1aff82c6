"""A small stand-in for Postmark's API of messages and bounces, and messages that it was handed a while ago."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.roles import Role
from db.accounts import Account
from db.asking import AccountRef
from db.events import Matched, record_events
from db.patients import Patient
from db.practices import Practice
from mail.event import Event, EventKind, EventSource
from mail.ids import MessageId
from tests.support.practice import make_account, make_message, make_patient
from tests.support.stack import Stack, serving_app

TOKEN = "b3b3b3b3-0000-4000-8000-c3c3c3c3c3c3"
DELIVERED_AT = "2026-03-02T12:00:00.0000000Z"


@dataclass
class Vendor:
    """What it knows of messages by its own ids, and what it was asked, with the time of each request."""

    url: str = ""
    history: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    bounces: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    checked: int = 0
    token: str = TOKEN
    instead: Callable[[], Response] | None = None
    hold: asyncio.Event | None = None

    def _answer(self, request: Request) -> Response | None:
        self.at.append(time.monotonic())
        if self.instead is not None:
            return self.instead()
        if request.headers.get("x-postmark-server-token") != self.token:
            return JSONResponse({"ErrorCode": 10, "Message": "Bad or missing API token."}, 401)
        return None

    async def details(self, request: Request) -> Response:
        key = request.path_params["id"]
        self.asked.append(key)
        if self.hold is not None:
            await self.hold.wait()
        if (answer := self._answer(request)) is not None:
            return answer
        if key not in self.history:
            return JSONResponse({"ErrorCode": 701, "Message": "This message was not found"}, 404)
        return JSONResponse({"MessageID": key, "MessageEvents": self.history[key]})

    async def found_bounces(self, request: Request) -> Response:
        if (answer := self._answer(request)) is not None:
            return answer
        return JSONResponse({"TotalCount": 1, "Bounces": self.bounces.get(request.query_params["messageID"], [])})

    async def server(self, request: Request) -> Response:
        self.checked += 1
        return self._answer(request) or JSONResponse({"Name": "Practice", "TrackOpens": False})

    def delivered(self, key: str, at: str = DELIVERED_AT) -> None:
        details = {"DeliveryMessage": "smtp;250 2.0.0 OK", "DestinationServer": "mx.mail.example"}
        event = {"Recipient": "pat@mail.example", "Type": "Delivered", "ReceivedAt": at, "Details": details}
        self.history.setdefault(key, []).append(event)

    def bounced(self, key: str) -> None:
        event = {"Recipient": "pat@mail.example", "Type": "Bounced", "ReceivedAt": DELIVERED_AT, "Details": {}}
        self.history.setdefault(key, []).append(event)
        self.bounces.setdefault(key, []).append(
            {
                "ID": 692560173,
                "Type": "HardBounce",
                "TypeCode": 1,
                "MessageID": key,
                "Details": "smtp;550 5.1.1 No such user here",
                "Email": "pat@mail.example",
                "BouncedAt": DELIVERED_AT,
                "Inactive": True,
            }
        )


@contextlib.asynccontextmanager
async def vendor() -> AsyncIterator[Vendor]:
    it = Vendor()
    routes = [
        Route("/messages/outbound/{id}/details", it.details),
        Route("/bounces", it.found_bounces),
        Route("/server", it.server),
    ]
    async with serving_app(Starlette(routes=routes)) as url:
        it.url = url
        yield it
        if it.hold is not None:
            it.hold.set()


@dataclass
class Past:
    """A practice whose emails went out some time ago through a stand-in."""

    stack: Stack
    practice: Practice
    account: Account
    patient: Patient

    @classmethod
    async def of(cls, stack: Stack, practice: Practice, it: Vendor) -> "Past":
        account = await make_account(
            stack.database, practice, provider="postmark", credentials={"server_token": TOKEN, "base_url": it.url}
        )
        return cls(stack, practice, account, await make_patient(stack.database, practice))

    @property
    def ref(self) -> AccountRef:
        return AccountRef(self.practice.id, self.account.id, "postmark")

    async def sent(
        self,
        key: str | None,
        ago: timedelta = timedelta(hours=2),
        kinds: Sequence[EventKind] = (EventKind.ACCEPTED,),
    ) -> MessageId:
        """A message that the stand-in took `ago` under its own id."""
        at = datetime.now(UTC) - ago
        message_id = await make_message(self.stack.database, self.practice, self.patient, self.account, at=at)
        async with self.stack.database.tenant(self.practice.id) as connection:
            await connection.execute("UPDATE message SET provider_message_id = $2 WHERE id = $1", message_id, key)
            events = [Event(kind=kind, occurred_at=at, dedupe_key=f"own/{kind.value}") for kind in kinds]
            await record_events(
                connection, self.practice.id, [Matched(message_id, each, EventSource.ATTEMPT, at) for each in events]
            )
        return message_id

    async def row(self, message_id: MessageId) -> Any:
        async with self.stack.database.tenant(self.practice.id) as connection:
            return await connection.fetchrow("SELECT *, now() AS now FROM message WHERE id = $1", message_id)

    async def account_row(self) -> Any:
        async with self.stack.database.tenant(self.practice.id) as connection:
            return await connection.fetchrow(
                "SELECT *, now() AS now FROM sending_account WHERE id = $1", self.account.id
            )

    async def events(self, message_id: MessageId) -> list[tuple[str, str]]:
        """Kind and source of each piece of evidence."""
        async with self.stack.database.tenant(self.practice.id) as connection:
            rows = await connection.fetch(
                "SELECT kind, source FROM message_event WHERE message_id = $1 ORDER BY received_at, kind", message_id
            )
        return [(row["kind"], row["source"]) for row in rows]

    async def health(self, api_url: str, fields: str) -> dict[str, Any]:
        client = await self.stack.client(api_url, self.practice, Role.ADMIN)
        answer = await client(f"{{ sendingAccounts {{ health {{ {fields} }} }} }}")
        health: dict[str, Any] = answer["sendingAccounts"][0]["health"]
        return health
