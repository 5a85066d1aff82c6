"""What is answered without ASGI is answered as by it, whatever comes before, behind and in which pieces."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.at_once import Answer, Answering, ByTarget, Headers
from carepost.protocols import Http
from tests.support.raw import connection, live
from tests.support.stack import serving_app

LARGE: Final = 1 << 20
HEAD: Final = (203, [(b"content-type", b"text/plain"), (b"x-more", b"1")])


class Watched(Http):
    """Keeps what it was last, how many there were, and how much it has read."""

    hold_seconds = 60.0
    last: "Watched"
    count = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.received = 0
        Watched.last = self
        Watched.count += 1

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.received += len(data)


class Hasty(Watched):
    hold_seconds = 0.05


def answer_to(body: bytes) -> bytes:
    return b"x" * LARGE if body.endswith(b"large") else b"%d: %s" % (len(body), body[-20:])


class App:
    """Tells what it was posted, by ASGI; at once too where the body is empty or begins with "now"."""

    def __init__(self) -> None:
        self.by_asgi = self.begun = self.ended = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.at_once: ByTarget = {b"/now": self.take}.get

    def take(self, headers: Headers, body: bytes) -> Answering | None:
        return partial(self.answer, body) if body.startswith(b"now") or not body else None

    async def answer(self, body: bytes) -> Answer:
        self.begun += 1
        await self.go_on.wait()
        self.ended += 1
        return Answer(*HEAD, answer_to(body))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        self.by_asgi += 1
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        text = answer_to(body) if scope["method"] == "POST" else b"not posted"
        status, headers = HEAD
        headers = [(b"content-length", str(len(text)).encode()), *headers]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, once it is the server's last."""
    before = Watched.count
    async with connection(url) as both:
        while Watched.count == before:
            await asyncio.sleep(0)
        yield both


async def until_read(length: int) -> None:
    while Watched.last.received < length:
        await asyncio.sleep(0)


def post(body: bytes, *lines: bytes, path: bytes = b"/now", version: bytes = b"1.1", chunked: bool = False) -> bytes:
    if chunked:
        lines = (*lines, b"Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in (body[:2], body[2:]) if each) + b"0\r\n\r\n"
    else:
        lines = (*lines, b"Content-Length: %d" % len(body))
    return b"\r\n".join([b"POST %s HTTP/%s" % (path, version), b"Host: x", *lines, b"", body])


async def told(url: str, pieces: Sequence[bytes]) -> bytes:
    """All that is answered until the connection ends."""
    async with connected(url) as (reader, writer):
        sent = 0
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
            # A piece is one that the server reads by itself.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    while not Watched.last.transport.is_closing() and Watched.last.received < sent:
                        await asyncio.sleep(0)
        return re.sub(rb"(?i)date: [^\r]*\r\n", b"", await reader.read())


POSTS = st.builds(
    post,
    st.one_of(st.sampled_from([b"", b"now", b"no", b"now large", b"now " + b"a" * 70_000]), st.binary(max_size=9)),
    path=st.sampled_from([b"/now", b"/now", b"/now?", b"/then"]),
    chunked=st.booleans(),
)
GET = b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = st.sampled_from(
    [
        post(b"now", b"Connection: close"),
        post(b"now", version=b"1.0"),
        post(b"now", b"Connection: keep-alive", version=b"1.0"),
        post(b"now", b"Expect: 100-continue", b"Connection: close"),
        post(b"", b"Upgrade: h2c", b"Connection: Upgrade, close"),
        post(b"", b"Upgrade: websocket", b"Connection: Upgrade, close"),
        post(b"no", b"Connection: close", path=b"/then"),
    ]
)


@given(
    requests=st.lists(st.one_of(POSTS, POSTS, st.just(GET)), max_size=6),
    last=LAST,
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
@settings(deadline=None)
async def test_the_answers_are_those_of_asgi(requests: list[bytes], last: bytes, cuts: list[int]) -> None:
    whole = b"".join([*requests, last])
    places = sorted({0, *(cut for cut in cuts if cut < len(whole)), len(whole)})
    pieces = [whole[start:end] for start, end in pairwise(places)]
    app, plain = App(), App()
    plain.at_once = {}.get
    async with serving_app(app, Watched) as one, serving_app(plain, Watched) as other:
        assert await told(one, pieces) == await told(other, pieces)
    assert plain.begun == 0


async def fail() -> Answer:
    raise ValueError("no answer")


@pytest.fixture
async def app() -> App:
    return App()


async def test_one_that_comes_in_pieces_is_answered_at_once_too(app: App) -> None:
    whole = post(b"now")
    async with serving_app(app, Watched) as url, connected(url) as (reader, writer):
        for place in range(len(whole)):
            writer.write(whole[place : place + 1])
            await until_read(place + 1)
        assert (await reader.readuntil(b"3: now")).startswith(b"HTTP/1.1 203 ")
    assert (app.ended, app.by_asgi) == (1, 0)


async def test_a_body_that_does_not_come_is_waited_for_by_the_application(app: App) -> None:
    async with serving_app(app, Hasty) as url, connected(url) as (reader, writer):
        writer.write(post(b"now")[:-1])
        while not app.by_asgi:
            await asyncio.sleep(0.001)
        writer.write(b"w")
        await reader.readuntil(b"3: now")
        # The next one is held again.
        writer.write(post(b"now again"))
        await reader.readuntil(b"9: now again")
    assert (app.ended, app.by_asgi) == (1, 1)


async def test_a_long_body_is_not_kept(app: App) -> None:
    async with serving_app(app, Watched) as url, connected(url) as (reader, writer):
        body = b"now" + b"a" * (2 * Http.hold_bytes)
        writer.write(post(body))
        await reader.readuntil(b"%d: " % len(body))
        assert len(Watched.last._body) < len(body)
    assert (app.ended, app.by_asgi) == (0, 1)


async def test_who_is_gone_before_the_answer_gets_none_and_harms_nobody(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.go_on.clear()
    async with serving_app(app, Watched) as url:
        async with connected(url) as (_, writer):
            writer.write(post(b"now"))
            while not app.begun:
                await asyncio.sleep(0)
        gone = Watched.last
        while gone in gone.connections:
            await asyncio.sleep(0)
        async with connected(url) as (_, writer):
            writer.write(post(b"now") * 3)
            while app.begun < 2:
                await asyncio.sleep(0)
        app.go_on.set()
        async with connected(url) as (reader, writer):
            writer.write(post(b"now"))
            await reader.readuntil(b"3: now")
        assert not gone.cycle.response_complete
    assert app.begun == app.ended
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


async def test_without_an_answer_the_connection_ends(app: App, caplog: pytest.LogCaptureFixture) -> None:
    app.at_once = {b"/now": lambda headers, body: fail}.get
    async with serving_app(app, Watched) as url, connected(url) as (reader, writer):
        writer.write(post(b"now"))
        assert await reader.read() == b""
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_told_to_stop_a_request_that_is_held_is_answered_and_is_the_last(app: App) -> None:
    async with serving_app(app, Watched) as url, connected(url) as (reader, writer):
        writer.write(post(b"now")[:-1])
        await until_read(len(post(b"now")) - 1)
        Watched.last.shutdown()
        writer.write(b"w" + post(b"now"))
        text = await reader.read()
        assert (text.count(b"HTTP/1.1 203"), text.count(b"connection: close")) == (1, 1)


async def test_who_reads_slowly_has_one_answer_made_after_the_other(app: App) -> None:
    async with serving_app(app, Watched) as url, connected(url) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(post(b"now large") * 40)
        await until_read(1)
        # What the system takes for a connection is no memory of ours: some of them go there.
        while not Watched.last.flow.write_paused:
            await asyncio.sleep(0)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert app.ended < 40
        assert Watched.last.transport.get_write_buffer_size() < 2 * LARGE
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        read = 0
        while read < 40 * LARGE:
            read += len(await reader.read(1 << 20))
    assert (app.ended, app.by_asgi) == (40, 0)
