"""Heads of requests that are too long, too slow or no HTTP: whoever sends them costs a bounded amount of memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest

from carepost.protocols import Http
from tests.support.raw import connection, live
from tests.support.stack import serving_app

READ = 1 << 18
"""The most that one read brings."""
MUCH = 50 << 20


class Hasty(Http):
    """Keeps what it was last."""

    head_seconds = 0.2
    last: "Hasty"

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        Hasty.last = self


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Reads the whole body and answers with its length; /never it begins to answer and doesn't end."""
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    if scope["path"] == "/never":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()
    length = 0
    while True:
        message = await receive()
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serving_app(echo, Hasty) as url:
        yield url


async def pour(writer: asyncio.StreamWriter, piece: bytes) -> int:
    """Writes until the server has had enough; how much it took."""
    poured = 0
    with contextlib.suppress(OSError):
        while poured < MUCH:
            writer.write(piece)
            await writer.drain()
            poured += len(piece)
    return poured


async def answered(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """Status and code; the connection has ended after it."""
    text = await reader.read()
    head, _, body = text.partition(b"\r\n\r\n")
    return head.split()[1], orjson.loads(body)["errors"][0]["extensions"]["code"]


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET /", b"a" * 4096),
        (b"GET / HTTP/1.1\r\nX-A: ", b"a" * 4096),
        (b"GET / HTTP/1.1\r\nX-A", b"a" * 4096),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-Something: of little use\r\n" * 200),
    ],
    ids=["a URL", "a header", "a header's name", "headers"],
)
async def test_a_head_without_end_is_refused(url: str, begin: bytes, piece: bytes) -> None:
    async with connection(url) as (reader, writer):
        writer.write(begin + piece * (Hasty.head_bytes // len(piece) + 1))
        assert await answered(reader) == (b"431", "REQUEST_TOO_LARGE")
    async with connection(url) as (_, writer):
        writer.write(begin)
        # What the system takes for a connection is no memory of ours.
        assert await pour(writer, piece) < MUCH
        assert Hasty.last._pending <= Hasty.head_bytes + READ


async def test_trailers_without_end_end_the_connection(url: str) -> None:
    async with connection(url) as (_, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n")
        assert await pour(writer, b"X-Something: of little use\r\n" * 200) < MUCH
        assert Hasty.last._pending <= Hasty.head_bytes + READ


async def test_a_head_that_does_not_end_in_time_is_given_up(url: str) -> None:
    async with connection(url) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost")
        assert await answered(reader) == (b"408", "REQUEST_TIMEOUT")
    async with connection(url) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"200"
        await reader.readuntil(b"0\r\n\r\n")
        # The next one on the same connection.
        writer.write(b"GET / HTTP/1.1\r\nHo")
        assert await answered(reader) == (b"408", "REQUEST_TIMEOUT")


async def test_what_is_refused_while_an_answer_is_written_is_not_written_into_it(url: str) -> None:
    async with connection(url) as (reader, writer):
        writer.write(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.write(b"GET / HTTP/1.1\r\nHo")
        assert await reader.read() == b""


async def test_who_connects_and_says_nothing_is_let_go(url: str) -> None:
    async with connection(url) as (reader, _):
        assert await reader.read() == b""


async def test_heads_and_bodies_that_come_in_pieces_are_served(url: str) -> None:
    head = b"POST /?" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"3\r\nabc\r\n" * 3 + b"0\r\nX-Trailer: 1\r\n\r\n"
    async with connection(url) as (reader, writer):
        for _ in range(2):
            whole = head + body
            for start in range(0, len(whole), 30_000 if len(whole) > 30_000 else 1):
                writer.write(whole[start : start + 30_000])
                await writer.drain()
            assert (await reader.readuntil(b"0\r\n\r\n")).split()[1] == b"200"
    async with connection(url) as (reader, writer):
        whole = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body
        for place in range(len(whole)):
            writer.write(whole[place : place + 1])
            await writer.drain()
        assert b"9" in await reader.readuntil(b"0\r\n\r\n")
    # A body may be slower than a head: how slow, the application says.
    async with connection(url) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        begun = Hasty.last
        await asyncio.sleep(2 * Hasty.head_seconds)
        assert not begun.transport.is_closing()
        writer.write(b"b")
        assert b"2" in await reader.readuntil(b"0\r\n\r\n")


async def test_many_requests_of_one_client_are_served(url: str) -> None:
    async with httpx2.AsyncClient(base_url=url) as http:
        answers = await asyncio.gather(*(http.post("/", content=b"a" * n) for n in range(0, 300_000, 10_000)))
        assert [int(answer.text) for answer in answers] == list(range(0, 300_000, 10_000))
