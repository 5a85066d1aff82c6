"""What the tests of sending have in common: a message is sent, and what became of it is read as a front-end would."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2

from api.graphql.ids import global_id
from db.accounts import Account
from db.patients import Patient
from db.practices import Practice
from mail.ids import MessageId
from mail.message import Address, Email
from mail.status import AccountKind
from tests.support.practice import make_account, make_message, make_patient
from tests.support.stack import GraphQLClient, Stack, until

READ = """query ($id: ID!) { message(id: $id) {
  status explanation { code text } failure { kind smtpCode enhancedCode reason }
  queuedAt sentAt events(first: 100) { nodes { kind source detail failure { kind smtpCode enhancedCode reason } } }
} }"""
OFTEN = timedelta(seconds=0.1)
"""Between the sweeper's rounds, where a test doesn't enqueue."""


def an_email(recipient: str = "pat@mail.example") -> Email:
    """For those who hand it to a transport by themselves."""
    return Email(
        id=MessageId(uuid4()),
        sender=Address("hello@northgate.example"),
        recipient=Address(recipient),
        subject="Your results",
        text="Please call us.",
        date=datetime.now(UTC),
    )


class Desk:
    """A practice with one patient, seen through the API, while a worker works."""

    def __init__(self, stack: Stack, practice: Practice, client: GraphQLClient) -> None:
        self.stack = stack
        self.practice = practice
        self.client = client

    @classmethod
    async def open(cls, stack: Stack, practice: Practice) -> "Desk":
        return cls(stack, practice, await stack.client(await stack.api(), practice))

    async def account(self, kind: AccountKind, **credentials: str) -> Account:
        return await make_account(self.stack.database, self.practice, kind, credentials=credentials)

    async def write(self, account: Account, to: str = "pat@mail.example", **more: Any) -> str:
        """Queues a message to a patient of this address; gives its id in the database, as text."""
        patient: Patient = await make_patient(self.stack.database, self.practice, to, more.pop("name", "Pat Example"))
        return str(await make_message(self.stack.database, self.practice, patient, account, **more))

    async def read(self, message_id: str | MessageId) -> dict[str, Any]:
        message: dict[str, Any] = (await self.client(READ, id=global_id("Message", str(message_id))))["message"]
        return message

    async def reaches(self, message_id: str, status: str) -> dict[str, Any]:
        return await self.when(message_id, lambda message: message["status"] == status)

    async def explained(self, message_id: str, code: str) -> dict[str, Any]:
        return await self.when(message_id, lambda message: message["explanation"]["code"] == code)

    async def when(self, message_id: str, right: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The message once it is right."""
        message: dict[str, Any] = {}

        async def look() -> bool:
            message.update(await self.read(message_id))
            return right(message)

        try:
            await until(look)
        except TimeoutError:
            raise AssertionError(f"it stayed {message}") from None
        return message


def kinds(message: Mapping[str, Any]) -> list[str]:
    """The kinds of a message's evidence, oldest first."""
    return [event["kind"] for event in message["events"]["nodes"]]


async def received(server: Any, to: str | None = None) -> list[dict[str, Any]]:
    """What the sandbox mail server took."""
    async with httpx2.AsyncClient(base_url=server.http_url) as client:
        answer = await client.get("/messages", params={"to": to} if to else None)
        found: list[dict[str, Any]] = answer.raise_for_status().json()
        return found


async def faults(esp_url: str, *coming: dict[str, Any]) -> None:
    """What goes wrong with the next sends through the sandbox ESP."""
    async with httpx2.AsyncClient(base_url=esp_url) as client:
        for fault in coming:
            (await client.post("/_faults", json=fault)).raise_for_status()


async def accepted(esp_url: str) -> list[dict[str, Any]]:
    """What the sandbox ESP accepted."""
    async with httpx2.AsyncClient(base_url=esp_url) as client:
        found: list[dict[str, Any]] = (await client.get("/messages")).raise_for_status().json()
        return found


@dataclass
class Relay:
    """A door in front of a server, which counts who comes in and can shut the connections behind them."""

    port: int = 0
    opened: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def cut(self) -> None:
        """Ends every connection, as a server does with idle ones."""
        for writer in list(self._writers):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def relay(port: int) -> AsyncIterator[Relay]:
    """A relay in front of a port of this machine."""
    door = Relay()
    passing: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        door.opened += 1
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        mine = {writer, there_writer}
        door._writers |= mine
        for pair in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(pump(*pair))
            passing.add(task)
            task.add_done_callback(passing.discard)

    server = await asyncio.start_server(enter, "127.0.0.1", 0)
    door.port = server.sockets[0].getsockname()[1]
    try:
        yield door
    finally:
        server.close()
        await door.cut()
        if passing:
            await asyncio.wait(passing, timeout=5)
