"""The protocol graphql-transport-ws, spoken with the `websockets` library."""

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.support.stack import until

PATIENCE = 20.0
CHANGED = """subscription ($patientId: ID, $messageIds: [ID!], $since: String) {
  messageStatusChanged(patientId: $patientId, messageIds: $messageIds, since: $since) {
    message { id status } cursor
  }
}"""


def socket_url(api_url: str) -> str:
    return api_url.replace("http://", "ws://") + "/graphql"


@contextlib.asynccontextmanager
async def plain_socket(
    api_url: str, *, protocol: str = "graphql-transport-ws", **options: Any
) -> AsyncIterator[ClientConnection]:
    """A socket on which nothing was said yet."""
    async with connect(socket_url(api_url), subprotocols=[Subprotocol(protocol)], **options) as socket:
        yield socket


async def closing_of(socket: ClientConnection) -> tuple[int, str]:
    """Code and reason with which the server closes, whatever it says before."""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await socket.recv()
    assert socket.close_code is not None
    return socket.close_code, socket.close_reason or ""


async def say(socket: ClientConnection, message: Any) -> None:
    await socket.send(json.dumps(message))


async def hear(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        message: dict[str, Any] = json.loads(await socket.recv())
    return message


async def sign_in(socket: ClientConnection, token: str) -> None:
    await say(socket, {"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}})
    assert await hear(socket) == {"type": "connection_ack"}


class LiveClient:
    """A signed-in socket with any number of operations, each with its own queue of answers."""

    def __init__(self, api_url: str, token: str) -> None:
        self._api_url = api_url
        self._token = token
        self._numbers = itertools.count(1)
        self._answers: dict[str, asyncio.Queue[dict[str, Any]]] = {}

    async def __aenter__(self) -> Self:
        self.socket = await connect(
            socket_url(self._api_url), subprotocols=[Subprotocol("graphql-transport-ws")], max_queue=None
        )
        await sign_in(self.socket, self._token)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self.socket.close()

    async def start(self, query: str, **variables: Any) -> str:
        """Starts an operation; gives its id."""
        operation = str(next(self._numbers))
        self._answers[operation] = asyncio.Queue()
        payload = {"query": query, "variables": variables}
        await say(self.socket, {"id": operation, "type": "subscribe", "payload": payload})
        return operation

    async def watch(self, **variables: Any) -> str:
        """Starts messageStatusChanged. Without `since` it begins with the moment in which the server takes it up, which
        has come when this returns."""
        before = await self._subscribers()
        operation = await self.start(CHANGED, **variables)
        if variables.get("since") is None:

            async def begun() -> bool:
                return await self._subscribers() > before

            await until(begun)
        return operation

    async def _subscribers(self) -> float:
        async with httpx2.AsyncClient(base_url=self._api_url, trust_env=False) as http:
            metrics = (await http.get("/metrics")).text
        return float(re.findall(r"^carepost_live_subscribers (\S+)$", metrics, re.MULTILINE)[0])

    async def settle(self) -> None:
        """Waits until the server has begun all that was asked for: messages are handled in order."""
        asked = await self.start("{ viewer { subject } }")
        assert (await self.answer(asked))["type"] == "next"

    async def answer(self, operation: str, within: float = PATIENCE) -> dict[str, Any]:
        """The next message for an operation."""
        async with asyncio.timeout(within):
            return await self._answers[operation].get()

    async def change(self, operation: str, within: float = PATIENCE) -> dict[str, Any]:
        """The next change that messageStatusChanged tells: {message, cursor}."""
        answer = await self.answer(operation, within)
        assert answer["type"] == "next", answer
        assert "errors" not in answer["payload"], answer
        change: dict[str, Any] = answer["payload"]["data"]["messageStatusChanged"]
        return change

    def waiting(self, operation: str) -> int:
        """How many answers wait to be taken."""
        return self._answers[operation].qsize()

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self.socket:
                message = json.loads(text)
                if "id" in message:
                    self._answers[message["id"]].put_nowait(message)
